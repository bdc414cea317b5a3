/* Which labels touch or overlap, and by how many faces or voxels. */
#include "fold.h"

#include <stdlib.h>

/* Pairs are met again soon, as borders go on from row to row: most are
 * counted in a small cache, one for each axis, that has one place for each. */
#define CRACKLE_CACHE_LOG2 12
struct cached {
    uint64_t key; /* a << 32 | b */
    uint64_t count;
};

/* The runs of a slice as merging them wants them: one behind the last. */
struct run {
    uint32_t start, value;
};
struct run_list {
    struct crackle_buffer buffer;
    struct run *runs;
    uint32_t count;
};

/* Pairs of groups and their counts: a hash with open addressing. */
struct pairs {
    struct cached *cache;       /* 3 << CRACKLE_CACHE_LOG2 */
    struct crackle_pair *table; /* 1 << log2; empty where all counts are 0 */
    unsigned log2;
    uint64_t factor; /* of the hash */
    size_t used;
    bool different; /* pairs of a group with itself don't count */
    bool ordered;   /* (a, b) is another pair than (b, a) */
    struct crackle_buffer lists[2]; /* struct cached: what is to be added */
    struct run_list runs[2];
};

CRACKLE_INLINE bool is_empty(const struct crackle_pair *p)
{
    return !(p->counts[0] | p->counts[1] | p->counts[2]);
}

/* Where the pair is in the table, or belongs. */
CRACKLE_INLINE struct crackle_pair *place(const struct pairs *pairs,
                                          uint32_t a, uint32_t b)
{
    struct crackle_pair *table = pairs->table;
    const uint64_t key = (uint64_t)a << 32 | b;
    const size_t mask = ((size_t)1 << pairs->log2) - 1;
    size_t at = (size_t)((key * pairs->factor) >> (64 - pairs->log2));
    while (!is_empty(&table[at]) && (table[at].a != a || table[at].b != b))
        at = (at + 1) & mask;
    return &table[at];
}

static int pairs_grow(struct pairs *pairs)
{
    struct crackle_pair *old = pairs->table;
    const size_t count = old ? (size_t)1 << pairs->log2 : 0;
    const unsigned log2 = old ? pairs->log2 + 1 : 10;
    struct crackle_pair *table = calloc((size_t)1 << log2, sizeof *table);
    if (!table)
        return CRACKLE_NO_MEMORY;
    pairs->table = table;
    pairs->log2 = log2;
    pairs->factor = crackle_hash_factor(table);
    for (size_t i = 0; i < count; i++)
        if (!is_empty(&old[i]))
            *place(pairs, old[i].a, old[i].b) = old[i];
    free(old);
    return CRACKLE_OK;
}

static int pairs_make(struct pairs *pairs)
{
    pairs->cache = calloc((size_t)3 << CRACKLE_CACHE_LOG2,
                          sizeof *pairs->cache);
    return pairs->cache ? pairs_grow(pairs) : CRACKLE_NO_MEMORY;
}

/* Move what an entry of the cache counted to the table. Pairs with labels that
 * are left out end here: they must not pass for a difference, either. */
static int settle(struct pairs *pairs, const struct cached *entry)
{
    const uint32_t a = (uint32_t)(entry->key >> 32), b = (uint32_t)entry->key;
    const size_t axis = (size_t)(entry - pairs->cache) >> CRACKLE_CACHE_LOG2;
    if (!entry->count || a == CRACKLE_NO_GROUP || b == CRACKLE_NO_GROUP)
        return CRACKLE_OK;
    struct crackle_pair *p = place(pairs, a, b);
    if (is_empty(p)) {
        if (2 * ++pairs->used > (size_t)1 << pairs->log2) {
            if (pairs_grow(pairs))
                return CRACKLE_NO_MEMORY;
            p = place(pairs, a, b);
        }
        p->a = a;
        p->b = b;
    }
    p->counts[axis] += entry->count;
    return CRACKLE_OK;
}

/* The pair of two groups, for the cache. */
CRACKLE_INLINE uint64_t pair_key(uint32_t a, uint32_t b, bool ordered)
{
    const uint32_t low = a < b ? a : b, high = a < b ? b : a;
    return ordered ? (uint64_t)a << 32 | b : (uint64_t)low << 32 | high;
}

CRACKLE_INLINE int pairs_add(struct pairs *pairs, int axis, uint64_t key,
                             uint64_t count)
{
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

/* Two lists of runs that are being merged, and where the pairs of their
 * overlaps go. */
struct merging {
    const struct run *a, *b;
    uint32_t at, stop, shift; /* see crackle_overlaps */
    struct cached *out;
};

/* One overlap. Every one is written, and stays if it counts: no branch
 * depends on it. */
CRACKLE_INLINE void merge_step(struct merging *m, bool different, bool ordered)
{
    const uint32_t a_end = m->a[1].start, b_end = m->b[1].start - m->shift;
    const uint32_t end = a_end < b_end ? a_end : b_end;
    const uint32_t a = m->a->value, b = m->b->value;
    m->out->key = pair_key(a, b, ordered);
    CRACKLE_ONE_BY_ONE;
    m->out->count = end - m->at;
    m->out += !different | (a != b);
    /* Where the one ends no later than the other: as arithmetic, of which
     * compilers make no branch. */
    m->a += ((uint64_t)a_end - b_end - 1) >> 63;
    m->b += ((uint64_t)b_end - a_end - 1) >> 63;
    m->at = end;
}

/* Merge two pairs of lists at the same time: a step waits for the one before
 * it, but not for the other merge's. */
CRACKLE_INLINE void merge_both(struct merging *first, struct merging *second,
                               bool different, bool ordered)
{
    struct merging p = *first, q = *second;
    while (p.at < p.stop && q.at < q.stop) {
        merge_step(&p, different, ordered);
        merge_step(&q, different, ordered);
    }
    while (p.at < p.stop)
        merge_step(&p, different, ordered);
    while (q.at < q.stop)
        merge_step(&q, different, ordered);
    *first = p;
    *second = q;
}

static int runs_take(struct run_list *list, const struct crackle_layer *layer)
{
    const uint32_t n = layer->num_runs;
    struct run *runs = crackle_reserve(&list->buffer,
                                       ((size_t)n + 1) * sizeof *runs);
    if (!runs)
        return CRACKLE_NO_MEMORY;
    for (uint32_t r = 0; r < n; r++) {
        runs[r].start = layer->start[r];
        runs[r].value = layer->value[r];
    }
    runs[n].start = layer->start[n];
    runs[n].value = 0;
    list->runs = runs;
    list->count = n;
    return CRACKLE_OK;
}

/* Add what 'm' has listed from 'list' on. */
static int add_listed(struct pairs *pairs, int axis, const struct cached *list,
                      const struct merging *m)
{
    for (; list < m->out; list++)
        if (pairs_add(pairs, axis, list->key, list->count))
            return CRACKLE_NO_MEMORY;
    return CRACKLE_OK;
}

/* Add the overlaps of two slices, and with 'layer', which is the lower, the
 * faces across y within it. */
static int add_overlaps(struct pairs *pairs, const struct run_list *upper,
                        const struct run_list *lower,
                        const struct crackle_layer *layer)
{
    /* As many overlaps as runs of both, and one that does not count. */
    const size_t most = upper ? (size_t)upper->count + lower->count : 0;
    struct cached *between = crackle_reserve(&pairs->lists[0],
                                             (most + 1) * sizeof *between);
    struct cached *rows = crackle_reserve(
        &pairs->lists[1], (2 * (size_t)lower->count + 1) * sizeof *rows);
    if (!between || !rows)
        return CRACKLE_NO_MEMORY;
    struct merging z = {NULL, NULL, 0, 0, 0, between};
    struct merging y = {NULL, NULL, 0, 0, 0, rows};
    if (upper) {
        z.a = upper->runs;
        z.b = lower->runs;
        z.stop = upper->runs[upper->count].start;
    }
    if (layer) {
        y.a = lower->runs;
        y.b = lower->runs + layer->row_run[1];
        y.shift = layer->sx;
        y.stop = layer->sx * (layer->sy - 1);
    }
    if (pairs->ordered && !pairs->different)
        merge_both(&z, &y, false, true);
    else if (pairs->ordered)
        merge_both(&z, &y, true, true);
    else
        merge_both(&z, &y, true, false);
    return add_listed(pairs, 2, between, &z) || add_listed(pairs, 1, rows, &y)
               ? CRACKLE_NO_MEMORY
               : CRACKLE_OK;
}

/* Add the faces across x. */
static int add_left(struct pairs *pairs, const struct crackle_layer *layer)
{
    const uint32_t *value = layer->value;
    for (uint32_t y = 0; y < layer->sy; y++)
        for (uint32_t r = layer->row_run[y] + 1; r < layer->row_run[y + 1];
             r++)
            if (CRACKLE_LIKELY(value[r - 1] != value[r]) &&
                pairs_add(pairs, 0, pair_key(value[r - 1], value[r], false),
                          1))
                return CRACKLE_NO_MEMORY;
    return CRACKLE_OK;
}

/* Hand the pairs over as a list, if all went well, and free the
 * rest. */
static int pairs_end(struct pairs *pairs, int status,
                     struct crackle_pair **list, size_t *count,
                     struct crackle_error *error)
{
    if (!status && pairs_flush(pairs))
        status = CRACKLE_NOMEM(error);
    if (!status) {
        size_t n = 0;
        for (size_t i = 0; i < (size_t)1 << pairs->log2; i++) {
            const struct crackle_pair *p = &pairs->table[i];
            if (!is_empty(p))
                pairs->table[n++] = *p;
        }
        *list = pairs->table;
        *count = n;
        pairs->table = NULL;
    }
    free(pairs->cache);
    free(pairs->table);
    for (int i = 0; i < 2; i++) {
        free(pairs->lists[i].data);
        free(pairs->runs[i].buffer.data);
    }
    return status;
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
        struct crackle_layer *layer = &ws->layers[0];
        struct run_list *here = &pairs.runs[z & 1];
        const struct run_list *last = &pairs.runs[~z & 1];
        status = crackle_layer_read(stream, ws, z, group, layer, error);
        if (status)
            break;
        status = runs_take(here, layer);
        if (z >= z0 && !status)
            status = add_left(&pairs, layer);
        if (z >= z0 && !status)
            status = add_overlaps(&pairs, z > from ? last : NULL, here, layer);
        if (status)
            CRACKLE_NOMEM(error);
    }
    return pairs_end(&pairs, status, list, count, error);
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
        if (runs_take(&pairs.runs[0], a_layer) ||
            runs_take(&pairs.runs[1], b_layer) ||
            add_overlaps(&pairs, &pairs.runs[0], &pairs.runs[1], NULL) ||
            (different && pairs_flush(&pairs)))
            status = CRACKLE_NOMEM(error);
        if (different && pairs.used)
            break; /* one is enough */
    }
    return pairs_end(&pairs, status, list, count, error);
}
