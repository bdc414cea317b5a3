/* Condensed pins: labels given by vertical lines through components, by
 * single components, and by default. */
#include "internal.h"

#include <stdlib.h>

#define CRACKLE_NO_LABEL UINT64_MAX

static int cut_off(struct crackle_error *error)
{
    return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_LABELS, -1,
                        "the pins are cut off");
}

static int by_z(const void *a, const void *b)
{
    const struct crackle_pin *p = a, *q = b;
    return (p->z > q->z) - (p->z < q->z);
}

static int by_column(const void *a, const void *b)
{
    const struct crackle_pin *p = a, *q = b;
    return p->pixel != q->pixel ? (p->pixel > q->pixel ? 1 : -1) : by_z(a, b);
}

/* Of several that name a component, the first label counts. */
static int by_component(const void *a, const void *b)
{
    const struct crackle_single *p = a, *q = b;
    return p->component != q->component
               ? (p->component > q->component ? 1 : -1)
               : (p->label > q->label) - (p->label < q->label);
}

/*
 * Make one of pins of a column that overlap. Writers make none such: but a
 * stream could have each of its pins reach through all slices, and pins that
 * lie apart colour no more voxels than there are.
 */
static int merge_columns(struct crackle_stream *stream,
                         struct crackle_error *error)
{
    struct crackle_pin *pins = stream->pins;
    size_t n = 0;
    qsort(pins, stream->num_pins, sizeof *pins, by_column);
    for (size_t i = 0; i < stream->num_pins; i++) {
        struct crackle_pin *last = n ? &pins[n - 1] : NULL;
        if (!last || last->pixel != pins[i].pixel ||
            pins[i].z - last->z > last->depth) {
            pins[n++] = pins[i];
            continue;
        }
        if (last->label != pins[i].label)
            return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_LABELS,
                                pins[i].z,
                                "two pins give a component two labels");
        const uint32_t depth = pins[i].z - last->z + pins[i].depth;
        last->depth = depth > last->depth ? depth : last->depth;
    }
    stream->num_pins = n;
    return CRACKLE_OK;
}

/*
 * Which pins of all those that begin before a slice reach it? Their last
 * slices, plus 1, are the leaves of a binary tree in which each node has the
 * largest of its two: node i's are 2i and 2i + 1, the root is 1.
 */
static int pin_ends_make(struct crackle_stream *stream,
                         struct crackle_error *error)
{
    size_t leaves = 1;
    while (leaves < stream->num_pins)
        leaves *= 2;
    uint32_t *ends = calloc(2 * leaves, sizeof *ends);
    if (!ends)
        return CRACKLE_NOMEM(error);
    stream->pin_ends = ends;
    stream->pin_leaves = leaves;
    for (size_t i = 0; i < stream->num_pins; i++) /* at most sz */
        ends[leaves + i] = stream->pins[i].z + stream->pins[i].depth + 1;
    for (size_t i = leaves - 1; i > 0; i--)
        ends[i] = ends[2 * i] > ends[2 * i + 1] ? ends[2 * i]
                                                : ends[2 * i + 1];
    return CRACKLE_OK;
}

int crackle_pins_open(struct crackle_stream *stream,
                      struct crackle_reader section,
                      struct crackle_error *error)
{
    const struct crackle_header *header = &stream->header;
    const uint64_t pixels = (uint64_t)header->sx * header->sy;
    const uint64_t voxels = pixels * header->sz;
    const uint8_t *p = crackle_take(&section, header->stored_width + 8u);
    if (!p)
        return cut_off(error);
    stream->background = p;
    stream->num_unique = crackle_load64(p + header->stored_width);
    stream->unique = crackle_take_items(&section, stream->num_unique,
                                        header->stored_width);
    if (!stream->unique)
        return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_LABELS, -1,
                            "the table of labels is cut off");
    int status = crackle_component_counts(stream, &section, error);
    if (status)
        return status;
    p = crackle_take(&section, 1);
    if (!p)
        return cut_off(error);
    if (*p >> 6)
        return crackle_fail(error, CRACKLE_UNSUPPORTED, CRACKLE_SECTION_LABELS,
                            -1, "a reserved bit of the pins is set");
    const unsigned count_width = 1u << (*p & 3);
    const unsigned depth_width = 1u << (*p >> 2 & 3);
    const unsigned id_width = 1u << (*p >> 4 & 3);
    const unsigned index_width = crackle_width(voxels);
    const uint64_t components = stream->first_component[header->sz];

    /* What is left of the section bounds how many there can be. */
    size_t left = crackle_left(&section);
    size_t pins_room = left / (index_width + depth_width) + 1;
    size_t singles_room = left / id_width + 1;
    struct crackle_pin *pins = malloc(pins_room * sizeof *pins);
    struct crackle_single *singles = malloc(singles_room * sizeof *singles);
    stream->pins = pins;
    stream->singles = singles;
    if (!pins || !singles)
        return CRACKLE_NOMEM(error);
    size_t num_pins = 0, num_singles = 0;
    uint64_t coloured = 0;

    for (uint64_t k = 0; k < stream->num_unique; k++) {
        p = crackle_take(&section, count_width);
        if (!p)
            return cut_off(error);
        uint64_t count = crackle_load(p, count_width);
        const uint8_t *index = crackle_take_items(&section, count,
                                                  index_width);
        if (!index)
            return cut_off(error);
        const uint8_t *depths = crackle_take_items(&section, count,
                                                   depth_width);
        if (!depths)
            return cut_off(error);
        uint64_t voxel = 0;
        for (uint64_t i = 0; i < count; i++) {
            uint64_t step = crackle_load(index + i * index_width, index_width);
            uint64_t depth = crackle_load(depths + i * depth_width,
                                          depth_width);
            if (step >= voxels - voxel)
                return crackle_fail(error, CRACKLE_CORRUPT,
                                    CRACKLE_SECTION_LABELS, -1,
                                    "a pin starts outside the volume");
            voxel += step;
            uint32_t z = (uint32_t)(voxel / pixels);
            if (depth >= header->sz - z)
                return crackle_fail(error, CRACKLE_CORRUPT,
                                    CRACKLE_SECTION_LABELS, z,
                                    "a pin ends outside the volume");
            struct crackle_pin pin = {voxel % pixels, z, (uint32_t)depth, k};
            coloured += depth + 1;
            pins[num_pins++] = pin;
        }
        p = crackle_take(&section, count_width);
        if (!p)
            return cut_off(error);
        count = crackle_load(p, count_width);
        const uint8_t *ids = crackle_take_items(&section, count, id_width);
        if (!ids)
            return cut_off(error);
        uint64_t id = 0;
        for (uint64_t i = 0; i < count; i++) {
            uint64_t step = crackle_load(ids + i * id_width, id_width);
            if (step >= components - id)
                return crackle_fail(error, CRACKLE_CORRUPT,
                                    CRACKLE_SECTION_LABELS, -1,
                                    "a component is named that is not there");
            id += step;
            struct crackle_single single = {id, k};
            singles[num_singles++] = single;
        }
    }
    if (crackle_left(&section))
        return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_LABELS, -1,
                            "the section is longer than its pins");
    stream->num_pins = num_pins;
    stream->num_singles = num_singles;
    qsort(singles, num_singles, sizeof *singles, by_component);
    if (coloured > voxels) {
        status = merge_columns(stream, error);
        if (status)
            return status;
    }
    qsort(pins, stream->num_pins, sizeof *pins, by_z);
    return pin_ends_make(stream, error);
}

size_t crackle_next_pin(const struct crackle_stream *stream, size_t i,
                        uint32_t z)
{
    const uint32_t *ends = stream->pin_ends;
    const size_t leaves = stream->pin_leaves;
    if (i >= stream->num_pins)
        return stream->num_pins;
    size_t node = leaves + i;
    while (ends[node] <= z) { /* on to the right, as far up as it goes */
        while (node & 1)
            node /= 2;
        if (node == 0)
            return stream->num_pins;
        node++;
    }
    while (node < leaves) {
        node *= 2;
        node += ends[node] <= z;
    }
    return node - leaves;
}

size_t crackle_first_single(const struct crackle_stream *stream, uint32_t z,
                            size_t *end)
{
    size_t bound[2];
    for (int side = 0; side < 2; side++) {
        uint64_t id = stream->first_component[z + (uint32_t)side];
        size_t low = 0, high = stream->num_singles;
        while (low < high) {
            size_t mid = low + (high - low) / 2;
            if (stream->singles[mid].component < id)
                low = mid + 1;
            else
                high = mid;
        }
        bound[side] = low;
    }
    *end = bound[1];
    return bound[0];
}

/* The key of each component of slice z; num_unique is the background. */
int crackle_pins_of_slice(const struct crackle_stream *stream,
                          const struct crackle_slice *slice, uint32_t z,
                          uint64_t *keys, struct crackle_error *error)
{
    const uint32_t n = slice->num_components;
    for (uint32_t i = 0; i < n; i++)
        keys[i] = CRACKLE_NO_LABEL;
    for (size_t i = crackle_next_pin(stream, 0, z);
         i < stream->num_pins && stream->pins[i].z <= z;
         i = crackle_next_pin(stream, i + 1, z)) {
        const struct crackle_pin *pin = &stream->pins[i];
        uint32_t c = crackle_component_at(slice, (uint32_t)pin->pixel);
        if (keys[c] != CRACKLE_NO_LABEL && keys[c] != pin->label)
            return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_LABELS,
                                z, "two pins give a component two labels");
        keys[c] = pin->label;
    }
    size_t end, i = crackle_first_single(stream, z, &end);
    for (; i < end; i++) {
        const struct crackle_single *single = &stream->singles[i];
        uint32_t c =
            (uint32_t)(single->component - stream->first_component[z]);
        if (keys[c] == CRACKLE_NO_LABEL)
            keys[c] = single->label;
    }
    for (uint32_t c = 0; c < n; c++)
        if (keys[c] == CRACKLE_NO_LABEL)
            keys[c] = stream->num_unique;
    return CRACKLE_OK;
}
