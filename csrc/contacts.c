/* Which labels touch or overlap, and by how many faces or voxels. */
#include "fold.h"

#include <stdlib.h>

/* Pairs of groups and their counts: a hash with open addressing. */
struct pairs {
    struct crackle_pair *table; /* 1 << log2; empty where all counts are 0 */
    unsigned log2;
    size_t used;
    size_t last; /* where the pair before was found */
    int axis;
    bool different; /* pairs of a group with itself don't count */
    bool ordered;   /* (a, b) is another pair than (b, a) */
    const struct crackle_layer *upper, *lower;
};

CRACKLE_INLINE bool is_empty(const struct crackle_pair *p)
{
    return !(p->counts[0] | p->counts[1] | p->counts[2]);
}

/* Where the pair is in the table, or belongs. */
CRACKLE_INLINE size_t place(const struct crackle_pair *table, unsigned log2,
                            uint32_t a, uint32_t b)
{
    const uint64_t key = (uint64_t)a << 32 | b;
    const size_t mask = ((size_t)1 << log2) - 1;
    size_t at = (size_t)((key * 0x9E3779B97F4A7C15u) >> (64 - log2));
    while (!is_empty(&table[at]) && (table[at].a != a || table[at].b != b))
        at = (at + 1) & mask;
    return at;
}

static int pairs_grow(struct pairs *pairs)
{
    const unsigned log2 = pairs->table ? pairs->log2 + 1 : 10;
    struct crackle_pair *table = calloc((size_t)1 << log2, sizeof *table);
    if (!table)
        return CRACKLE_NO_MEMORY;
    if (pairs->table)
        for (size_t i = 0; i < (size_t)1 << pairs->log2; i++) {
            const struct crackle_pair *p = &pairs->table[i];
            if (!is_empty(p))
                table[place(table, log2, p->a, p->b)] = *p;
        }
    free(pairs->table);
    pairs->table = table;
    pairs->log2 = log2;
    pairs->last = 0;
    return CRACKLE_OK;
}

CRACKLE_INLINE int pairs_add(struct pairs *pairs, uint32_t a, uint32_t b,
                             uint64_t count)
{
    if (pairs->different && a == b)
        return CRACKLE_OK;
    if (a == CRACKLE_NO_GROUP || b == CRACKLE_NO_GROUP)
        return CRACKLE_OK;
    if (!pairs->ordered && a > b) {
        const uint32_t swap = a;
        a = b;
        b = swap;
    }
    struct crackle_pair *p = &pairs->table[pairs->last];
    if (p->a != a || p->b != b || is_empty(p)) {
        pairs->last = place(pairs->table, pairs->log2, a, b);
        p = &pairs->table[pairs->last];
        if (is_empty(p)) {
            if (2 * ++pairs->used > (size_t)1 << pairs->log2) {
                if (pairs_grow(pairs))
                    return CRACKLE_NO_MEMORY;
                pairs->last = place(pairs->table, pairs->log2, a, b);
                p = &pairs->table[pairs->last];
            }
            p->a = a;
            p->b = b;
        }
    }
    p->counts[pairs->axis] += count;
    return CRACKLE_OK;
}

static int use_overlap(void *state, const struct crackle_overlap *o)
{
    struct pairs *pairs = state;
    return pairs_add(pairs, pairs->upper->value[o->a],
                     pairs->lower->value[o->b], o->end - o->begin);
}

/* Add the faces between the pixels of one slice. */
static int contacts_within(struct pairs *pairs,
                           const struct crackle_layer *layer)
{
    int status = CRACKLE_OK;
    pairs->axis = 0;
    for (uint32_t y = 0; y < layer->sy; y++)
        for (uint32_t r = layer->row_run[y] + 1;
             r < layer->row_run[y + 1] && !status; r++)
            status = pairs_add(pairs, layer->value[r - 1], layer->value[r], 1);
    pairs->axis = 1;
    pairs->upper = pairs->lower = layer;
    if (!status && layer->sy > 1)
        status = crackle_row_overlaps(layer, use_overlap, pairs);
    return status;
}

/* Hand the pairs over as a list. */
static void pairs_list(struct pairs *pairs, struct crackle_pair **list,
                       size_t *count)
{
    size_t n = 0;
    for (size_t i = 0; i < (size_t)1 << pairs->log2; i++)
        if (!is_empty(&pairs->table[i]))
            pairs->table[n++] = pairs->table[i];
    *list = pairs->table;
    *count = n;
}

int crackle_contacts(const struct crackle_stream *stream,
                     struct crackle_workspace *ws, uint32_t z0, uint32_t z1,
                     const uint32_t *group, struct crackle_pair **list,
                     size_t *count, struct crackle_error *error)
{
    *list = NULL;
    *count = 0;
    int status = crackle_fold_prepare(stream, ws, z0, z1, error);
    if (status || !stream->first_component || z0 == z1)
        return status;
    struct pairs pairs = {NULL, 0, 0, 0, 0, true, false, NULL, NULL};
    status = pairs_grow(&pairs);
    const uint32_t from = z0 ? z0 - 1 : 0;
    crackle_moves_ahead(ws, from, z1, NULL);
    for (uint32_t z = from; z < z1 && !status; z++) {
        struct crackle_layer *here = &ws->layers[z & 1];
        status = crackle_layer_read(stream, ws, z, group, here, error);
        if (status)
            break;
        if (z >= z0)
            status = contacts_within(&pairs, here);
        if (!status && z > from) {
            pairs.axis = 2;
            pairs.upper = &ws->layers[~z & 1];
            pairs.lower = here;
            status = crackle_slice_overlaps(pairs.upper, here, use_overlap,
                                            &pairs);
        }
        if (status)
            CRACKLE_NOMEM(error);
    }
    if (status) {
        free(pairs.table);
        return status;
    }
    pairs_list(&pairs, list, count);
    return CRACKLE_OK;
}

int crackle_overlay(const struct crackle_stream *first,
                    struct crackle_workspace *first_ws,
                    const uint32_t *first_group,
                    const struct crackle_stream *second,
                    struct crackle_workspace *second_ws,
                    const uint32_t *second_group, uint32_t z0, uint32_t z1,
                    int different, struct crackle_pair **list, size_t *count,
                    struct crackle_error *error)
{
    *list = NULL;
    *count = 0;
    const struct crackle_header *a = &first->header, *b = &second->header;
    if (a->sx != b->sx || a->sy != b->sy || a->sz != b->sz ||
        first_ws == second_ws)
        return crackle_fail(error, CRACKLE_BAD_ARGUMENT, CRACKLE_SECTION_NONE,
                            -1, "the volumes differ in size");
    int status = crackle_fold_prepare(first, first_ws, z0, z1, error);
    if (!status)
        status = crackle_fold_prepare(second, second_ws, z0, z1, error);
    if (status || !first->first_component || z0 == z1)
        return status;
    struct pairs pairs = {NULL, 0, 0, 0, 0, different != 0, true, NULL, NULL};
    pairs.upper = &first_ws->layers[0];
    pairs.lower = &second_ws->layers[0];
    if (pairs_grow(&pairs))
        return CRACKLE_NOMEM(error);
    crackle_moves_ahead(first_ws, z0, z1, NULL);
    crackle_moves_ahead(second_ws, z0, z1, NULL);
    for (uint32_t z = z0; z < z1 && !status; z++) {
        status = crackle_layer_read(first, first_ws, z, first_group,
                                    &first_ws->layers[0], error);
        if (!status)
            status = crackle_layer_read(second, second_ws, z, second_group,
                                        &second_ws->layers[0], error);
        if (status)
            break;
        status = crackle_slice_overlaps(pairs.upper, pairs.lower, use_overlap,
                                        &pairs);
        if (status)
            CRACKLE_NOMEM(error);
        if (different && pairs.used)
            break; /* one is enough */
    }
    if (status) {
        free(pairs.table);
        return status;
    }
    pairs_list(&pairs, list, count);
    return CRACKLE_OK;
}
