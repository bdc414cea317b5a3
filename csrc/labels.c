/* The label section: which label each component has. */
#include "internal.h"

#include <stdlib.h>

int crackle_component_counts(struct crackle_stream *stream,
                             struct crackle_reader *section,
                             struct crackle_error *error)
{
    const struct crackle_header *header = &stream->header;
    const uint64_t pixels = (uint64_t)header->sx * header->sy;
    const unsigned width = crackle_width(pixels);
    const bool keyed = header->label_format == CRACKLE_LABELS_FLAT;
    const uint8_t *counts = crackle_take_items(section, header->sz, width);
    if (!counts)
        return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_LABELS, -1,
                            "there is no component count for each slice");
    uint64_t *first = malloc(((size_t)header->sz + 1) * sizeof *first);
    if (!first)
        return CRACKLE_NOMEM(error);
    stream->first_component = first;
    first[0] = 0;
    for (uint32_t z = 0; z < header->sz; z++) {
        uint64_t n = crackle_load(counts + (size_t)z * width, width);
        if (n == 0 || n > pixels)
            return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_LABELS,
                                z,
                                "a slice has no components, or more than "
                                "pixels");
        /* Flat labels have a key for each. Pins name nothing of those of the
         * background, but no writer has more of them than this: each lies
         * beside one that is named, by two bytes at least, or is bordered by
         * moves. */
        if (!keyed && n > 65536 + 8 * (uint64_t)stream->size)
            return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_LABELS,
                                z,
                                "a slice has more components than a stream of "
                                "this length can tell apart");
        first[z + 1] = first[z] + n; /* at most 2^30 * 2^32 */
    }
    return CRACKLE_OK;
}

int crackle_labels_open(struct crackle_stream *stream,
                        struct crackle_reader section,
                        struct crackle_error *error)
{
    const struct crackle_header *header = &stream->header;
    if (header->label_format == CRACKLE_LABELS_PINS)
        return crackle_pins_open(stream, section, error);

    const uint8_t *p = crackle_take(&section, 8);
    if (!p)
        return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_LABELS, -1,
                            "there is no number of labels");
    stream->num_unique = crackle_load64(p);
    stream->unique = crackle_take_items(&section, stream->num_unique,
                                        header->stored_width);
    if (!stream->unique)
        return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_LABELS, -1,
                            "the table of labels is cut off");
    int status = crackle_component_counts(stream, &section, error);
    if (status)
        return status;
    stream->key_width = crackle_width(stream->num_unique);
    stream->keys = crackle_take_items(
        &section, stream->first_component[header->sz], stream->key_width);
    if (!stream->keys || crackle_left(&section))
        return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_LABELS, -1,
                            "the keys are not one for each component");
    return CRACKLE_OK;
}

static int bad_key(uint32_t z, struct crackle_error *error)
{
    return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_LABELS, z,
                        "a component's key is not in the table of labels");
}

/* Entry k of the table of unique labels as the array has it; k equal to their
 * number is the background of a stream with pins. */
CRACKLE_INLINE uint64_t label_at(const struct crackle_stream *stream,
                                 uint64_t k)
{
    unsigned width = stream->header.stored_width;
    uint64_t v = crackle_load(k < stream->num_unique
                                  ? stream->unique + k * width
                                  : stream->background,
                              width);
    return crackle_label(stream, v);
}

/* The same as crackle_labels_of_slice for a stream with pins. */
static int pinned_values(const struct crackle_stream *stream,
                         const struct crackle_slice *slice, uint32_t z,
                         const uint64_t *label, unsigned width, void *values,
                         struct crackle_error *error)
{
    const uint32_t n = slice->num_components;
    uint64_t *keys = malloc((size_t)n * sizeof *keys);
    if (!keys)
        return CRACKLE_NOMEM(error);
    int status = crackle_pins_of_slice(stream, slice, z, keys, error);
    for (uint32_t i = 0; i < n && !status; i++) {
        uint64_t v = label_at(stream, keys[i]);
        if (label)
            v = v == *label;
        switch (width) {
        case 1:
            ((uint8_t *)values)[i] = (uint8_t)v;
            break;
        case 2:
            ((uint16_t *)values)[i] = (uint16_t)v;
            break;
        case 4:
            ((uint32_t *)values)[i] = (uint32_t)v;
            break;
        default:
            ((uint64_t *)values)[i] = v;
        }
    }
    free(keys);
    return status;
}

/* Components whose keys are read, and then their values, at a time. */
#define CRACKLE_KEYS 1024u

/* The keys of 'n' components to 'keys'. Returns whether all are below
 * 'limit', which is less than 2^63: it is a number of labels in memory. */
static bool keys_read(const uint8_t *p, unsigned width, uint32_t n,
                      uint64_t limit, uint64_t *keys)
{
    uint64_t beyond = 0; /* its highest bit: a key is */
#define CRACKLE_READ_KEYS(WIDTH)                                              \
    for (uint32_t i = 0; i < n; i++) {                                        \
        keys[i] = crackle_load(p + (size_t)i * (WIDTH), WIDTH);               \
        beyond |= keys[i] | (limit - 1 - keys[i]);                            \
    }
    switch (width) {
    case 1:
        CRACKLE_READ_KEYS(1)
        break;
    case 2:
        CRACKLE_READ_KEYS(2)
        break;
    case 4:
        CRACKLE_READ_KEYS(4)
        break;
    default:
        CRACKLE_READ_KEYS(8)
    }
    return beyond >> 63 == 0;
}

/* The values of 'n' keys, all in the table, to 'values': labels of 'width'
 * bytes, or bytes that tell whether they are '*wanted'. */
static void values_read(const struct crackle_stream *stream,
                        const uint64_t *keys, uint32_t n, unsigned width,
                        const uint64_t *wanted, void *values)
{
    const uint8_t *unique = stream->unique;
    const unsigned stored = stream->header.stored_width;
    /* One loop for each width of label and value. */
#define CRACKLE_VALUES(TYPE, STORED, VALUE)                                   \
    for (uint32_t i = 0; i < n; i++) {                                        \
        const uint64_t v = crackle_label(                                     \
            stream, crackle_load(unique + keys[i] * (STORED), STORED));       \
        ((TYPE *)values)[i] = (TYPE)(VALUE);                                  \
    }
#define CRACKLE_VALUES_OF(TYPE, VALUE)                                        \
    switch (stored) {                                                         \
    case 1:                                                                   \
        CRACKLE_VALUES(TYPE, 1, VALUE)                                        \
        break;                                                                \
    case 2:                                                                   \
        CRACKLE_VALUES(TYPE, 2, VALUE)                                        \
        break;                                                                \
    case 4:                                                                   \
        CRACKLE_VALUES(TYPE, 4, VALUE)                                        \
        break;                                                                \
    default:                                                                  \
        CRACKLE_VALUES(TYPE, 8, VALUE)                                        \
    }
    if (wanted) {
        CRACKLE_VALUES_OF(uint8_t, v == *wanted)
    } else {
        switch (width) {
        case 1:
            CRACKLE_VALUES_OF(uint8_t, v)
            break;
        case 2:
            CRACKLE_VALUES_OF(uint16_t, v)
            break;
        case 4:
            CRACKLE_VALUES_OF(uint32_t, v)
            break;
        default:
            CRACKLE_VALUES_OF(uint64_t, v)
        }
    }
}

int crackle_labels_of_slice(const struct crackle_stream *stream,
                            const struct crackle_slice *slice, uint32_t z,
                            const uint64_t *label, void *values,
                            struct crackle_error *error)
{
    const unsigned width = label ? 1 : stream->header.data_width;
    const uint32_t n = slice->num_components;
    if (!stream->keys)
        return pinned_values(stream, slice, z, label, width, values, error);
    const unsigned key_width = stream->key_width;
    const uint8_t *p = stream->keys + stream->first_component[z] * key_width;
    uint64_t keys[CRACKLE_KEYS];
    for (uint32_t i = 0; i < n; i += CRACKLE_KEYS) {
        uint32_t count = n - i < CRACKLE_KEYS ? n - i : CRACKLE_KEYS;
        if (!keys_read(p + (size_t)i * key_width, key_width, count,
                       stream->num_unique, keys))
            return bad_key(z, error);
        values_read(stream, keys, count, width, label,
                    (uint8_t *)values + (size_t)i * width);
    }
    return CRACKLE_OK;
}

int crackle_groups_of_slice(const struct crackle_stream *stream,
                            const struct crackle_slice *slice, uint32_t z,
                            const uint32_t *group, uint32_t *out,
                            struct crackle_error *error)
{
    const uint32_t n = slice->num_components;
    if (stream->num_unique >= UINT32_MAX)
        return crackle_fail(error, CRACKLE_UNSUPPORTED, CRACKLE_SECTION_LABELS,
                            -1, "there are 2^32 labels or more");
    if (!stream->keys) {
        uint64_t *keys = malloc((size_t)n * sizeof *keys);
        if (!keys)
            return CRACKLE_NOMEM(error);
        int status = crackle_pins_of_slice(stream, slice, z, keys, error);
        for (uint32_t c = 0; c < n && !status; c++)
            out[c] = group ? group[keys[c]] : (uint32_t)keys[c];
        free(keys);
        return status;
    }
    const unsigned width = stream->key_width;
    const uint8_t *p = stream->keys + stream->first_component[z] * width;
    uint64_t keys[CRACKLE_KEYS];
    for (uint32_t i = 0; i < n; i += CRACKLE_KEYS) {
        uint32_t count = n - i < CRACKLE_KEYS ? n - i : CRACKLE_KEYS;
        if (!keys_read(p + (size_t)i * width, width, count, stream->num_unique,
                       keys))
            return bad_key(z, error);
        for (uint32_t c = 0; c < count; c++)
            out[i + c] = group ? group[keys[c]] : (uint32_t)keys[c];
    }
    return CRACKLE_OK;
}

const uint8_t *crackle_unique(const struct crackle_stream *stream,
                              uint64_t *count, const uint8_t **background)
{
    *count = stream->num_unique;
    *background = stream->background;
    return stream->unique;
}

int crackle_range_check(const struct crackle_stream *stream, uint32_t z0,
                        uint32_t z1, struct crackle_error *error)
{
    const struct crackle_header *header = &stream->header;
    if (z0 > z1 || z1 > header->sz)
        return crackle_fail(error, CRACKLE_BAD_ARGUMENT, CRACKLE_SECTION_NONE,
                            -1, "the z range is not in the volume");
    if (!stream->first_component && header->sx && header->sy && header->sz)
        return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_LABELS, -1,
                            "the label section is damaged");
    return CRACKLE_OK;
}

int crackle_labels_in(const struct crackle_stream *stream, uint32_t z0,
                      uint32_t z1, uint8_t *used, uint64_t *components,
                      int *exact, struct crackle_error *error)
{
    int status = crackle_range_check(stream, z0, z1, error);
    if (status)
        return status;
    *exact = 1;
    *components = 0;
    if (!stream->first_component) /* no voxels */
        return CRACKLE_OK;
    *components = stream->first_component[z1] - stream->first_component[z0];
    if (stream->keys) {
        const unsigned width = stream->key_width;
        for (uint32_t z = z0; used && z < z1; z++) {
            uint64_t end = stream->first_component[z + 1];
            for (uint64_t i = stream->first_component[z]; i < end; i++) {
                uint64_t k = crackle_load(stream->keys + i * width, width);
                if (k >= stream->num_unique)
                    return bad_key(z, error);
                used[k] = 1;
            }
        }
        return CRACKLE_OK;
    }
    *exact = 0;
    for (uint32_t z = z0; used && z < z1; z++) {
        size_t end, i = crackle_first_single(stream, z, &end);
        for (; i < end; i++)
            used[stream->singles[i].label] = 1;
    }
    for (size_t i = crackle_next_pin(stream, 0, z0);
         used && i < stream->num_pins && stream->pins[i].z < z1;
         i = crackle_next_pin(stream, i + 1, z0))
        used[stream->pins[i].label] = 1;
    return CRACKLE_OK;
}

int crackle_slices_with(const struct crackle_stream *stream, uint64_t label,
                        uint32_t z0, uint32_t z1, uint8_t *flags, int *exact,
                        struct crackle_error *error)
{
    int status = crackle_range_check(stream, z0, z1, error);
    if (status)
        return status;
    *exact = stream->keys != NULL;
    memset(flags, 0, z1 - z0);
    if (!stream->first_component)
        return CRACKLE_OK;

    /* An edited table may hold the label more than once. */
    const uint64_t n = stream->num_unique;
    uint64_t first = n, times = 0;
    for (uint64_t k = 0; k < n; k++)
        if (label_at(stream, k) == label) {
            first = times ? first : k;
            times++;
        }
    if (!stream->keys) {
        uint32_t at = z0;
        memset(flags, label_at(stream, n) == label, z1 - z0);
        for (size_t i = 0; times && i < stream->num_singles; i++) {
            const struct crackle_single *single = &stream->singles[i];
            if (label_at(stream, single->label) != label)
                continue;
            while (at < z1 &&
                   single->component >= stream->first_component[at + 1])
                at++;
            if (at == z1)
                break; /* components ascend */
            flags[at - z0] |= single->component >= stream->first_component[at];
        }
        /* The slices before this one are done: starts ascend. */
        at = z0;
        for (size_t i = 0; times && i < stream->num_pins && at < z1; i++) {
            const struct crackle_pin *pin = &stream->pins[i];
            if (label_at(stream, pin->label) != label)
                continue;
            const uint32_t end = pin->z + pin->depth + 1;
            at = pin->z > at ? pin->z : at;
            for (; at < z1 && at < end; at++)
                flags[at - z0] = 1;
        }
        return CRACKLE_OK;
    }
    const unsigned width = stream->key_width;
    for (uint32_t z = z0; times && z < z1; z++) {
        uint64_t end = stream->first_component[z + 1];
        for (uint64_t i = stream->first_component[z]; i < end; i++) {
            uint64_t k = crackle_load(stream->keys + i * width, width);
            if (k == first ||
                (times > 1 && k < n && label_at(stream, k) == label)) {
                flags[z - z0] = 1;
                break;
            }
        }
    }
    return CRACKLE_OK;
}
