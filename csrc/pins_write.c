/* Writing a stream whose labels are pins. */
#include "cover.h"

#include <stdlib.h>

/* One label's pins, or single components: items[begin .. end). */
struct list {
    struct crackle_item *items; /* key: voxel or component; value: depth */
    size_t count;
    size_t *ends; /* by label */
    uint64_t most;
};

static void list_free(struct list *list)
{
    free(list->items);
    free(list->ends);
}

/* Sort 'count' items that have their label at 'labels[value]' by label and
 * then by key, and find where each label's end. */
static int list_sort(struct list *list, const uint32_t *labels,
                     size_t num_labels)
{
    struct crackle_item *items = list->items, *by_key = items + list->count;
    list->ends = calloc(num_labels + 1, sizeof *list->ends);
    if (!list->ends)
        return CRACKLE_NO_MEMORY;
    crackle_sort(items, by_key, list->count);
    memcpy(by_key, items, list->count * sizeof *items);
    for (size_t i = 0; i < list->count; i++)
        list->ends[labels[items[i].value] + 1]++;
    for (size_t k = 0; k < num_labels; k++) {
        if (list->ends[k + 1] > list->most)
            list->most = list->ends[k + 1];
        list->ends[k + 1] += list->ends[k];
    }
    /* ends[k] is where label k begins, and after this where it ends. */
    for (size_t i = 0; i < list->count; i++)
        items[list->ends[labels[by_key[i].value]]++] = by_key[i];
    return CRACKLE_OK;
}

/* The pins of all labels but the background; none deeper than 'cap'. */
static int list_pins(const struct crackle_stream *flat,
                     const struct cover_choice *choice, uint32_t cap,
                     struct list *list, uint32_t **depths)
{
    const uint64_t pixels = (uint64_t)flat->header.sx * flat->header.sy;
    size_t count = 0;
    for (int pass = 0; pass < 2; pass++) {
        uint32_t *labels = NULL;
        if (pass == 1) {
            list->items = malloc((2 * count + 1) * sizeof *list->items);
            *depths = malloc((count + 1) * sizeof **depths);
            labels = malloc((count + 1) * sizeof *labels);
            if (!list->items || !*depths || !labels) {
                free(labels);
                return CRACKLE_NO_MEMORY;
            }
            list->count = count;
        }
        count = 0;
        for (int i = 0; i < 2 && choice->covers[i]; i++) {
            const struct cover_pin *pin = choice->covers[i]->pins.data;
            for (size_t j = 0; j < choice->covers[i]->num_pins; j++, pin++) {
                if (pin->label == CRACKLE_DROPPED ||
                    pin->label == choice->background ||
                    choice->by_label[pin->label] != i)
                    continue;
                for (uint64_t z = pin->z; z <= pin->z + pin->depth;
                     z += (uint64_t)cap + 1, count++) {
                    if (pass == 0)
                        continue;
                    uint64_t left = pin->z + pin->depth - z;
                    /* The first pass counted what the second writes:
                     * NOLINTNEXTLINE(clang-analyzer-security.ArrayBound) */
                    (*depths)[count] = (uint32_t)(left < cap ? left : cap);
                    labels[count] = pin->label;
                    list->items[count].key = z * pixels + pin->pixel;
                    list->items[count].value = (uint32_t)count;
                }
            }
        }
        if (count >= UINT32_MAX)
            return CRACKLE_NO_MEMORY;
        if (pass == 1) {
            int status = list_sort(list, labels, (size_t)flat->num_unique);
            free(labels);
            return status;
        }
    }
    return CRACKLE_OK;
}

/* The components that no pin names. */
static int list_singles(const struct crackle_stream *flat,
                        const struct cover_choice *choice, struct list *list)
{
    const size_t n = (size_t)flat->first_component[flat->header.sz];
    uint32_t *labels = malloc(n * sizeof *labels + 1);
    list->items = malloc((2 * n + 1) * sizeof *list->items);
    if (!labels || !list->items) {
        free(labels);
        return CRACKLE_NO_MEMORY;
    }
    for (size_t c = 0; c < n; c++) {
        const uint32_t label = crackle_key(flat, c);
        const uint16_t *count =
            choice->covers[choice->by_label[label]]->count.data;
        if (label == choice->background || count[c])
            continue;
        labels[list->count] = label;
        list->items[list->count].key = c;
        list->items[list->count].value = (uint32_t)list->count;
        list->count++;
    }
    int status = list_sort(list, labels, (size_t)flat->num_unique);
    free(labels);
    return status;
}

/* The label section, and its size. With 'p' NULL only the size. */
static uint64_t section_write(const struct crackle_stream *flat,
                              const struct cover_choice *choice,
                              const struct list *pins, const uint32_t *depths,
                              const struct list *singles, uint8_t *p)
{
    const struct crackle_header *header = &flat->header;
    const unsigned stored = header->stored_width;
    const uint64_t pixels = (uint64_t)header->sx * header->sy;
    const unsigned index_width = crackle_width(pixels * header->sz);
    const unsigned count_width =
        crackle_width(pins->most > singles->most ? pins->most : singles->most);
    const size_t counts = (size_t)header->sz * crackle_width(pixels);
    const size_t labels = (size_t)flat->num_unique;
    uint32_t deepest = 0;
    for (size_t i = 0; i < pins->count; i++)
        /* list_pins wrote as many as it counted:
         * NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult) */
        deepest = depths[i] > deepest ? depths[i] : deepest;
    const unsigned depth_width = crackle_width(deepest);
    uint64_t widest = 0;
    for (size_t k = 0, i = 0; k < labels; k++)
        for (uint64_t last = 0; i < singles->ends[k]; i++) {
            uint64_t step = singles->items[i].key - last;
            widest = step > widest ? step : widest;
            last = singles->items[i].key;
        }
    const unsigned id_width = crackle_width(widest);
    if (!p)
        return stored + 8 + (labels - 1) * (stored + 2 * count_width) +
               counts + 1 + pins->count * (index_width + depth_width) +
               (uint64_t)singles->count * id_width;

    const uint8_t *begin = p;
    memcpy(p, flat->unique + (size_t)choice->background * stored, stored);
    p = crackle_store(p + stored, labels - 1, 8);
    size_t before = (size_t)choice->background * stored;
    memcpy(p, flat->unique, before);
    memcpy(p + before, flat->unique + before + stored,
           (labels - 1) * stored - before);
    p += (labels - 1) * stored;
    /* In a flat section the counts stand behind the table, too. */
    memcpy(p, flat->unique + labels * stored, counts);
    p += counts;
    *p++ = (uint8_t)(crackle_width_log2(count_width) |
                     crackle_width_log2(depth_width) << 2 |
                     crackle_width_log2(id_width) << 4);
    for (size_t k = 0, i = 0, j = 0; k < labels; k++) {
        if (k == choice->background)
            continue; /* has none */
        uint64_t last = 0;
        const size_t first = i;
        p = crackle_store(p, pins->ends[k] - i, count_width);
        for (; i < pins->ends[k]; i++) {
            p = crackle_store(p, pins->items[i].key - last, index_width);
            last = pins->items[i].key;
        }
        for (i = first; i < pins->ends[k]; i++)
            p = crackle_store(p, depths[pins->items[i].value], depth_width);
        last = 0;
        p = crackle_store(p, singles->ends[k] - j, count_width);
        for (; j < singles->ends[k]; j++) {
            p = crackle_store(p, singles->items[j].key - last, id_width);
            last = singles->items[j].key;
        }
    }
    return (uint64_t)(p - begin);
}

int crackle_pins_write(const struct crackle_stream *flat,
                       const struct cover_choice *choice, uint8_t **stream,
                       size_t *size)
{
    const struct crackle_header *header = &flat->header;
    struct list pins[2] = {{0}, {0}}, singles = {0};
    uint32_t *depths[2] = {NULL, NULL};
    /* Pins as deep as they are, or none deeper than a byte says. */
    const uint32_t caps[2] = {UINT32_MAX - 1, UINT8_MAX};
    uint64_t bytes[2] = {0, UINT64_MAX};
    int status = list_singles(flat, choice, &singles);
    for (int i = 0; i < (header->sz > 256 ? 2 : 1) && !status; i++) {
        status = list_pins(flat, choice, caps[i], &pins[i], &depths[i]);
        if (!status)
            bytes[i] = section_write(flat, choice, &pins[i], depths[i],
                                     &singles, NULL);
    }
    const int best = bytes[1] < bytes[0];
    const size_t before = CRACKLE_V1_HEADER_BYTES + (size_t)header->sz * 4 + 4;
    const uint8_t *rest = flat->data + before + header->label_bytes;
    const size_t tail = (size_t)header->sz * 4;
    const size_t codes = (size_t)(flat->data + flat->size - rest) - tail - 4;
    uint8_t *out = NULL;
    if (!status) {
        *size = before + (size_t)bytes[best] + codes + 4 + tail;
        out = malloc(*size);
        status = out ? CRACKLE_OK : CRACKLE_NO_MEMORY;
    }
    if (!status) {
        memcpy(out, flat->data, before);
        out[5] = (uint8_t)(out[5] | CRACKLE_LABELS_PINS << 5);
        crackle_store(out + 20, bytes[best], 8);
        out[28] = crackle_crc8(out + 5, 23);
        uint8_t *labels = out + before, *p = labels + bytes[best];
        section_write(flat, choice, &pins[best], depths[best], &singles,
                      labels);
        memcpy(p, rest, codes);
        p = crackle_store(p + codes,
                          crackle_crc32c(0, labels, (size_t)bytes[best]), 4);
        memcpy(p, flat->component_crcs, tail);
        *stream = out;
    }
    for (int i = 0; i < 2; i++) {
        list_free(&pins[i]);
        free(depths[i]);
    }
    list_free(&singles);
    return status;
}
