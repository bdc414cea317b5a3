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

/* surface.c: the bitmaps of the borders between unlike values of a layer, as
 * those of crackle_slice. */
void crackle_draw_borders(const struct crackle_layer *layer, uint64_t *left,
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
        o.a += a_end == o.end;
        o.b += b_end == o.end;
        o.begin = o.end;
    }
    return CRACKLE_OK;
}

/* The same for each row of a layer and the row above it. */
CRACKLE_INLINE int
crackle_row_overlaps(const struct crackle_layer *layer,
                     int (*use)(void *state, const struct crackle_overlap *),
                     void *state)
{
    return crackle_overlaps(layer, 0, layer->sx * (layer->sy - 1), layer,
                            layer->row_run[1], layer->sx, use, state);
}

/* And for two slices. */
CRACKLE_INLINE int
crackle_slice_overlaps(const struct crackle_layer *upper,
                       const struct crackle_layer *lower,
                       int (*use)(void *state, const struct crackle_overlap *),
                       void *state)
{
    return crackle_overlaps(upper, 0, upper->sx * upper->sy, lower, 0, 0, use,
                            state);
}

#endif /* CRACKLE_FOLD_H */
