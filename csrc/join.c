/* From coded slices to a stream: the table of labels, the Markov model, the
 * sections. */
#include "part.h"

#include <stdlib.h>

void crackle_free(void *pointer)
{
    free(pointer);
}

/* The labels of all parts, sorted, each once; and for each part the place of
 * its labels among them. */
struct label_table {
    struct crackle_item *items; /* key: the label, made to sort unsigned */
    size_t num_unique;
    uint32_t **ranks;
    uint64_t flip; /* xor between key and label */
};

static int label_table_make(const struct crackle_params *params,
                            struct crackle_part *const *parts, size_t count,
                            struct label_table *table)
{
    size_t total = 0;
    for (size_t i = 0; i < count; i++)
        total += parts[i]->num_unique;
    table->flip = params->is_signed ? (uint64_t)1 << 63 : 0;
    table->items = malloc((2 * total + 1) * sizeof *table->items);
    table->ranks = calloc(count + 1, sizeof *table->ranks);
    if (!table->items || !table->ranks || total > UINT32_MAX)
        return CRACKLE_NO_MEMORY;
    struct crackle_item *items = table->items;
    uint32_t *ranks = malloc((total + 1) * sizeof *ranks);
    if (!ranks)
        return CRACKLE_NO_MEMORY;
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        const uint64_t *unique = parts[i]->unique.data;
        table->ranks[i] = ranks + n;
        for (size_t j = 0; j < parts[i]->num_unique; j++, n++) {
            items[n].key = unique[j] ^ table->flip;
            items[n].value = (uint32_t)n;
        }
    }
    crackle_sort(items, items + n, n);
    size_t unique = 0;
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || items[i].key != items[unique - 1].key)
            items[unique++].key = items[i].key;
        ranks[items[i].value] = (uint32_t)(unique - 1);
    }
    table->num_unique = unique;
    return CRACKLE_OK;
}

static void label_table_free(struct label_table *table)
{
    if (table->ranks)
        free(table->ranks[0]);
    free(table->ranks);
    free(table->items);
}

/* The width that holds every label. */
static unsigned stored_width(const struct crackle_params *params,
                             const struct label_table *table)
{
    uint64_t low = table->items[0].key ^ table->flip;
    uint64_t high = table->items[table->num_unique - 1].key ^ table->flip;
    if (!params->is_signed)
        return crackle_width(high);
    /* Readers extend the sign. */
    for (unsigned width = 1; width < 8; width *= 2)
        if (crackle_sign_extend(low, width) == low &&
            crackle_sign_extend(high, width) == high)
            return width;
    return 8;
}

static void header_write(const struct crackle_params *params, int permissible,
                         unsigned stored, unsigned markov_order,
                         uint64_t label_bytes, uint8_t *p)
{
    unsigned format = crackle_width_log2(params->data_width) |
                      crackle_width_log2(stored) << 2 |
                      (permissible ? 1u << 4 : 0) | CRACKLE_LABELS_FLAT << 5 |
                      (params->fortran_order ? 1u << 7 : 0) |
                      (params->is_signed ? 1u << 8 : 0) | markov_order << 9 |
                      (params->remapped ? 1u << 14 : 0);
    static const uint8_t magic[5] = {'c', 'r', 'k', 'l', 1};
    memcpy(p, magic, sizeof magic);
    crackle_store(p + 5, format, 2);
    crackle_store(p + 7, params->sx, 4);
    crackle_store(p + 11, params->sy, 4);
    crackle_store(p + 15, params->sz, 4);
    p[19] = CRACKLE_GRID_LOG2;
    crackle_store(p + 20, label_bytes, 8);
    p[28] = crackle_crc8(p + 5, 23);
}

/* Write keys of 'width' bytes: 1, 2 or 4, as there are less than 2^32. */
static uint8_t *keys_write(const struct crackle_part *part,
                           const uint32_t *ranks, unsigned width, uint8_t *p)
{
    const size_t n = part->num_keys;
    switch (width) {
    case 1:
        for (size_t i = 0; i < n; i++)
            p[i] = (uint8_t)ranks[crackle_part_key(part, i)];
        break;
    case 2:
        for (size_t i = 0; i < n; i++)
            crackle_store(p + 2 * i, ranks[crackle_part_key(part, i)], 2);
        break;
    default:
        for (size_t i = 0; i < n; i++)
            crackle_store(p + 4 * i, ranks[crackle_part_key(part, i)], 4);
    }
    return p + n * width;
}

/* The slices of all parts in turn: their moves, and where their code is. */
struct slice_list {
    struct crackle_packed *packed;
    const uint8_t **code;
    const struct coded_slice **coded;
};

static int slice_list_make(struct crackle_part *const *parts, size_t count,
                           uint32_t sz, struct slice_list *list)
{
    list->packed = malloc(sz * sizeof *list->packed + 1);
    list->code = malloc(sz * sizeof *list->code + 1);
    list->coded = malloc(sz * sizeof *list->coded + 1);
    if (!list->packed || !list->code || !list->coded)
        return CRACKLE_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const uint8_t *p = parts[i]->code.data;
        for (uint32_t z = parts[i]->z0; z < parts[i]->z1; z++) {
            const struct coded_slice *c = &parts[i]->slices[z - parts[i]->z0];
            list->coded[z] = c;
            list->code[z] = p;
            list->packed[z].data = p + c->index_bytes;
            list->packed[z].num_codes = c->num_codes;
            p += c->index_bytes + (c->num_codes + 3) / 4;
        }
    }
    return CRACKLE_OK;
}

static void slice_list_free(struct slice_list *list)
{
    free(list->packed);
    free(list->code);
    free(list->coded);
}

/* Everything behind the header: to be freed is what was made on the way. */
static int join(const struct crackle_params *params,
                struct crackle_part *const *parts, size_t count,
                int permissible, const struct label_table *table,
                const struct slice_list *list, uint8_t **stream, size_t *size,
                struct crackle_markov *markov)
{
    const uint32_t sz = params->sz;
    const unsigned stored = stored_width(params, table);
    const unsigned key_width = crackle_width(table->num_unique);
    const unsigned count_width =
        crackle_width((uint64_t)params->sx * params->sy);
    uint64_t components = 0, codes = 0;
    for (uint32_t z = 0; z < sz; z++) {
        components += list->coded[z]->components;
        codes += list->coded[z]->num_codes;
    }
    if (crackle_markov_make(markov, list->packed, sz,
                            codes ? params->markov_order : 0))
        return CRACKLE_NO_MEMORY;
    const unsigned order = markov->order;
    const uint64_t label_bytes = 8 + table->num_unique * stored +
                                 (uint64_t)sz * count_width +
                                 components * key_width;
    const uint64_t model_bytes = crackle_model_bytes(order);
    /* With a model, how many bytes the moves take is known once they are
     * written; what isn't used of the room costs nothing. */
    uint64_t crack_bytes = 0;
    for (uint32_t z = 0; z < sz; z++) {
        uint64_t n = list->coded[z]->num_codes;
        crack_bytes += list->coded[z]->index_bytes +
                       (order ? crackle_markov_room(n) : (n + 3) / 4);
    }

    uint64_t total = CRACKLE_V1_HEADER_BYTES + (uint64_t)sz * 4 + 4 +
                     label_bytes + model_bytes + crack_bytes + 4 +
                     (uint64_t)sz * 4;
    if (total > SIZE_MAX)
        return CRACKLE_NO_MEMORY;
    uint8_t *begin = malloc((size_t)total), *p = begin;
    if (!begin)
        return CRACKLE_NO_MEMORY;
    *stream = begin;
    header_write(params, permissible, stored, order, label_bytes, p);
    p += CRACKLE_V1_HEADER_BYTES;
    uint8_t *index = p;
    p += (size_t)sz * 4 + 4;

    uint8_t *labels = p;
    p = crackle_store(p, table->num_unique, 8);
    for (size_t i = 0; i < table->num_unique; i++)
        p = crackle_store(p, table->items[i].key ^ table->flip, stored);
    for (uint32_t z = 0; z < sz; z++)
        p = crackle_store(p, list->coded[z]->components, count_width);
    for (size_t i = 0; i < count; i++)
        p = keys_write(parts[i], table->ranks[i], key_width, p);
    uint32_t labels_crc = crackle_crc32c(0, labels, (size_t)(p - labels));

    if (order) {
        memcpy(p, markov->model, (size_t)model_bytes);
        p += model_bytes;
    }
    for (uint32_t z = 0; z < sz; z++) {
        const uint32_t index_bytes = list->coded[z]->index_bytes;
        uint64_t moves_bytes = (list->coded[z]->num_codes + 3) / 4;
        memcpy(p, list->code[z], index_bytes);
        if (order)
            moves_bytes = crackle_markov_write(markov, &list->packed[z],
                                               p + index_bytes);
        else
            memcpy(p + index_bytes, list->packed[z].data, (size_t)moves_bytes);
        if (index_bytes + moves_bytes > UINT32_MAX)
            return CRACKLE_UNSUPPORTED;
        crackle_store(index + 4 * (size_t)z, index_bytes + moves_bytes, 4);
        p += index_bytes + moves_bytes;
    }
    crackle_store(index + 4 * (size_t)sz,
                  crackle_crc32c(0, index, (size_t)sz * 4), 4);
    p = crackle_store(p, labels_crc, 4);
    for (uint32_t z = 0; z < sz; z++)
        p = crackle_store(p, list->coded[z]->crc, 4);
    *size = (size_t)(p - begin);
    return CRACKLE_OK;
}

int crackle_join(const struct crackle_params *params,
                 struct crackle_part *const *parts, size_t count,
                 int permissible, uint8_t **stream, size_t *size,
                 struct crackle_error *error)
{
    *stream = NULL;
    *size = 0;
    const char *fault = crackle_params_fault(params);
    uint32_t z = 0;
    for (size_t i = 0; i < count; i++) {
        if (parts[i]->z0 != z)
            fault = "the parts do not cover the volume in order";
        z = parts[i]->z1;
    }
    if (z != params->sz)
        fault = "the parts do not cover the volume in order";
    if (fault)
        return crackle_fail(error, CRACKLE_BAD_ARGUMENT, CRACKLE_SECTION_NONE,
                            -1, fault);
    if (params->sx == 0 || params->sy == 0 || params->sz == 0) {
        *stream = malloc(CRACKLE_V1_HEADER_BYTES);
        if (!*stream)
            return CRACKLE_NOMEM(error);
        *size = CRACKLE_V1_HEADER_BYTES;
        header_write(params, 0, 1, 0, 0, *stream);
        return CRACKLE_OK;
    }
    uint64_t pairs = 0;
    for (size_t i = 0; i < count; i++)
        pairs += parts[i]->pairs;
    uint64_t voxels = (uint64_t)params->sx * params->sy * params->sz;
    if (!params->any_format && (pairs < voxels / 2) != (permissible != 0))
        return CRACKLE_OK;

    struct label_table table = {NULL, 0, NULL, 0};
    struct slice_list list = {NULL, NULL, NULL};
    struct crackle_markov markov = {0, NULL, NULL, NULL};
    int status = label_table_make(params, parts, count, &table);
    if (!status)
        status = slice_list_make(parts, count, params->sz, &list);
    if (!status)
        status = join(params, parts, count, permissible, &table, &list, stream,
                      size, &markov);
    crackle_markov_free(&markov);
    slice_list_free(&list);
    label_table_free(&table);
    if (status) {
        free(*stream);
        *stream = NULL;
        return crackle_fail(error, status, CRACKLE_SECTION_NONE, -1,
                            status == CRACKLE_NO_MEMORY
                                ? "out of memory"
                                : "a slice's crack code is over 4 GiB");
    }
    return CRACKLE_OK;
}
