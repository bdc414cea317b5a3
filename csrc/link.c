/* Connected components of a volume, from those of its slices: union-find over
 * runs that touch. */
#include "fold.h"

struct linking {
    uint32_t *parent;
    const struct crackle_layer *upper, *lower;
    uint32_t upper_base, lower_base; /* ids of the slices' first components */
};

CRACKLE_INLINE void link_runs(const struct linking *l, uint32_t a, uint32_t b)
{
    const uint32_t label = l->upper->value[a];
    if (label != l->lower->value[b] || label == CRACKLE_NO_GROUP)
        return;
    const uint32_t i = l->upper_base + l->upper->component[a];
    const uint32_t j = l->lower_base + l->lower->component[b];
    if (l->parent[i] != l->parent[j])
        crackle_unite(l->parent, i, j);
}

CRACKLE_INLINE int link_overlap(void *state, const struct crackle_overlap *o)
{
    link_runs(state, o->a, o->b);
    return CRACKLE_OK;
}

/* Link the runs of row y of the upper layer and row v of the lower one that
 * overlap or, with 'reach' 1, are next to an overlap. */
static void link_rows(const struct linking *l, uint32_t y, uint32_t v,
                      uint32_t reach)
{
    const uint32_t *a = l->upper->start, *b = l->lower->start;
    const uint32_t a_base = y * l->upper->sx, b_base = v * l->lower->sx;
    const uint32_t a_end = l->upper->row_run[y + 1];
    const uint32_t b_end = l->lower->row_run[v + 1];
    uint32_t j = l->lower->row_run[v];
    for (uint32_t i = l->upper->row_run[y]; i < a_end; i++) {
        const uint32_t begin = a[i] - a_base;
        const uint32_t end = a[i + 1] - a_base + reach;
        while (b[j + 1] - b_base + reach <= begin)
            j++;
        for (uint32_t k = j; k < b_end && b[k] - b_base < end; k++)
            link_runs(l, i, k);
    }
}

/* Within the slice that was just read: components that an edit gave the same
 * label, and those that touch at a corner. */
static void link_within(struct linking *l, struct crackle_workspace *ws,
                        bool corners)
{
    const struct crackle_layer *layer = l->upper;
    const bool edited = crackle_kernels()->false_border(ws, layer->value);
    for (uint32_t y = 0; edited && y < layer->sy; y++)
        for (uint32_t r = layer->row_run[y] + 1; r < layer->row_run[y + 1];
             r++)
            link_runs(l, r - 1, r);
    if (corners)
        for (uint32_t y = 1; y < layer->sy; y++)
            link_rows(l, y - 1, y, 1);
    else if (edited)
        crackle_row_overlaps(layer, ws->slice.above, link_overlap, l);
}

int crackle_link(const struct crackle_stream *stream,
                 struct crackle_workspace *ws, uint32_t z0, uint32_t z1,
                 const uint32_t *group, int connectivity, uint32_t *parent,
                 struct crackle_error *error)
{
    if (connectivity != 6 && connectivity != 18 && connectivity != 26)
        return crackle_fail(error, CRACKLE_BAD_ARGUMENT, CRACKLE_SECTION_NONE,
                            -1, "the connectivity is not 6, 18 or 26");
    int status = crackle_fold_prepare(stream, ws, z0, z1, error);
    if (status || !stream->first_component || z0 == z1)
        return status;
    if (stream->first_component[stream->header.sz] > UINT32_MAX)
        return crackle_fail(error, CRACKLE_UNSUPPORTED, CRACKLE_SECTION_LABELS,
                            -1, "there are 2^32 components or more");
    const uint32_t from = z0 ? z0 - 1 : 0, sy = stream->header.sy;
    crackle_moves_ahead(ws, from, z1, NULL);
    for (uint32_t z = from; z < z1; z++) {
        struct crackle_layer *here = &ws->layers[z & 1];
        status = crackle_layer_read(stream, ws, z, group, here, error);
        if (status)
            return status;
        const uint32_t base = (uint32_t)stream->first_component[z];
        struct linking l = {parent, here, here, base, base};
        if (z >= z0)
            link_within(&l, ws, connectivity != 6);
        if (z == from)
            continue;
        l.upper = &ws->layers[~z & 1];
        l.upper_base = (uint32_t)stream->first_component[z - 1];
        if (connectivity == 6) {
            crackle_slice_overlaps(l.upper, here, link_overlap, &l);
            continue;
        }
        const uint32_t reach = connectivity == 26;
        for (uint32_t y = 0; y < sy; y++) {
            link_rows(&l, y, y, 1);
            if (y > 0)
                link_rows(&l, y, y - 1, reach);
            if (y + 1 < sy)
                link_rows(&l, y, y + 1, reach);
        }
    }
    return CRACKLE_OK;
}
