/*
 * Folds over runs: what measure.c, contacts.c, surface.c and link.c share.
 *
 * A layer is a slice reduced to its runs and a value for each. Two layers,
 * or a layer and itself one row on, are two ascending lists of runs over the
 * same pixels, so that a merge of the two lists meets every pair of
 * neighbouring runs once, whatever lies between.
 */
#ifndef CRACKLE_FOLD_H
#define CRACKLE_FOLD_H

#include "internal.h"

/* The group of a label that takes no part. */
#define CRACKLE_NO_GROUP UINT32_MAX

/*
 * Read slice z, checked, and make it a layer. The value of a run is group[k],
 * k being the place of its label in the table of labels and their number for
 * the background of pins; with 'group' NULL, k itself.
 */
int crackle_layer_read(const struct crackle_stream *stream,
                       struct crackle_workspace *ws, uint32_t z,
                       const uint32_t *group, struct crackle_layer *layer,
                       struct crackle_error *error);

/* The checks that all folds begin with, and room for what they need. */
int crackle_fold_prepare(const struct crackle_stream *stream,
                         struct crackle_workspace *ws, uint32_t z0,
                         uint32_t z1, struct crackle_error *error);

/* Take out of the bitmaps 'left' and 'above' of the slice that was just read
 * to 'layer' the borders between equal values. */
void crackle_drop_borders(struct crackle_workspace *ws,
                          const struct crackle_layer *layer, uint64_t *left,
                          uint64_t *above);

/* A stretch of pixels [begin, end) of one run of each of two layers. */
struct crackle_overlap {
    uint32_t a, b; /* the runs */
    uint32_t begin, end;
};

/*
 * Call use(state, overlap) for each stretch that run a of 'upper' and run b
 * of 'lower' share, from runs 'a' and 'b' on, which begin at the same pixel
 * once 'shift' is taken from those of 'lower', until 'upper' ends at 'stop'.
 * The pixels are those of 'upper'. 'use' returns a status.
 */
CRACKLE_INLINE int
crackle_overlaps(const struct crackle_layer *upper, uint32_t a, uint32_t stop,
                 const struct crackle_layer *lower, uint32_t b, uint32_t shift,
                 int (*use)(void *state, const struct crackle_overlap *),
                 void *state)
{
    struct crackle_overlap o = {a, b, upper->start[a], 0};
    while (o.begin < stop) {
        const uint32_t a_end = upper->start[o.a + 1];
        const uint32_t b_end = lower->start[o.b + 1] - shift;
        o.end = a_end < b_end ? a_end : b_end;
        const int status = use(state, &o);
        if (status)
            return status;
        /* As arithmetic, of which compilers make no branch. */
        o.a += (uint32_t)(((uint64_t)a_end - b_end - 1) >> 63);
        o.b += (uint32_t)(((uint64_t)b_end - a_end - 1) >> 63);
        o.begin = o.end;
    }
    return CRACKLE_OK;
}

/*
 * The same for each row of a layer and the row above it, as far as there are
 * cracks between them, which the bitmap 'above' has; the pixels are those of
 * the lower row. Where the runs' components differ, all of the stretch is
 * cracks.
 */
CRACKLE_INLINE int
crackle_row_overlaps(const struct crackle_layer *layer, const uint64_t *above,
                     int (*use)(void *state, const struct crackle_overlap *),
                     void *state)
{
    const uint32_t sx = layer->sx, words = (sx - 1) / 64 + 1;
    const uint32_t *start = layer->start;
    for (uint32_t y = 1, base = sx; y < layer->sy; y++, base += sx) {
        const uint64_t *row = above + (size_t)y * words;
        struct crackle_overlap o = {layer->row_run[y - 1], layer->row_run[y],
                                    base, base};
        for (uint32_t w = 0, first = base; w < words; w++, first += 64) {
            uint64_t cracks = row[w];
            for (;;) {
                if (o.end > first) /* what was used */
                    cracks = o.end - first < 64
                                 ? cracks & ~(uint64_t)0 << (o.end - first)
                                 : 0;
                if (!cracks)
                    break;
                o.begin = first + crackle_ctz64(cracks);
                while (start[o.a + 1] + sx <= o.begin)
                    o.a++;
                while (start[o.b + 1] <= o.begin)
                    o.b++;
                const uint32_t a_end = start[o.a + 1] + sx;
                const uint32_t b_end = start[o.b + 1];
                o.end = a_end < b_end ? a_end : b_end;
                const int status = use(state, &o);
                if (status)
                    return status;
            }
        }
    }
    return CRACKLE_OK;
}

/* And for all of two slices. */
CRACKLE_INLINE int crackle_slice_overlaps(
    const struct crackle_layer *upper, const struct crackle_layer *lower,
    int (*use)(void *state, const struct crackle_overlap *), void *state)
{
    return crackle_overlaps(upper, 0, upper->sx * upper->sy, lower, 0, 0, use,
                            state);
}

#endif /* CRACKLE_FOLD_H */
