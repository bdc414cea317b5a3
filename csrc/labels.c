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
    const uint8_t *counts = crackle_take_items(section, header->sz, width);
    if (!counts)
        return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_LABELS,
                            -1, "there is no component count for each slice");
    uint64_t *first = malloc(((size_t)header->sz + 1) * sizeof *first);
    if (!first)
        return CRACKLE_NOMEM(error);
    stream->first_component = first;
    first[0] = 0;
    for (uint32_t z = 0; z < header->sz; z++) {
        uint64_t n = crackle_load(counts + (size_t)z * width, width);
        if (n == 0 || n > pixels)
            return crackle_fail(error, CRACKLE_CORRUPT,
                                CRACKLE_SECTION_LABELS, z,
                                "a slice has no components, or more than "
                                "pixels");
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
        return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_LABELS,
                            -1, "there is no number of labels");
    stream->num_unique = crackle_load64(p);
    stream->unique = crackle_take_items(&section, stream->num_unique,
                                        header->stored_width);
    if (!stream->unique)
        return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_LABELS,
                            -1, "the table of labels is cut off");
    int status = crackle_component_counts(stream, &section, error);
    if (status)
        return status;
    stream->key_width = crackle_width(stream->num_unique);
    stream->keys = crackle_take_items(
        &section, stream->first_component[header->sz], stream->key_width);
    if (!stream->keys || crackle_left(&section))
        return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_LABELS,
                            -1, "the keys are not one for each component");
    return CRACKLE_OK;
}

static int bad_key(uint32_t z, struct crackle_error *error)
{
    return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_LABELS, z,
                        "a component's key is not in the table of labels");
}

/* Entry k of the table of unique labels, sign-extended if signed; k equal to
 * their number is the background of a stream with pins. */
CRACKLE_INLINE uint64_t label_at(const struct crackle_stream *stream,
                                 uint64_t k)
{
    unsigned width = stream->header.stored_width;
    uint64_t v = crackle_load(k < stream->num_unique
                                  ? stream->unique + k * width
                                  : stream->background,
                              width);
    return stream->header.is_signed ? crackle_sign_extend(v, width) : v;
}

/* One loop for each width of key and value. */
#define CRACKLE_KEYED(TYPE, KEY_WIDTH, VALUE)                                 \
    for (uint32_t i = 0; i < n; i++) {                                        \
        uint64_t k = crackle_load(keys + (size_t)i * KEY_WIDTH, KEY_WIDTH);   \
        if (CRACKLE_UNLIKELY(k >= limit))                                     \
            return bad_key(z, error);                                         \
        ((TYPE *)values)[i] = (TYPE)(VALUE);                                  \
    }
#define CRACKLE_KEYED_BY(TYPE, VALUE)                                         \
    switch (key_width) {                                                      \
    case 1:                                                                   \
        CRACKLE_KEYED(TYPE, 1, VALUE)                                         \
        break;                                                                \
    case 2:                                                                   \
        CRACKLE_KEYED(TYPE, 2, VALUE)                                         \
        break;                                                                \
    case 4:                                                                   \
        CRACKLE_KEYED(TYPE, 4, VALUE)                                         \
        break;                                                                \
    default:                                                                  \
        CRACKLE_KEYED(TYPE, 8, VALUE)                                         \
    }

int crackle_labels_of_slice(const struct crackle_stream *stream,
                            const struct crackle_slice *slice, uint32_t z,
                            const uint64_t *label, void *values,
                            struct crackle_error *error)
{
    const uint32_t n = slice->num_components;
    const uint8_t *keys;
    unsigned key_width = stream->key_width;
    uint64_t limit = stream->num_unique;
    uint64_t *pinned = NULL;
    int status = CRACKLE_OK;

    if (stream->keys) {
        keys = stream->keys + stream->first_component[z] * key_width;
    } else {
        pinned = malloc((size_t)n * sizeof *pinned);
        if (!pinned)
            return CRACKLE_NOMEM(error);
        status = crackle_pins_of_slice(stream, slice, z, pinned, error);
        if (status) {
            free(pinned);
            return status;
        }
        for (uint32_t i = 0; CRACKLE_BIG_ENDIAN && i < n; i++)
            pinned[i] = crackle_swap64(pinned[i]);
        keys = (const uint8_t *)pinned;
        key_width = 8;
        limit++; /* the background */
    }
    if (label) {
        uint64_t wanted = *label;
        CRACKLE_KEYED_BY(uint8_t, label_at(stream, k) == wanted)
    } else {
        switch (stream->header.data_width) {
        case 1:
            CRACKLE_KEYED_BY(uint8_t, label_at(stream, k))
            break;
        case 2:
            CRACKLE_KEYED_BY(uint16_t, label_at(stream, k))
            break;
        case 4:
            CRACKLE_KEYED_BY(uint32_t, label_at(stream, k))
            break;
        default:
            CRACKLE_KEYED_BY(uint64_t, label_at(stream, k))
        }
    }
    free(pinned);
    return status;
}

const uint8_t *crackle_unique(const struct crackle_stream *stream,
                              uint64_t *count, const uint8_t **background)
{
    *count = stream->num_unique;
    *background = stream->background;
    return stream->unique;
}

int crackle_labels_in(const struct crackle_stream *stream, uint32_t z0,
                      uint32_t z1, uint8_t *used, uint64_t *components,
                      int *exact, struct crackle_error *error)
{
    if (z0 > z1 || z1 > stream->header.sz)
        return crackle_fail(error, CRACKLE_BAD_ARGUMENT, CRACKLE_SECTION_NONE,
                            -1, "the z range is not in the volume");
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
    for (size_t i = z0 < z1 ? crackle_first_pin(stream, z0) : 0;
         used && i < stream->num_pins && stream->pins[i].z < z1; i++)
        if ((uint64_t)stream->pins[i].z + stream->pins[i].depth >= z0)
            used[stream->pins[i].label] = 1;
    return CRACKLE_OK;
}

int crackle_slices_with(const struct crackle_stream *stream, uint64_t label,
                        uint32_t z0, uint32_t z1, uint8_t *flags, int *exact,
                        struct crackle_error *error)
{
    if (z0 > z1 || z1 > stream->header.sz)
        return crackle_fail(error, CRACKLE_BAD_ARGUMENT, CRACKLE_SECTION_NONE,
                            -1, "the z range is not in the volume");
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
        memset(flags, label_at(stream, n) == label, z1 - z0);
        for (size_t i = 0; times && i < stream->num_singles; i++) {
            const struct crackle_single *single = &stream->singles[i];
            if (label_at(stream, single->label) != label)
                continue;
            for (uint32_t z = z0; z < z1; z++)
                if (single->component < stream->first_component[z + 1]) {
                    flags[z - z0] |=
                        single->component >= stream->first_component[z];
                    break;
                }
        }
        for (size_t i = 0; times && i < stream->num_pins; i++) {
            const struct crackle_pin *pin = &stream->pins[i];
            if (label_at(stream, pin->label) != label)
                continue;
            uint32_t end = pin->z + pin->depth + 1;
            for (uint32_t z = pin->z > z0 ? pin->z : z0; z < z1 && z < end;
                 z++)
                flags[z - z0] = 1;
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
