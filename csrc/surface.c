/* Where labels end: bitmaps of the faces between unlike voxels, and from
 * them the voxels at the surface and the voxel connectivity graph. */
#include "fold.h"

/* The faces of one slice and of those beside it, one bit a voxel, 'words'
 * words a row: bit x says that voxels x-1 and x differ, that the voxel and
 * the one a row, or a slice, before it do, and the same for the one behind. */
struct borders {
    uint32_t words;
    uint64_t *left, *above, *before, *behind;
    uint64_t *next_left, *next_above; /* of the slice behind this one */
    uint64_t *none, *all;             /* a row of zeros and one of ones */
};

/* Where differing overlaps are drawn: rows ascend. */
struct drawing {
    const struct crackle_layer *upper, *lower;
    uint64_t *row; /* of the bitmap */
    uint32_t words, sx;
    uint32_t base; /* the row's first pixel */
};

CRACKLE_INLINE void set_range(uint64_t *row, uint32_t begin, uint32_t end)
{
    uint32_t w = begin / 64;
    const uint32_t last = (end - 1) / 64;
    const uint64_t from = ~(uint64_t)0 << begin % 64;
    const uint64_t to = ~(uint64_t)0 >> (63 - (end - 1) % 64);
    if (w == last) {
        row[w] |= from & to;
        return;
    }
    row[w++] |= from;
    while (w < last)
        row[w++] = ~(uint64_t)0;
    row[last] |= to;
}

CRACKLE_INLINE int draw(void *state, const struct crackle_overlap *o)
{
    struct drawing *d = state;
    if (d->upper->value[o->a] == d->lower->value[o->b])
        return CRACKLE_OK;
    while (o->begin - d->base >= d->sx) {
        d->base += d->sx;
        d->row += d->words;
    }
    set_range(d->row, o->begin - d->base, o->end - d->base);
    return CRACKLE_OK;
}

/* Take back a border within a layer. */
CRACKLE_INLINE int erase(void *state, const struct crackle_overlap *o)
{
    struct drawing *d = state;
    if (d->upper->value[o->a] != d->upper->value[o->b])
        return CRACKLE_OK;
    while (o->begin - d->base >= d->sx) {
        d->base += d->sx;
        d->row += d->words;
    }
    for (uint32_t x = o->begin - d->base; x < o->end - d->base; x++)
        d->row[x / 64] &= ~((uint64_t)1 << x % 64);
    return CRACKLE_OK;
}

void crackle_drop_borders(struct crackle_workspace *ws,
                          const struct crackle_layer *layer, uint64_t *left,
                          uint64_t *above)
{
    if (!crackle_kernels()->false_border(ws, layer->value))
        return;
    const uint32_t words = (layer->sx - 1) / 64 + 1;
    struct drawing d = {layer, layer, above, words, layer->sx, 0};
    crackle_row_overlaps(layer, above, erase, &d);
    for (uint32_t y = 0, base = 0; y < layer->sy;
         y++, base += layer->sx, left += words)
        for (uint32_t r = layer->row_run[y] + 1; r < layer->row_run[y + 1];
             r++)
            if (CRACKLE_UNLIKELY(layer->value[r - 1] == layer->value[r])) {
                const uint32_t x = layer->start[r] - base;
                left[x / 64] &= ~((uint64_t)1 << x % 64);
            }
}

/* Faces between two slices. */
static void draw_between(struct borders *b, const struct crackle_layer *upper,
                         const struct crackle_layer *lower)
{
    memset(b->behind, 0, (size_t)b->words * upper->sy * 8);
    struct drawing d = {upper, lower, b->behind, b->words, upper->sx, 0};
    crackle_slice_overlaps(upper, lower, draw, &d);
}

static int borders_make(struct borders *b, struct crackle_workspace *ws,
                        uint32_t sx, uint32_t sy)
{
    b->words = (sx - 1) / 64 + 1;
    const size_t bitmap = (size_t)b->words * sy;
    uint64_t *p = crackle_reserve(
        &ws->borders, (6 * bitmap + (size_t)2 * b->words) * sizeof *p);
    if (!p)
        return CRACKLE_NO_MEMORY;
    b->left = p;
    b->above = p + bitmap;
    b->before = p + 2 * bitmap;
    b->behind = p + 3 * bitmap;
    b->next_left = p + 4 * bitmap;
    b->next_above = p + 5 * bitmap;
    b->none = p + 6 * bitmap;
    b->all = b->none + b->words;
    memset(b->none, 0, b->words * sizeof *p);
    memset(b->all, 255, b->words * sizeof *p);
    return CRACKLE_OK;
}

static void swap(uint64_t **a, uint64_t **b)
{
    uint64_t *c = *a;
    *a = *b;
    *b = c;
}

/* Draw what is within the slice that was just read, as the next one. */
static void draw_within(struct borders *b, struct crackle_workspace *ws,
                        const struct crackle_layer *layer)
{
    const size_t bytes = (size_t)b->words * layer->sy * 8;
    memcpy(b->next_left, ws->slice.left, bytes);
    memcpy(b->next_above, ws->slice.above, bytes);
    crackle_drop_borders(ws, layer, b->next_left, b->next_above);
}

/*
 * Call use(state, borders, layer, z) for each slice of [z0, z1): the faces of
 * slice z. 'outside' is what stands for the faces of the volume's first and
 * last slice, a byte of bits.
 */
static int each_slice(const struct crackle_stream *stream,
                      struct crackle_workspace *ws, uint32_t z0, uint32_t z1,
                      const uint32_t *group, bool across, int outside,
                      int (*use)(void *state, const struct borders *borders,
                                 const struct crackle_layer *layer,
                                 uint32_t z),
                      void *state, struct crackle_error *error)
{
    int status = crackle_fold_prepare(stream, ws, z0, z1, error);
    if (status || !stream->first_component || z0 == z1)
        return status;
    const struct crackle_header *header = &stream->header;
    struct borders b;
    if (borders_make(&b, ws, header->sx, header->sy))
        return CRACKLE_NOMEM(error);
    const size_t bytes = (size_t)b.words * header->sy * 8;
    const uint32_t from = across && z0 ? z0 - 1 : z0;
    const uint32_t to = across && z1 < header->sz ? z1 + 1 : z1;
    crackle_moves_ahead(ws, from, to, NULL);
    memset(b.behind, outside, bytes);
    /* A slice is used once the one behind it was read. */
    for (uint64_t next = from; next <= z1; next++) {
        const uint32_t z = (uint32_t)next;
        struct crackle_layer *here = &ws->layers[z & 1];
        const struct crackle_layer *last = &ws->layers[~z & 1];
        swap(&b.left, &b.next_left);
        swap(&b.above, &b.next_above);
        if (z < to) {
            status = crackle_layer_read(stream, ws, z, group, here, error);
            if (status)
                return status;
            draw_within(&b, ws, here);
        }
        if (z > from) {
            swap(&b.before, &b.behind);
            if (across && z < to)
                draw_between(&b, last, here);
            else
                memset(b.behind, outside, bytes);
            if (z > z0) {
                status = use(state, &b, last, z - 1);
                if (status)
                    return status;
            }
        }
    }
    return CRACKLE_OK;
}

int crackle_same_borders(const struct crackle_stream *first,
                         struct crackle_workspace *first_ws,
                         const uint32_t *first_group,
                         const struct crackle_stream *second,
                         struct crackle_workspace *second_ws,
                         const uint32_t *second_group, uint32_t z0,
                         uint32_t z1, int *same, struct crackle_error *error)
{
    const struct crackle_header *a = &first->header, *b = &second->header;
    *same = a->sx == b->sx && a->sy == b->sy && a->sz == b->sz;
    if (!*same || z0 == z1)
        return CRACKLE_OK;
    int status = crackle_fold_prepare(first, first_ws, z0, z1, error);
    if (!status)
        status = crackle_fold_prepare(second, second_ws, z0, z1, error);
    if (status || !first->first_component)
        return status;
    struct borders one, two;
    if (borders_make(&one, first_ws, a->sx, a->sy) ||
        borders_make(&two, second_ws, a->sx, a->sy))
        return CRACKLE_NOMEM(error);
    const size_t bytes = (size_t)one.words * a->sy * 8;
    for (uint32_t z = z0; z < z1 && *same; z++) {
        status = crackle_layer_read(first, first_ws, z, first_group,
                                    &first_ws->layers[0], error);
        if (!status)
            status = crackle_layer_read(second, second_ws, z, second_group,
                                        &second_ws->layers[0], error);
        if (status)
            return status;
        draw_within(&one, first_ws, &first_ws->layers[0]);
        draw_within(&two, second_ws, &second_ws->layers[0]);
        *same = !memcmp(one.next_left, two.next_left, bytes) &&
                !memcmp(one.next_above, two.next_above, bytes);
    }
    return CRACKLE_OK;
}

/* ---- voxels at the surface ---- */

struct listing {
    uint64_t *cursor; /* by group */
    void *points;
    uint64_t num_points;
    unsigned width;
    struct crackle_error *error;
};

static int list_slice(void *state, const struct borders *b,
                      const struct crackle_layer *layer, uint32_t z)
{
    const struct listing *list = state;
    const uint32_t sx = layer->sx, sy = layer->sy, words = b->words;
    const uint32_t x_last = sx - 1;
    for (uint32_t y = 0, base = 0; y < sy; y++, base += sx) {
        const size_t row = (size_t)y * words;
        const uint64_t *left = b->left + row, *above = b->above + row;
        const uint64_t *before = b->before + row, *behind = b->behind + row;
        const uint64_t *below = above + words;
        if (y == 0)
            above = b->all;
        if (y + 1 == sy)
            below = b->all;
        uint32_t r = layer->row_run[y];
        for (uint32_t w = 0; w < words; w++) {
            uint64_t m = left[w] | left[w] >> 1 | above[w] | below[w] |
                         before[w] | behind[w];
            if (w + 1 < words)
                m |= left[w + 1] << 63;
            if (w == 0)
                m |= 1;
            if (w + 1 == words) {
                m |= (uint64_t)1 << x_last % 64;
                m &= ~(uint64_t)0 >> (63 - x_last % 64);
            }
            while (m) {
                /* The bits of one run at a time. */
                const uint32_t pixel = base + 64 * w + crackle_ctz64(m);
                while (layer->start[r + 1] <= pixel)
                    r++;
                const uint32_t end = layer->start[r + 1] - base - 64 * w;
                uint64_t mine = m;
                if (end < 64)
                    mine &= ((uint64_t)1 << end) - 1;
                m &= ~mine;
                const uint32_t g = layer->value[r];
                if (g == CRACKLE_NO_GROUP)
                    continue;
                uint64_t at = list->cursor[g];
                const uint32_t n = crackle_popcount64(mine);
                list->cursor[g] += n;
                if (!list->points)
                    continue;
                if (at > list->num_points || n > list->num_points - at)
                    return crackle_fail(list->error, CRACKLE_BAD_ARGUMENT,
                                        CRACKLE_SECTION_NONE, z,
                                        "there is no room for the points");
                for (; mine; mine &= mine - 1, at++) {
                    const uint32_t x = 64 * w + crackle_ctz64(mine);
                    if (list->width == 2) {
                        uint16_t *p = (uint16_t *)list->points + 3 * at;
                        p[0] = (uint16_t)x;
                        p[1] = (uint16_t)y;
                        p[2] = (uint16_t)z;
                    } else {
                        uint32_t *p = (uint32_t *)list->points + 3 * at;
                        p[0] = x;
                        p[1] = y;
                        p[2] = z;
                    }
                }
            }
        }
    }
    return CRACKLE_OK;
}

int crackle_surface(const struct crackle_stream *stream,
                    struct crackle_workspace *ws, uint32_t z0, uint32_t z1,
                    const uint32_t *group, uint64_t *cursor, void *points,
                    uint64_t num_points, int point_width,
                    struct crackle_error *error)
{
    struct listing list = {cursor, points, num_points, (unsigned)point_width,
                           error};
    const struct crackle_header *header = &stream->header;
    if (point_width != 4 && (point_width != 2 || header->sx > 65536 ||
                             header->sy > 65536 || header->sz > 65536))
        return crackle_fail(error, CRACKLE_BAD_ARGUMENT, CRACKLE_SECTION_NONE,
                            -1, "coordinates do not fit the width of a point");
    return each_slice(stream, ws, z0, z1, group, true, 255, list_slice, &list,
                      error);
}

/* ---- the voxel connectivity graph ---- */

struct graph {
    uint8_t *out;
    uint32_t z0;
    bool across;
    bool outside; /* there are borders around the slice */
};

/* Byte k of each of 6 words, as the rows of a matrix of 8 x 8 bits, turned
 * around: byte j of the result has bit j of each. */
CRACKLE_INLINE uint64_t turn(const uint64_t *words, unsigned k)
{
    uint64_t x = 0, t;
    for (unsigned i = 0; i < 6; i++)
        x |= (words[i] >> 8 * k & 255) << 8 * i;
    t = (x ^ x >> 7) & 0x00AA00AA00AA00AAu;
    x ^= t ^ t << 7;
    t = (x ^ x >> 14) & 0x0000CCCC0000CCCCu;
    x ^= t ^ t << 14;
    t = (x ^ x >> 28) & 0x00000000F0F0F0F0u;
    return x ^ t ^ t << 28;
}

static int graph_slice(void *state, const struct borders *b,
                       const struct crackle_layer *layer, uint32_t z)
{
    const struct graph *graph = state;
    const uint32_t sx = layer->sx, sy = layer->sy, words = b->words;
    uint8_t *out = graph->out + (size_t)(z - graph->z0) * sx * sy;
    for (uint32_t y = 0; y < sy; y++, out += sx) {
        const size_t row = (size_t)y * words;
        const uint64_t *left = b->left + row, *above = b->above + row;
        const uint64_t *below = above + words;
        const uint64_t *before = graph->across ? b->before + row : b->all;
        const uint64_t *behind = graph->across ? b->behind + row : b->all;
        if (y == 0)
            above = graph->outside ? b->all : b->none;
        if (y + 1 == sy)
            below = graph->outside ? b->all : b->none;
        for (uint32_t w = 0; w < words; w++) {
            uint64_t right = left[w] >> 1, here = left[w];
            if (w + 1 < words)
                right |= left[w + 1] << 63;
            else
                right |= (uint64_t)graph->outside << (sx - 1) % 64;
            if (w == 0)
                here |= graph->outside;
            /* clang-format off */
            const uint64_t connected[6] = {~right,     ~here,
                                           ~below[w],  ~above[w],
                                           ~behind[w], ~before[w]};
            /* clang-format on */
            const uint32_t n = sx - 64 * w < 64 ? sx - 64 * w : 64;
            uint8_t *to = out + (size_t)64 * w;
            for (unsigned k = 0; k < n / 8; k++, to += 8)
                crackle_store64(to, turn(connected, k));
            if (n % 8) {
                uint8_t last[8];
                crackle_store64(last, turn(connected, n / 8));
                memcpy(to, last, n % 8);
            }
        }
    }
    return CRACKLE_OK;
}

int crackle_connectivity_graph(const struct crackle_stream *stream,
                               struct crackle_workspace *ws, uint32_t z0,
                               uint32_t z1, const uint32_t *group,
                               int connectivity, uint8_t *out, size_t out_size,
                               struct crackle_error *error)
{
    const struct crackle_header *header = &stream->header;
    if (connectivity != 4 && connectivity != 6)
        return crackle_fail(error, CRACKLE_BAD_ARGUMENT, CRACKLE_SECTION_NONE,
                            -1, "the connectivity is neither 4 nor 6");
    if (z0 > z1 || out_size != (uint64_t)header->sx * header->sy * (z1 - z0))
        return crackle_fail(error, CRACKLE_BAD_ARGUMENT, CRACKLE_SECTION_NONE,
                            -1, "the output buffer has another size");
    struct graph graph = {out, z0, connectivity == 6,
                          header->permissible != 0};
    const int outside = header->sz > 1 ? 0 : 255;
    return each_slice(stream, ws, z0, z1, group, connectivity == 6, outside,
                      graph_slice, &graph, error);
}
