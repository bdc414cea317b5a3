/* Which labels touch or overlap, and by how many faces or voxels. */
#include "fold.h"

#include <stdlib.h>

/* Pairs are met again soon, as borders go on from row to row: most are
 * counted in a small cache, one for each axis, that has one place for each. */
#define CRACKLE_CACHE_LOG2 11
struct cached {
    uint64_t key; /* a << 32 | b */
    uint64_t count;
};

/* What pairs of a group with itself are counted as where they don't count: it
 * costs less than a branch. */
#define CRACKLE_SELF (~(uint64_t)0)

/* Pairs of groups and their counts: a hash with open addressing. */
struct pairs {
    struct cached *cache; /* 3 << CRACKLE_CACHE_LOG2 */
    struct crackle_pair *table; /* 1 << log2; empty where all counts are 0 */
    unsigned log2;
    size_t used;
    bool different; /* pairs of a group with itself don't count */
    bool ordered;   /* (a, b) is another pair than (b, a) */
    const uint32_t *upper, *lower; /* values of the layers' runs */
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
    return CRACKLE_OK;
}

static int pairs_make(struct pairs *pairs)
{
    pairs->cache = calloc((size_t)3 << CRACKLE_CACHE_LOG2,
                          sizeof *pairs->cache);
    return pairs->cache ? pairs_grow(pairs) : CRACKLE_NO_MEMORY;
}

static void pairs_free(struct pairs *pairs)
{
    free(pairs->cache);
    free(pairs->table);
}

/* Move what an entry of the cache counted to the table. */
static int settle(struct pairs *pairs, const struct cached *entry)
{
    const uint32_t a = (uint32_t)(entry->key >> 32), b = (uint32_t)entry->key;
    const size_t axis = (size_t)(entry - pairs->cache) >> CRACKLE_CACHE_LOG2;
    if (!entry->count || entry->key == CRACKLE_SELF)
        return CRACKLE_OK;
    struct crackle_pair *p =
        &pairs->table[place(pairs->table, pairs->log2, a, b)];
    if (is_empty(p)) {
        if (2 * ++pairs->used > (size_t)1 << pairs->log2) {
            if (pairs_grow(pairs))
                return CRACKLE_NO_MEMORY;
            p = &pairs->table[place(pairs->table, pairs->log2, a, b)];
        }
        p->a = a;
        p->b = b;
    }
    p->counts[axis] += entry->count;
    return CRACKLE_OK;
}

CRACKLE_INLINE int pairs_add(struct pairs *pairs, int axis, uint32_t a,
                             uint32_t b, uint64_t count)
{
    const bool swap = !pairs->ordered & (a > b);
    uint64_t key = swap ? (uint64_t)b << 32 | a : (uint64_t)a << 32 | b;
    key |= 0u - (uint64_t)(pairs->different & (a == b));
    struct cached *entry =
        pairs->cache + ((size_t)axis << CRACKLE_CACHE_LOG2) +
        ((key * 0x9E3779B97F4A7C15u) >> (64 - CRACKLE_CACHE_LOG2));
    if (CRACKLE_UNLIKELY(entry->key != key)) {
        if (settle(pairs, entry))
            return CRACKLE_NO_MEMORY;
        entry->key = key;
        entry->count = 0;
    }
    entry->count += count;
    return CRACKLE_OK;
}

/* Settle all. */
static int pairs_flush(struct pairs *pairs)
{
    for (size_t i = 0; i < (size_t)3 << CRACKLE_CACHE_LOG2; i++) {
        if (settle(pairs, &pairs->cache[i]))
            return CRACKLE_NO_MEMORY;
        pairs->cache[i].count = 0;
    }
    return CRACKLE_OK;
}

CRACKLE_INLINE int use_above(void *state, const struct crackle_overlap *o)
{
    struct pairs *pairs = state;
    return pairs_add(pairs, 1, pairs->upper[o->a], pairs->lower[o->b],
                     o->end - o->begin);
}

CRACKLE_INLINE int use_before(void *state, const struct crackle_overlap *o)
{
    struct pairs *pairs = state;
    return pairs_add(pairs, 2, pairs->upper[o->a], pairs->lower[o->b],
                     o->end - o->begin);
}

/* Add the faces within a slice. */
static int add_within(struct pairs *pairs, const struct crackle_layer *layer,
                      const uint64_t *above)
{
    int status = CRACKLE_OK;
    pairs->upper = pairs->lower = layer->value;
    for (uint32_t y = 0; y < layer->sy; y++)
        for (uint32_t r = layer->row_run[y] + 1;
             r < layer->row_run[y + 1] && !status; r++)
            status = pairs_add(pairs, 0, layer->value[r - 1],
                               layer->value[r], 1);
    return status ? status
                  : crackle_row_overlaps(layer, above, use_above, pairs);
}

/* Add the faces between two slices, or what two volumes have in common. */
static int add_between(struct pairs *pairs, const struct crackle_layer *upper,
                       const struct crackle_layer *lower)
{
    pairs->upper = upper->value;
    pairs->lower = lower->value;
    return crackle_slice_overlaps(upper, lower, use_before, pairs);
}

/* Hand the pairs that count over as a list. */
static int pairs_list(struct pairs *pairs, struct crackle_pair **list,
                      size_t *count)
{
    size_t n = 0;
    if (pairs_flush(pairs))
        return CRACKLE_NO_MEMORY;
    for (size_t i = 0; i < (size_t)1 << pairs->log2; i++) {
        const struct crackle_pair *p = &pairs->table[i];
        if (!is_empty(p) && p->a != CRACKLE_NO_GROUP &&
            p->b != CRACKLE_NO_GROUP)
            pairs->table[n++] = *p;
    }
    *list = pairs->table;
    *count = n;
    pairs->table = NULL;
    return CRACKLE_OK;
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
    struct pairs pairs = {0};
    pairs.different = true;
    if (pairs_make(&pairs))
        status = CRACKLE_NOMEM(error);
    const uint32_t from = z0 ? z0 - 1 : 0;
    crackle_moves_ahead(ws, from, z1, NULL);
    for (uint32_t z = from; z < z1 && !status; z++) {
        struct crackle_layer *here = &ws->layers[z & 1];
        const struct crackle_layer *last = &ws->layers[~z & 1];
        status = crackle_layer_read(stream, ws, z, group, here, error);
        if (status)
            break;
        if (z >= z0)
            status = add_within(&pairs, here, ws->slice.above);
        if (z > from && !status)
            status = add_between(&pairs, last, here);
        if (status)
            CRACKLE_NOMEM(error);
    }
    if (!status && pairs_list(&pairs, list, count))
        status = CRACKLE_NOMEM(error);
    pairs_free(&pairs);
    return status;
}

/* Whether two layers are run for run the same. */
static bool layers_equal(const struct crackle_layer *a,
                         const struct crackle_layer *b)
{
    const size_t bytes = (size_t)a->num_runs * 4;
    return a->num_runs == b->num_runs && !memcmp(a->start, b->start, bytes) &&
           !memcmp(a->value, b->value, bytes);
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
    struct pairs pairs = {0};
    pairs.different = different != 0;
    pairs.ordered = true;
    if (pairs_make(&pairs))
        status = CRACKLE_NOMEM(error);
    crackle_moves_ahead(first_ws, z0, z1, NULL);
    crackle_moves_ahead(second_ws, z0, z1, NULL);
    struct crackle_layer *a_layer = &first_ws->layers[0];
    struct crackle_layer *b_layer = &second_ws->layers[0];
    for (uint32_t z = z0; z < z1 && !status; z++) {
        status = crackle_layer_read(first, first_ws, z, first_group, a_layer,
                                    error);
        if (!status)
            status = crackle_layer_read(second, second_ws, z, second_group,
                                        b_layer, error);
        if (status)
            break;
        if (different && layers_equal(a_layer, b_layer))
            continue;
        if (add_between(&pairs, a_layer, b_layer) ||
            (different && pairs_flush(&pairs)))
            status = CRACKLE_NOMEM(error);
        if (different && pairs.used)
            break; /* one is enough */
    }
    if (!status && pairs_list(&pairs, list, count))
        status = CRACKLE_NOMEM(error);
    pairs_free(&pairs);
    return status;
}
