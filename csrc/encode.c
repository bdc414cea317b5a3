/* Encoding slices: pixels -> bitmaps -> runs -> components -> chains and
 * labels. join.c makes a stream of them. */
#include "part.h"

#include <stdlib.h>

void crackle_part_free(struct crackle_part *part)
{
    if (!part)
        return;
    free(part->slices);
    free(part->code.data);
    free(part->keys.data);
    free(part->unique.data);
    free(part->table);
    free(part);
}

/* ---- labels ---- */

CRACKLE_INLINE uint64_t hash(const struct crackle_part *part, uint64_t label)
{
    return (label * part->table_factor) >> (64 - part->table_log2);
}

static int table_grow(struct crackle_part *part)
{
    unsigned log2 = part->table_log2 ? part->table_log2 + 2 : 10;
    uint32_t *table = calloc((size_t)1 << log2, sizeof *table);
    if (!table)
        return CRACKLE_NO_MEMORY;
    free(part->table);
    part->table = table;
    part->table_log2 = log2;
    part->table_factor = crackle_hash_factor(table);
    const uint64_t *unique = part->unique.data;
    const uint64_t mask = ((uint64_t)1 << log2) - 1;
    for (size_t i = 0; i < part->num_unique; i++) {
        uint64_t at = hash(part, unique[i]);
        while (table[at])
            at = (at + 1) & mask;
        table[at] = (uint32_t)i + 1;
    }
    return CRACKLE_OK;
}

/* The index of 'label' in part->unique if it is where it is looked for first;
 * most are. */
CRACKLE_INLINE bool find_label(const struct crackle_part *part, uint64_t label,
                               uint32_t *index)
{
    if (!part->table_log2)
        return false;
    uint32_t entry = part->table[hash(part, label)];
    /* An entry is there when its label is, which the analyzer can't know:
     * NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
    if (!entry || ((const uint64_t *)part->unique.data)[entry - 1] != label)
        return false;
    *index = entry - 1;
    return true;
}

int crackle_part_intern(struct crackle_part *part, uint64_t label,
                        uint32_t *index)
{
    /* At most half full; a table that fits the caches, an eighth. */
    const unsigned spare = part->table_log2 > 16 ? 1 : 3;
    if ((part->num_unique << spare >= (size_t)1 << part->table_log2 ||
         !part->table_log2) &&
        table_grow(part))
        return CRACKLE_NO_MEMORY;
    const uint64_t mask = ((uint64_t)1 << part->table_log2) - 1;
    uint64_t at = hash(part, label);
    uint64_t *unique = part->unique.data;
    for (; part->table[at]; at = (at + 1) & mask)
        if (unique[part->table[at] - 1] == label) {
            *index = part->table[at] - 1;
            return CRACKLE_OK;
        }
    if (part->num_unique == UINT32_MAX)
        return CRACKLE_UNSUPPORTED;
    unique = crackle_reserve_keep(&part->unique,
                                  (part->num_unique + 1) * sizeof *unique);
    if (!unique)
        return CRACKLE_NO_MEMORY;
    *index = (uint32_t)part->num_unique;
    unique[part->num_unique++] = label;
    part->table[at] = *index + 1;
    return CRACKLE_OK;
}

/* ---- reading the array ---- */

/* Element i of an array, extended to 64 bits. */
CRACKLE_INLINE uint64_t element(const void *labels, unsigned width,
                                bool is_signed, uint64_t i)
{
    const unsigned shift = is_signed ? 64 - 8 * width : 0;
    uint64_t v;
    switch (width) {
    case 1:
        v = ((const uint8_t *)labels)[i];
        break;
    case 2:
        v = ((const uint16_t *)labels)[i];
        break;
    case 4:
        v = ((const uint32_t *)labels)[i];
        break;
    default:
        v = ((const uint64_t *)labels)[i];
    }
    return (uint64_t)((int64_t)(v << shift) >> shift);
}

/* Whether elements i and j are equal. */
CRACKLE_INLINE bool equal_at(const struct crackle_params *params,
                             const void *labels, uint64_t i, uint64_t j)
{
    return element(labels, params->data_width, false, i) ==
           element(labels, params->data_width, false, j);
}

CRACKLE_INLINE uint64_t offset_of(const struct crackle_params *params,
                                  uint32_t x, uint32_t y, uint32_t z)
{
    return params->c_order ? ((uint64_t)x * params->sy + y) * params->sz + z
                           : ((uint64_t)z * params->sy + y) * params->sx + x;
}

int crackle_guess_permissible(const struct crackle_params *params,
                              const void *labels)
{
    const uint32_t z = params->sz / 2;
    const uint32_t rows = params->sy < 32 ? params->sy : 32;
    const uint32_t n = params->sx < 256 ? params->sx : 256;
    uint64_t pairs = 0;
    if (params->sx < 2 || params->sy == 0 || params->sz == 0)
        return 0;
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t y = (uint32_t)((uint64_t)i * params->sy / rows);
        for (uint32_t x = 1; x < n; x++)
            pairs += equal_at(params, labels, offset_of(params, x, y, z),
                              offset_of(params, x - 1, y, z));
    }
    return pairs < (uint64_t)rows * (n - 1) / 2;
}

/* The bitmaps of slice z of an array whose fastest axis is x. Returns how many
 * of its rows begin with the label before them in stream order. */
static uint64_t compare_slice(const struct crackle_params *params,
                              const void *labels, uint32_t z,
                              const struct crackle_slice *slice)
{
    const struct crackle_kernels *kernels = crackle_kernels();
    const unsigned log2 = crackle_width_log2(params->data_width);
    const uint32_t sx = params->sx, sy = params->sy;
    const size_t row_bytes = (size_t)sx << log2;
    const uint8_t *row = (const uint8_t *)labels + (size_t)z * sy * row_bytes;
    /* Rows with 64 elements of the array behind them, and the others. */
    const uint64_t later = (uint64_t)(params->sz - 1 - z) * sy;
    const uint64_t short_rows = (64 + (uint64_t)sx - 1) / sx;
    uint32_t safe = sy;
    if (later < short_rows)
        safe = sy > short_rows - later ? sy - (uint32_t)(short_rows - later)
                                       : 0;
    uint64_t equal = 0;
    if (safe)
        equal = kernels->compare[log2](row, sx, NULL, safe, sx, z > 0, true,
                                       slice->left, slice->above);
    if (safe < sy) {
        size_t at = (size_t)safe * slice->words;
        row += safe * row_bytes;
        equal += kernels->compare[log2](
            row, sx, safe ? row - row_bytes : NULL, sy - safe, sx,
            z > 0 || safe > 0, false, slice->left + at, slice->above + at);
    }
    return equal;
}

/* The bitmaps of slices [z, z + depth) of an array whose fastest axis is z,
 * to ws->block: left and above of each in turn; and to 'equal' what
 * compare_slice returns for each. */
static int compare_block(const struct crackle_params *params,
                         const void *labels, uint32_t z, uint32_t depth,
                         struct crackle_workspace *ws, uint64_t *equal)
{
    const struct crackle_kernels *kernels = crackle_kernels();
    const unsigned log2 = crackle_width_log2(params->data_width);
    const uint32_t sx = params->sx, sy = params->sy, words = ws->slice.words;
    /* Room for the element before a row, and 64 behind it. */
    const uint32_t lead = 8, pitch = sx + lead + 64;
    const size_t bitmap = (size_t)words * sy;
    const size_t tile_bytes = ((size_t)pitch * depth) << log2;
    uint64_t *bits = crackle_reserve(&ws->block,
                                     (size_t)2 * depth * bitmap * 8);
    uint8_t *tile = crackle_reserve(&ws->tile, 2 * tile_bytes);
    if (!bits || !tile)
        return CRACKLE_NO_MEMORY;
    memset(tile, 0, 2 * tile_bytes);
    for (uint32_t y = 0; y < sy; y++) {
        uint8_t *here = tile + (y & 1) * tile_bytes + ((size_t)lead << log2);
        uint8_t *above = tile + (~y & 1) * tile_bytes + ((size_t)lead << log2);
        kernels->gather_block[log2](
            (const uint8_t *)labels + (offset_of(params, 0, y, z) << log2), sx,
            (uint64_t)sy * params->sz, depth, here, pitch);
        for (uint32_t k = 0; k < depth; k++) {
            const size_t row = ((size_t)k * pitch) << log2;
            const size_t width = (size_t)1 << log2;
            uint64_t *out = bits + (size_t)2 * k * bitmap + (size_t)y * words;
            bool same = false;
            if (y > 0)
                memcpy(here + row - width, above + row + (sx - 1) * width,
                       width);
            else if (z + k > 0)
                same = equal_at(params, labels,
                                offset_of(params, sx - 1, sy - 1, z + k - 1),
                                offset_of(params, 0, 0, z + k));
            uint32_t n = kernels->compare[log2](
                here + row, pitch, y ? above + row : NULL, 1, sx, y > 0, true,
                out, out + bitmap);
            equal[k] = (y ? equal[k] : 0) + n + same;
        }
    }
    return CRACKLE_OK;
}

/* ---- one slice ---- */

int crackle_part_add_keys(struct crackle_part *part, const uint32_t *keys,
                          uint32_t n)
{
    const size_t before = part->num_keys;
    if (!part->wide_keys && part->num_unique > (size_t)UINT16_MAX + 1) {
        uint32_t *wide = crackle_reserve_keep(&part->keys,
                                              (before + n) * sizeof *wide);
        if (!wide)
            return CRACKLE_NO_MEMORY;
        /* In place, from the last on. */
        const uint16_t *narrow = part->keys.data;
        for (size_t i = before; i-- > 0;) {
            uint16_t key;
            memcpy(&key, narrow + i, sizeof key);
            const uint32_t widened = key;
            memcpy(wide + i, &widened, sizeof widened);
        }
        part->wide_keys = true;
    }
    const size_t width = part->wide_keys ? 4 : 2;
    void *to = crackle_reserve_keep(&part->keys, (before + n) * width);
    if (!to)
        return CRACKLE_NO_MEMORY;
    if (part->wide_keys)
        memcpy((uint32_t *)to + before, keys, (size_t)n * 4);
    else
        for (uint32_t i = 0; i < n; i++)
            ((uint16_t *)to)[before + i] = (uint16_t)keys[i];
    part->num_keys += n;
    return CRACKLE_OK;
}

/* The key of each component of slice z. 'width' is params->data_width, as a
 * constant. */
CRACKLE_INLINE int labels_of_slice(const struct crackle_params *params,
                                   const void *labels, uint32_t z,
                                   unsigned width, struct crackle_part *part,
                                   const struct crackle_slice *slice,
                                   uint32_t *keys)
{
    const uint32_t sx = params->sx;
    uint64_t last = 0;
    uint32_t index = 0;
    for (uint32_t c = 0; c < slice->num_components; c++) {
        const uint32_t pixel = slice->run_start[slice->first_run[c]];
        uint64_t at = (uint64_t)z * sx * params->sy + pixel;
        if (params->c_order)
            at = offset_of(params, pixel % sx, pixel / sx, z);
        const uint64_t label = element(labels, width, params->is_signed, at);
        if (c == 0 || (label != last && !find_label(part, label, &index))) {
            int status = crackle_part_intern(part, label, &index);
            if (status)
                return status;
        }
        last = label;
        keys[c] = index;
    }
    return CRACKLE_OK;
}

/* Add the labels of slice z, whose bitmaps are in ws->slice, to 'part', and
 * make ready to trace it. 'equal' of its rows begin with the label before. */
static int encode_labels(const struct crackle_params *params,
                         const void *labels, uint32_t z, uint64_t equal,
                         int permissible, struct crackle_part *part,
                         struct crackle_workspace *ws,
                         struct crackle_trace *trace)
{
    const struct crackle_kernels *kernels = crackle_kernels();
    struct crackle_slice *slice = &ws->slice;
    struct coded_slice *coded = &part->slices[z - part->z0];
    kernels->find_runs(ws);
    part->pairs += (uint64_t)params->sx * params->sy - slice->num_runs + equal;
    const uint32_t n = slice->num_components;
    uint32_t *keys = crackle_reserve(&ws->values, (size_t)n * sizeof *keys);
    if (!keys)
        return CRACKLE_NO_MEMORY;
    coded->components = n;
    coded->crc = kernels->crc(ws);
    int status = CRACKLE_OK;
    switch (params->data_width) {
    case 1:
        status = labels_of_slice(params, labels, z, 1, part, slice, keys);
        break;
    case 2:
        status = labels_of_slice(params, labels, z, 2, part, slice, keys);
        break;
    case 4:
        status = labels_of_slice(params, labels, z, 4, part, slice, keys);
        break;
    default:
        status = labels_of_slice(params, labels, z, 8, part, slice, keys);
    }
    if (!status)
        status = crackle_part_add_keys(part, keys, n);
    if (status)
        return status;

    if (permissible)
        crackle_flip(slice);
    return kernels->trace_begin(ws, trace);
}

int crackle_part_trace(struct crackle_part *part, uint32_t z, uint32_t count,
                       struct crackle_workspace *ws)
{
    int status = crackle_kernels()->trace(ws->traces, count, ws->slice.sx + 1);
    for (uint32_t i = 0; i < count && !status; i++) {
        struct coded_slice *coded = &part->slices[z + i - part->z0];
        status = crackle_chains_pack(ws, &ws->traces[i], &part->code,
                                     &part->code_size, &coded->index_bytes,
                                     &coded->num_codes);
    }
    return status;
}

const char *crackle_params_fault(const struct crackle_params *params)
{
    unsigned w = params->data_width;
    if (w != 1 && w != 2 && w != 4 && w != 8)
        return "the data width is not 1, 2, 4 or 8";
    if (params->markov_order > CRACKLE_MAX_ORDER &&
        params->markov_order != CRACKLE_MARKOV_AUTO)
        return "the Markov order is above 15";
    return NULL;
}

struct crackle_part *crackle_part_new(const struct crackle_params *params,
                                      uint32_t z0, uint32_t z1,
                                      struct crackle_workspace *ws,
                                      struct crackle_error *error)
{
    const char *fault = crackle_params_fault(params);
    if (!fault && (z0 > z1 || z1 > params->sz))
        fault = "the z range is not in the volume";
    if (fault) {
        crackle_fail(error, CRACKLE_BAD_ARGUMENT, CRACKLE_SECTION_NONE, -1,
                     fault);
        return NULL;
    }
    if (((uint64_t)params->sx + 1) * ((uint64_t)params->sy + 1) >
        CRACKLE_MAX_VERTICES) {
        crackle_fail(error, CRACKLE_UNSUPPORTED, CRACKLE_SECTION_NONE, -1,
                     CRACKLE_TOO_MANY_VERTICES);
        return NULL;
    }
    if (sizeof(size_t) < 8 && (uint64_t)params->sx * params->sy * params->sz >
                                  CRACKLE_MAX_ENCODED_32) {
        crackle_fail(error, CRACKLE_UNSUPPORTED, CRACKLE_SECTION_NONE, -1,
                     "the volume is too large for 32-bit addresses");
        return NULL;
    }
    struct crackle_part *part = calloc(1, sizeof *part);
    const bool empty = params->sx == 0 || params->sy == 0;
    if (part) /* none are coded of slices without a voxel */
        part->slices = calloc(empty ? 1 : (size_t)(z1 - z0) + 1,
                              sizeof *part->slices);
    if (!part || !part->slices ||
        (!empty && (crackle_slice_reserve(ws, params->sx, params->sy, error) ||
                    crackle_crc_powers(ws, params->sx, params->sy, error)))) {
        crackle_part_free(part);
        CRACKLE_NOMEM(error);
        return NULL;
    }
    part->z0 = z0;
    part->z1 = z1;
    return part;
}

struct crackle_part *crackle_part_failed(struct crackle_part *part, int status,
                                         uint32_t z,
                                         struct crackle_error *error)
{
    crackle_part_free(part);
    crackle_fail(error, status, CRACKLE_SECTION_NONE,
                 status == CRACKLE_NO_MEMORY ? -1 : (int64_t)z,
                 status == CRACKLE_NO_MEMORY ? "out of memory"
                                             : "a slice has too many borders");
    return NULL;
}

struct crackle_part *crackle_encode_part(const struct crackle_params *params,
                                         const void *labels, uint32_t z0,
                                         uint32_t z1, int permissible,
                                         struct crackle_workspace *ws,
                                         struct crackle_error *error)
{
    struct crackle_part *part = crackle_part_new(params, z0, z1, ws, error);
    if (!part || params->sx == 0 || params->sy == 0)
        return part;
    int status = CRACKLE_OK;
    uint32_t z = z0;
    struct crackle_slice *slice = &ws->slice;
    uint32_t waiting = 0; /* slices to trace */
    uint64_t equal[CRACKLE_LINE];
    while (z < z1 && !status) {
        uint32_t depth = 1;
        if (params->c_order)
            depth = crackle_block_depth(labels, params->data_width, z);
        depth = depth < z1 - z ? depth : z1 - z;
        if (params->c_order)
            status = compare_block(params, labels, z, depth, ws, equal);
        else
            equal[0] = compare_slice(params, labels, z, slice);
        for (uint32_t k = 0; k < depth && !status; k++, z++) {
            if (params->c_order) {
                size_t bitmap = (size_t)slice->words * slice->sy;
                slice->left = (uint64_t *)ws->block.data +
                              (size_t)2 * k * bitmap;
                slice->above = slice->left + bitmap;
            }
            status = encode_labels(params, labels, z, equal[k], permissible,
                                   part, ws, &ws->traces[waiting++]);
            const bool large = ws->traces[0].codes.size > CRACKLE_LARGE_TRACE;
            if (!status && (waiting == 2 || z + 1 == z1 || large)) {
                status = crackle_part_trace(part, z + 1 - waiting, waiting,
                                            ws);
                waiting = 0;
            }
        }
    }
    return status ? crackle_part_failed(part, status, z, error) : part;
}
