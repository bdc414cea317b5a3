/* Every question of crackle.h, with the answers counted again voxel by
 * voxel. */
#include "common.h"

#include <stdlib.h>
#include <string.h>

struct asked {
    const struct fuzz_stream *s;
    const struct fuzz_volume *v;
    struct crackle_workspace *ws;
    struct fuzz_choices *choices;
    bool counted; /* there are labels to count, and not too many */
    struct fuzz_groups groups;
    uint32_t *group; /* of each voxel, where they are counted */
    uint32_t split;  /* ranges are asked for from 0 to here, and from here */
};

/* What asking for all slices must come to. */
static void check(const struct asked *q, int status,
                  const struct crackle_error *error)
{
    fuzz_check_status(status, error);
    FUZZ_CHECK(status != CRACKLE_BAD_ARGUMENT);
    FUZZ_CHECK((status == CRACKLE_OK) == (q->v->label != NULL));
}

static uint32_t *groups_of_voxels(const struct fuzz_volume *v,
                                  const struct fuzz_groups *groups)
{
    uint32_t *group = fuzz_new((size_t)v->voxels * sizeof *group);
    for (uint64_t i = 0; i < v->voxels; i++)
        group[i] = i && v->label[i] == v->label[i - 1]
                       ? group[i - 1]
                       : fuzz_group(groups, v->label[i]);
    return group;
}

/* ---- labels ---- */

static void ask_labels(const struct asked *q)
{
    const struct crackle_header *header = q->s->header;
    const uint32_t sz = header->sz;
    struct crackle_error error = {0, 0, 0, NULL};
    uint32_t z0, z1;
    fuzz_choose_range(q->choices, sz, &z0, &z1);

    uint64_t count = 0, components = 0;
    const uint8_t *background = NULL;
    crackle_unique(q->s->stream, &count, &background);
    uint8_t *used = fuzz_new((size_t)count);
    memset(used, 0, (size_t)count);
    int exact = -1;
    int status = crackle_labels_in(q->s->stream, z0, z1, used, &components,
                                   &exact, &error);
    fuzz_check_status(status, &error);
    FUZZ_CHECK(!q->v->label || status == CRACKLE_OK);
    if (q->counted) {
        const uint64_t *first = crackle_first_components(q->s->stream);
        FUZZ_CHECK(!first || components == first[z1] - first[z0]);
        FUZZ_CHECK(components <= q->s->pixels * (z1 - z0));
        FUZZ_CHECK(exact == (background == NULL));
        uint8_t *has = fuzz_new(q->groups.count);
        uint8_t *named = fuzz_new(q->groups.count);
        memset(has, 0, q->groups.count);
        memset(named, 0, q->groups.count);
        struct fuzz_groups each = q->groups; /* a group for each label */
        each.modulo = UINT32_MAX;
        each.left_out = 0;
        for (uint64_t i = z0 * q->s->pixels; i < z1 * q->s->pixels; i++)
            has[fuzz_group(&each, q->v->label[i])] = 1;
        for (uint64_t k = 0; k < count; k++)
            if (used[k])
                named[fuzz_group(&each, q->s->entry[k])] = 1;
        if (background)
            named[fuzz_group(&each, q->s->entry[count])] = 1;
        for (uint32_t k = 0; k < q->groups.count; k++)
            FUZZ_CHECK(exact ? has[k] == named[k] : has[k] <= named[k]);
        fuzz_free(has);
        fuzz_free(named);
    }
    fuzz_free(used);

    uint64_t label = fuzz_choose(q->choices);
    if (q->s->entries && label < 128)
        label = q->s->entry[label % q->s->entries];
    uint8_t *flags = fuzz_new(z1 - z0);
    status = crackle_slices_with(q->s->stream, label, z0, z1, flags, &exact,
                                 &error);
    fuzz_check_status(status, &error);
    FUZZ_CHECK(!q->v->label || status == CRACKLE_OK);
    for (uint32_t z = z0; q->counted && z < z1; z++) {
        bool there = false;
        for (uint64_t i = 0; i < q->s->pixels && !there; i++)
            there = q->v->label[z * q->s->pixels + i] == label;
        FUZZ_CHECK(exact ? flags[z - z0] == there : flags[z - z0] >= there);
    }
    fuzz_free(flags);
}

/* Keys by component and by voxel, and the components' checksums. */
static void ask_keys(const struct asked *q)
{
    const struct crackle_header *header = q->s->header;
    const uint32_t sz = header->sz;
    const uint64_t *first = crackle_first_components(q->s->stream);
    struct crackle_error error = {0, 0, 0, NULL};
    if (!first)
        return;
    /* Components are earned by keys, but those of pins by nothing. */
    const uint64_t components = first[sz];
    if (components > FUZZ_MOST_VOXELS)
        return;
    uint32_t *keys = fuzz_new((size_t)components * sizeof *keys);
    int status = crackle_keys(q->s->stream, q->ws, 0, q->split, keys, &error);
    if (!status)
        status = crackle_keys(q->s->stream, q->ws, q->split, sz,
                              keys + first[q->split], &error);
    fuzz_check_status(status, &error);
    FUZZ_CHECK(!q->v->label || status == CRACKLE_OK);
    for (uint64_t i = 0; !status && i < components; i++)
        FUZZ_CHECK(keys[i] < q->s->entries);

    uint32_t *crcs = fuzz_new((size_t)sz * sizeof *crcs);
    status = crackle_component_checksums(q->s->stream, q->ws, 0, sz, crcs,
                                         &error);
    fuzz_check_status(status, &error);
    FUZZ_CHECK(!q->v->label || status == CRACKLE_OK);
    fuzz_free(crcs);

    enum { POINTS = 40 };
    const uint32_t n = q->s->voxels ? POINTS : 0;
    uint32_t *z = fuzz_new(n * sizeof *z), *pixel = fuzz_new(n * sizeof *z);
    uint32_t *at = fuzz_new(n * sizeof *at);
    const uint32_t stride = 1 + fuzz_choose(q->choices);
    for (uint32_t i = 0; i < n; i++) {
        z[i] = (uint32_t)((uint64_t)sz * i / n);
        pixel[i] = (uint32_t)((uint64_t)i * stride * 7 % q->s->pixels);
    }
    status = crackle_points(q->s->stream, q->ws, n, z, pixel, at, &error);
    fuzz_check_status(status, &error);
    FUZZ_CHECK(!q->v->label || status == CRACKLE_OK);
    for (uint32_t i = 0; !status && i < n; i++) {
        FUZZ_CHECK(at[i] < q->s->entries);
        bool named = false;
        for (uint64_t c = first[z[i]]; q->counted && c < first[z[i] + 1]; c++)
            named |= keys[c] == at[i];
        FUZZ_CHECK(!q->counted ||
                   (named && q->s->entry[at[i]] ==
                                 q->v->label[z[i] * q->s->pixels + pixel[i]]));
    }
    if (n > 1 && z[0] != z[n - 1]) { /* not in order */
        z[0] = z[n - 1];
        z[n - 1] = 0;
        FUZZ_CHECK(crackle_points(q->s->stream, q->ws, n, z, pixel, at,
                                  &error) == CRACKLE_BAD_ARGUMENT);
    }
    fuzz_free(z);
    fuzz_free(pixel);
    fuzz_free(at);
    fuzz_free(keys);
}

/* ---- sizes, boxes, sums ---- */

static void ask_measure(const struct asked *q)
{
    const struct crackle_header *header = q->s->header;
    const uint32_t sz = header->sz;
    const size_t n = q->groups.count;
    struct crackle_error error = {0, 0, 0, NULL};
    const uint8_t choice = fuzz_choose(q->choices);
    uint64_t *counts = fuzz_new(n * sizeof *counts);
    uint32_t *boxes = choice & 1 ? fuzz_new(6 * n * sizeof *boxes) : NULL;
    uint64_t *sums = choice & 2 ? fuzz_new(3 * n * sizeof *sums) : NULL;
    uint8_t *wanted = choice & 4 ? fuzz_new(sz) : NULL;
    for (uint32_t z = 0; wanted && z < sz; z++)
        wanted[z] = (choice >> 3 ^ z * 5) & 1;
    memset(counts, 0, n * sizeof *counts);
    if (sums)
        memset(sums, 0, 3 * n * sizeof *sums);
    int status = crackle_measure(q->s->stream, q->ws, 0, q->split, wanted,
                                 q->groups.of_entry, counts, boxes, sums,
                                 &error);
    if (!status)
        status = crackle_measure(q->s->stream, q->ws, q->split, sz,
                                 wanted ? wanted + q->split : NULL,
                                 q->groups.of_entry, counts, boxes, sums,
                                 &error);
    if (!wanted || q->v->label)
        check(q, status, &error);
    if (q->counted) {
        struct total {
            uint64_t count, sum[3];
            uint32_t low[3], high[3];
        } *totals = fuzz_new(n * sizeof *totals);
        memset(totals, 0, n * sizeof *totals);
        for (uint64_t i = 0; i < q->s->voxels; i++) {
            const uint32_t g = q->group[i];
            const uint32_t at[3] = {(uint32_t)(i % header->sx),
                                    (uint32_t)(i / header->sx % header->sy),
                                    (uint32_t)(i / q->s->pixels)};
            if (g == FUZZ_NO_GROUP || (wanted && !wanted[at[2]]))
                continue;
            struct total *t = &totals[g];
            for (int axis = 0; axis < 3; axis++) {
                t->sum[axis] += at[axis];
                if (!t->count || at[axis] < t->low[axis])
                    t->low[axis] = at[axis];
                if (!t->count || at[axis] > t->high[axis])
                    t->high[axis] = at[axis];
            }
            t->count++;
        }
        for (size_t g = 0; g < n; g++) {
            const struct total *t = &totals[g];
            FUZZ_CHECK(counts[g] == t->count);
            FUZZ_CHECK(!sums || !memcmp(sums + 3 * g, t->sum, sizeof t->sum));
            FUZZ_CHECK(!boxes || !t->count ||
                       (!memcmp(boxes + 6 * g, t->low, sizeof t->low) &&
                        !memcmp(boxes + 6 * g + 3, t->high, sizeof t->high)));
        }
        fuzz_free(totals);
    }
    fuzz_free(counts);
    fuzz_free(boxes);
    fuzz_free(sums);
    fuzz_free(wanted);
}

/* ---- pairs ---- */

/* Pairs, sorted, each once. */
struct pair_list {
    struct crackle_pair *pairs;
    size_t count, room;
};

static void pairs_add(struct pair_list *list, const struct crackle_pair *pair)
{
    if (list->count == list->room) {
        list->room = 2 * list->room + 64;
        struct crackle_pair *pairs = realloc(list->pairs,
                                             list->room * sizeof *pairs);
        FUZZ_CHECK(pairs);
        list->pairs = pairs;
    }
    list->pairs[list->count++] = *pair;
}

static int compare_pairs(const void *p, const void *q)
{
    const struct crackle_pair *a = p, *b = q;
    return a->a != b->a ? (a->a > b->a) - (a->a < b->a)
                        : (a->b > b->b) - (a->b < b->b);
}

static void pairs_merge(struct pair_list *list)
{
    size_t n = 0;
    if (list->count)
        qsort(list->pairs, list->count, sizeof *list->pairs, compare_pairs);
    for (size_t i = 0; i < list->count; i++)
        if (n && !compare_pairs(&list->pairs[n - 1], &list->pairs[i]))
            for (int axis = 0; axis < 3; axis++)
                list->pairs[n - 1].counts[axis] += list->pairs[i].counts[axis];
        else
            list->pairs[n++] = list->pairs[i];
    list->count = n;
}

static void pairs_check_equal(struct pair_list *a, struct pair_list *b)
{
    pairs_merge(a);
    pairs_merge(b);
    FUZZ_CHECK(a->count == b->count);
    for (size_t i = 0; i < a->count; i++)
        FUZZ_CHECK(!compare_pairs(&a->pairs[i], &b->pairs[i]) &&
                   !memcmp(a->pairs[i].counts, b->pairs[i].counts,
                           sizeof a->pairs[i].counts));
    free(a->pairs);
    free(b->pairs);
    memset(a, 0, sizeof *a);
    memset(b, 0, sizeof *b);
}

/* Take over what the library lists: pairs that count, each once. */
static void pairs_take(struct pair_list *list, struct crackle_pair *pairs,
                       size_t count, bool different)
{
    const size_t before = list->count;
    for (size_t i = 0; i < count; i++) {
        FUZZ_CHECK(pairs[i].counts[0] || pairs[i].counts[1] ||
                   pairs[i].counts[2]);
        FUZZ_CHECK(!different || pairs[i].a < pairs[i].b);
        pairs_add(list, &pairs[i]);
    }
    if (count) {
        struct pair_list these = {list->pairs + before, count, count};
        pairs_merge(&these);
        FUZZ_CHECK(these.count == count);
    }
    crackle_free(pairs);
}

static void ask_contacts(const struct asked *q)
{
    const struct crackle_header *header = q->s->header;
    struct crackle_error error = {0, 0, 0, NULL};
    struct pair_list listed = {NULL, 0, 0}, counted = {NULL, 0, 0};
    int status = CRACKLE_OK;
    for (int i = 0; i < 2 && !status; i++) {
        struct crackle_pair *pairs;
        size_t count;
        status = crackle_contacts(q->s->stream, q->ws, i ? q->split : 0,
                                  i ? header->sz : q->split,
                                  q->groups.of_entry, &pairs, &count, &error);
        FUZZ_CHECK(!status || (!pairs && !count));
        pairs_take(&listed, pairs, count, true);
    }
    check(q, status, &error);
    if (q->counted) {
        const uint64_t step[3] = {1, header->sx, q->s->pixels};
        const uint64_t size[3] = {header->sx, header->sy, header->sz};
        for (uint64_t i = 0; i < q->s->voxels; i++)
            for (int axis = 0; axis < 3; axis++) {
                if (i / step[axis] % size[axis] == 0)
                    continue;
                const uint32_t a = q->group[i - step[axis]], b = q->group[i];
                struct crackle_pair pair = {a < b ? a : b,
                                            a < b ? b : a,
                                            {axis == 0, axis == 1, axis == 2}};
                if (a != b && pair.b != FUZZ_NO_GROUP)
                    pairs_add(&counted, &pair);
            }
        pairs_check_equal(&listed, &counted);
    }
    free(listed.pairs);
}

static void ask_overlay(const struct asked *q, const struct asked *other,
                        bool different)
{
    struct crackle_error error = {0, 0, 0, NULL};
    struct pair_list listed = {NULL, 0, 0}, counted = {NULL, 0, 0};
    const uint32_t sz = q->s->header->sz;
    const bool alike = q->v->sx == other->v->sx && q->v->sy == other->v->sy &&
                       sz == other->v->sz;
    int status = CRACKLE_OK;
    /* In halves, as far as 'different' is not about the first slice. */
    for (int i = different; i < 2 && !status; i++) {
        struct crackle_pair *pairs;
        size_t count;
        status = crackle_overlay(
            q->s->stream, q->ws, q->groups.of_entry, other->s->stream,
            other->ws, other->groups.of_entry, i && !different ? q->split : 0,
            i ? sz : q->split, different, &pairs, &count, &error);
        FUZZ_CHECK(!status || (!pairs && !count));
        pairs_take(&listed, pairs, count, false);
    }
    fuzz_check_status(status, &error);
    FUZZ_CHECK(alike || status == CRACKLE_BAD_ARGUMENT);
    if (alike && !different)
        FUZZ_CHECK((status == CRACKLE_OK) == (q->v->label && other->v->label));
    if (alike && q->counted && other->counted) {
        bool found = false;
        for (uint64_t i = 0; i < q->s->voxels; i++) {
            const struct crackle_pair pair = {
                q->group[i], other->group[i], {0, 0, 1}};
            if (different && found && i % q->s->pixels == 0)
                break;
            if (pair.a == FUZZ_NO_GROUP || pair.b == FUZZ_NO_GROUP ||
                (different && pair.a == pair.b))
                continue;
            found = true;
            pairs_add(&counted, &pair);
        }
        pairs_check_equal(&listed, &counted);
    }
    free(listed.pairs);
}

static void ask_same_borders(const struct asked *q, const struct asked *other)
{
    struct crackle_error error = {0, 0, 0, NULL};
    const uint32_t sx = q->v->sx, sy = q->v->sy, sz = q->v->sz;
    const bool alike = sx == other->v->sx && sy == other->v->sy &&
                       sz == other->v->sz;
    int same = -1;
    const int status = crackle_same_borders(
        q->s->stream, q->ws, q->groups.of_entry, other->s->stream, other->ws,
        other->groups.of_entry, 0, sz, &same, &error);
    fuzz_check_status(status, &error);
    FUZZ_CHECK(alike || (status == CRACKLE_OK && !same));
    FUZZ_CHECK(status || !same || !alike || (q->v->label && other->v->label));
    if (!alike || !q->counted || !other->counted)
        return;
    bool equal = true;
    for (uint64_t i = 0; i < q->s->voxels; i++) {
        const uint32_t *a = q->group + i, *b = other->group + i;
        if (i % sx)
            equal &= (a[0] == a[-1]) == (b[0] == b[-1]);
        if (i / sx % sy)
            equal &= (a[0] == a[-(int64_t)sx]) == (b[0] == b[-(int64_t)sx]);
    }
    FUZZ_CHECK(same == equal);
}

/* ---- surfaces, graph, components ---- */

/* Bit i: neighbour i of the voxel is in the volume; and has its group. The
 * order is that of the connectivity graph: next x, last x, y, z. */
static void neighbours(const struct asked *q, uint64_t i, unsigned *inside,
                       unsigned *alike)
{
    const uint64_t step[3] = {1, q->v->sx, q->v->pixels};
    const uint64_t size[3] = {q->v->sx, q->v->sy, q->v->sz};
    *inside = *alike = 0;
    for (unsigned axis = 0; axis < 3; axis++) {
        const uint64_t at = i / step[axis] % size[axis];
        if (at + 1 < size[axis]) {
            *inside |= 1u << 2 * axis;
            if (q->group[i] == q->group[i + step[axis]])
                *alike |= 1u << 2 * axis;
        }
        if (at > 0) {
            *inside |= 2u << 2 * axis;
            if (q->group[i] == q->group[i - step[axis]])
                *alike |= 2u << 2 * axis;
        }
    }
}

static void ask_surface(const struct asked *q)
{
    const struct crackle_header *header = q->s->header;
    const uint32_t sz = header->sz, n = q->groups.count;
    struct crackle_error error = {0, 0, 0, NULL};
    const int width = fuzz_choose(q->choices) % 2 ? 4 : 2;
    uint64_t *cursor = fuzz_new((n + 1) * sizeof *cursor);
    memset(cursor, 0, (n + 1) * sizeof *cursor);
    if (width == 2 && (header->sx > 65536 || header->sy > 65536 || sz > 65536))
        FUZZ_CHECK(crackle_surface(q->s->stream, q->ws, 0, sz,
                                   q->groups.of_entry, cursor, NULL, 0, 2,
                                   &error) == CRACKLE_BAD_ARGUMENT);
    int status = CRACKLE_OK;
    const bool fits = width == 4 || (header->sx <= 65536 &&
                                     header->sy <= 65536 && sz <= 65536);
    for (int i = 0; i < 2 && !status && fits; i++)
        status = crackle_surface(q->s->stream, q->ws, i ? q->split : 0,
                                 i ? sz : q->split, q->groups.of_entry, cursor,
                                 NULL, 0, width, &error);
    if (fits)
        check(q, status, &error);
    if (status || !fits) {
        fuzz_free(cursor);
        return;
    }
    uint64_t total = 0;
    for (uint32_t g = 0; g < n; g++) {
        const uint64_t count = cursor[g];
        cursor[g] = total;
        total += count;
    }
    cursor[n] = total;
    FUZZ_CHECK(total <= q->s->voxels);
    uint64_t *begin = fuzz_new((n + 1) * sizeof *begin);
    memcpy(begin, cursor, (n + 1) * sizeof *begin);
    uint8_t *points = fuzz_new((size_t)total * 3 * (size_t)width);
    for (int i = 0; i < 2; i++) {
        status = crackle_surface(q->s->stream, q->ws, i ? q->split : 0,
                                 i ? sz : q->split, q->groups.of_entry, cursor,
                                 total ? points : NULL, total, width, &error);
        check(q, status, &error);
    }
    for (uint32_t g = 0; g < n; g++)
        FUZZ_CHECK(cursor[g] == begin[g + 1]);
    if (q->counted) {
        uint8_t *seen = fuzz_new((size_t)q->s->voxels);
        memset(seen, 0, (size_t)q->s->voxels);
        for (uint32_t g = 0; g < n; g++)
            for (uint64_t i = begin[g]; i < begin[g + 1]; i++) {
                uint64_t at[3];
                for (unsigned axis = 0; axis < 3; axis++)
                    at[axis] = fuzz_element(points, 3 * i + axis,
                                            (unsigned)width, false);
                FUZZ_CHECK(at[0] < header->sx && at[1] < header->sy &&
                           at[2] < sz);
                const uint64_t voxel =
                    at[0] + header->sx * (at[1] + header->sy * at[2]);
                FUZZ_CHECK(q->group[voxel] == g && !seen[voxel]);
                seen[voxel] = 1;
            }
        for (uint64_t i = 0; i < q->s->voxels; i++) {
            unsigned inside, alike;
            neighbours(q, i, &inside, &alike);
            FUZZ_CHECK(seen[i] ==
                       (alike != 63 && q->group[i] != FUZZ_NO_GROUP));
        }
        fuzz_free(seen);
    }
    if (total && fits) { /* a point too few */
        memcpy(cursor, begin, (n + 1) * sizeof *cursor);
        status = crackle_surface(q->s->stream, q->ws, 0, sz,
                                 q->groups.of_entry, cursor, points, total - 1,
                                 width, &error);
        FUZZ_CHECK(status == CRACKLE_BAD_ARGUMENT);
    }
    fuzz_free(points);
    fuzz_free(begin);
    fuzz_free(cursor);
}

static void ask_graph(const struct asked *q)
{
    const struct crackle_header *header = q->s->header;
    struct crackle_error error = {0, 0, 0, NULL};
    const int connectivity = fuzz_choose(q->choices) % 2 ? 4 : 6;
    uint8_t *out = fuzz_new((size_t)q->s->voxels);
    int status = CRACKLE_OK;
    for (int i = 0; i < 2 && !status; i++) {
        const uint32_t z0 = i ? q->split : 0;
        const uint32_t z1 = i ? header->sz : q->split;
        status = crackle_connectivity_graph(
            q->s->stream, q->ws, z0, z1, q->groups.of_entry, connectivity,
            out + z0 * q->s->pixels, (size_t)(q->s->pixels * (z1 - z0)),
            &error);
    }
    check(q, status, &error);
    const unsigned round = header->permissible ? 0 : 15;
    const unsigned outside = round | (header->sz > 1 ? 48 : 0);
    for (uint64_t i = 0; q->counted && i < q->s->voxels; i++) {
        unsigned inside, alike;
        neighbours(q, i, &inside, &alike);
        unsigned expected = alike | (outside & ~inside);
        if (connectivity == 4)
            expected &= 15;
        FUZZ_CHECK(out[i] == expected);
    }
    fuzz_free(out);
}

/* The root of i. */
static uint32_t root(uint32_t *parent, uint32_t i)
{
    while (parent[i] != i)
        i = parent[i] = parent[parent[i]];
    return i;
}

/* How many components of equal group the volume has. */
static uint64_t count_components(const struct asked *q, int connectivity)
{
    const int64_t sx = q->v->sx, sy = q->v->sy, sz = q->v->sz;
    const int most = connectivity == 6 ? 1 : connectivity == 18 ? 2 : 3;
    uint32_t *parent = fuzz_new((size_t)q->s->voxels * sizeof *parent);
    uint64_t count = 0;
    for (uint32_t i = 0; i < q->s->voxels; i++)
        parent[i] = i;
    for (int64_t z = 0, i = 0; z < sz; z++)
        for (int64_t y = 0; y < sy; y++)
            for (int64_t x = 0; x < sx; x++, i++)
                for (int k = 0; k < 13; k++) { /* those before the voxel */
                    const int dx = k % 3 - 1, dy = k / 3 % 3 - 1;
                    const int dz = k / 9 - 1;
                    const int64_t j = i + dx + sx * (dy + sy * dz);
                    if (abs(dx) + abs(dy) + abs(dz) > most || x + dx < 0 ||
                        x + dx >= sx || y + dy < 0 || y + dy >= sy ||
                        z + dz < 0 || q->group[i] != q->group[j])
                        continue;
                    parent[root(parent, (uint32_t)i)] = root(parent,
                                                             (uint32_t)j);
                }
    for (uint32_t i = 0; i < q->s->voxels; i++)
        count += parent[i] == i && q->group[i] != FUZZ_NO_GROUP;
    fuzz_free(parent);
    return count;
}

static void ask_link(const struct asked *q)
{
    const uint64_t *first = crackle_first_components(q->s->stream);
    const uint32_t sz = q->s->header->sz;
    struct crackle_error error = {0, 0, 0, NULL};
    const int connectivity = (const int[]){6, 18,
                                           26}[fuzz_choose(q->choices) % 3];
    const uint64_t n = first ? first[sz] : 0;
    if (n > FUZZ_MOST_VOXELS)
        return; /* more components than voxels: no reader would */
    uint32_t *parent = fuzz_new((size_t)n * sizeof *parent);
    for (uint32_t i = 0; i < n; i++)
        parent[i] = i;
    int status = CRACKLE_OK;
    for (int i = 0; i < 2 && !status; i++)
        status = crackle_link(q->s->stream, q->ws, i ? q->split : 0,
                              i ? sz : q->split, q->groups.of_entry,
                              connectivity, parent, &error);
    check(q, status, &error);
    for (uint32_t i = 0; i < n; i++)
        FUZZ_CHECK(parent[i] <= i);
    if (q->counted) {
        uint32_t *keys = fuzz_new((size_t)n * sizeof *keys);
        uint64_t roots = 0;
        FUZZ_CHECK(crackle_keys(q->s->stream, q->ws, 0, sz, keys, &error) ==
                   CRACKLE_OK);
        for (uint32_t i = 0; i < n; i++) {
            const uint32_t g = q->groups.of_entry[keys[i]];
            FUZZ_CHECK(q->groups.of_entry[keys[parent[i]]] == g);
            roots += parent[i] == i && g != FUZZ_NO_GROUP;
        }
        FUZZ_CHECK(roots == count_components(q, connectivity));
        fuzz_free(keys);
    }
    fuzz_free(parent);
}

/* ---- all ---- */

static void asked_begin(struct asked *q, const struct fuzz_stream *s,
                        const struct fuzz_volume *v,
                        struct fuzz_choices *choices)
{
    memset(q, 0, sizeof *q);
    q->s = s;
    q->v = v;
    q->choices = choices;
    q->ws = crackle_workspace_new();
    q->counted = v->label && v->voxels <= FUZZ_MOST_COUNTED;
    q->split = (uint32_t)(fuzz_choose(choices) % ((uint64_t)v->sz + 1));
    fuzz_groups_make(choices, false, s, &q->groups);
    if (q->counted)
        q->group = groups_of_voxels(v, &q->groups);
}

static void asked_end(struct asked *q)
{
    fuzz_free(q->group);
    fuzz_groups_free(&q->groups);
    crackle_workspace_free(q->ws);
}

void fuzz_check_queries(const struct fuzz_stream *s,
                        const struct fuzz_volume *v,
                        const struct fuzz_stream *other,
                        const struct fuzz_volume *other_volume,
                        struct fuzz_choices *choices)
{
    struct asked q, second;
    asked_begin(&q, s, v, choices);
    ask_labels(&q);
    ask_keys(&q);
    ask_measure(&q);
    ask_contacts(&q);
    ask_surface(&q);
    ask_graph(&q);
    ask_link(&q);
    asked_begin(&second, other ? other : s, other ? other_volume : v, choices);
    ask_overlay(&q, &second, false);
    ask_overlay(&q, &second, true);
    ask_same_borders(&q, &second);
    asked_end(&second);
    asked_end(&q);
}
