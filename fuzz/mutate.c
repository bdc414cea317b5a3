/*
 * Mutations that know what a stream is made of: sections grow and shrink with
 * the sizes that go with them, and checksums are made right again, so that
 * lies get past them. Half of the mutations are libFuzzer's own, as they are.
 */
#include "common.h"

#include <stdlib.h>
#include <string.h>

/* libFuzzer's names: NOLINTBEGIN(misc-use-internal-linkage) */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
                               unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *first, size_t first_size,
                                 const uint8_t *second, size_t second_size,
                                 uint8_t *out, size_t max_size, unsigned seed);
/* NOLINTEND(misc-use-internal-linkage) */

static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static uint64_t load(const uint8_t *p, unsigned width)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < width; i++)
        v |= (uint64_t)p[i] << 8 * i;
    return v;
}

static void store(uint8_t *p, uint64_t v, unsigned width)
{
    for (unsigned i = 0; i < width; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

/* Where the sections of a stream begin, as far as its sizes fit it. */
struct layout {
    struct crackle_header header;
    size_t index, labels, model, cracks, tail;
};

static bool layout_find(const uint8_t *p, size_t size, struct layout *l)
{
    if (crackle_header_read(p, size, 1, &l->header, NULL))
        return false;
    const struct crackle_header *h = &l->header;
    const unsigned check = h->version ? 4 : 0;
    if (h->sx == 0 || h->sy == 0 || h->sz == 0 || h->sz > size / 4)
        return false;
    l->index = h->header_bytes;
    l->labels = l->index + 4 * (size_t)h->sz + check;
    if (l->labels > size || h->label_bytes > size - l->labels)
        return false;
    l->model = l->labels + (size_t)h->label_bytes;
    const uint64_t model = h->markov_order
                               ? (((uint64_t)5 << 2 * h->markov_order) + 7) / 8
                               : 0;
    if (model > size - l->model)
        return false;
    l->cracks = l->model + (size_t)model;
    uint64_t tail = l->cracks;
    for (uint32_t z = 0; z < h->sz; z++)
        tail += load(p + l->index + 4 * (size_t)z, 4);
    if (tail > size)
        return false;
    l->tail = (size_t)tail;
    return !h->version || size - l->tail == 4 + 4 * (size_t)h->sz;
}

/* The checksums of the slices' components, by way of the format that has
 * none; those of slices that can't be walked stay as they are. */
static void repair_components(uint8_t *p, const struct layout *l)
{
    const struct crackle_header *h = &l->header;
    if (h->label_bytes > UINT32_MAX ||
        (uint64_t)h->sx * h->sy > FUZZ_MOST_VOXELS / 16)
        return;
    const size_t index = 4 * (size_t)h->sz, rest = l->tail - l->labels;
    uint8_t *old = malloc(24 + index + rest);
    if (!old)
        return;
    memcpy(old, p, 24);
    old[4] = 0;
    memcpy(old + 24, p + l->index, index);
    memcpy(old + 24 + index, p + l->labels, rest);
    struct crackle_stream *stream;
    struct crackle_workspace *ws = crackle_workspace_new();
    if (ws && crackle_open(old, 24 + index + rest, &stream, NULL, NULL) == 0) {
        for (uint32_t z = 0; z < h->sz; z++) {
            uint32_t crc;
            if (!crackle_component_checksums(stream, ws, z, z + 1, &crc, NULL))
                store(p + l->tail + 4 + 4 * (size_t)z, crc, 4);
        }
        crackle_close(stream);
    }
    crackle_workspace_free(ws);
    free(old);
}

/* Make the checksums right. */
static void repair(uint8_t *p, size_t size, bool components)
{
    struct layout l;
    if (size >= 29 && p[4] == 1)
        p[28] = crackle_crc8(p + 5, 23);
    if (!layout_find(p, size, &l) || !l.header.version)
        return;
    const size_t index = 4 * (size_t)l.header.sz;
    store(p + l.index + index, crackle_crc32c(0, p + l.index, index), 4);
    store(p + l.tail,
          crackle_crc32c(0, p + l.labels, (size_t)l.header.label_bytes), 4);
    if (components)
        repair_components(p, &l);
}

/* Mutate bytes [begin, end) of a stream in their place; the new size. */
static size_t mutate_range(uint8_t *p, size_t size, size_t room, size_t begin,
                           size_t end, size_t *now)
{
    const size_t old = end - begin, most = old + (room - size);
    uint8_t *part = malloc(most + 1);
    memcpy(part, p + begin, old);
    *now = most ? LLVMFuzzerMutate(part, old, most) : 0;
    memmove(p + begin + *now, p + end, size - end);
    memcpy(p + begin, part, *now);
    free(part);
    return size - old + *now;
}

static const uint64_t extremes[] = {
    0,          1,          2,          255,        256,
    65535,      65536,      0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
    0x3FFFFFFF, 0x40000000, 0x10000,    0x8000,     ~(uint64_t)0};

/* Change one number: to one of the extremes, by one, or by a factor. */
static void mutate_number(uint8_t *p, unsigned width, uint32_t *random)
{
    uint64_t v = load(p, width);
    switch (next_random(random) % 5) {
    case 0:
        v = extremes[next_random(random) %
                     (sizeof extremes / sizeof *extremes)];
        break;
    case 1:
        v++;
        break;
    case 2:
        v--;
        break;
    case 3:
        v ^= (uint64_t)1 << next_random(random) % (8 * width);
        break;
    default:
        v = next_random(random) & 1 ? v * 2 : v / 2;
    }
    store(p, v, width);
}

/* Change a section of a stream, and the sizes that go with it. */
static size_t mutate_stream(uint8_t *p, size_t size, size_t room,
                            uint32_t *random)
{
    struct layout l;
    if (!layout_find(p, size, &l))
        return LLVMFuzzerMutate(p, size, room);
    const struct crackle_header *h = &l.header;
    const uint32_t sz = h->sz, z = next_random(random) % sz;
    static const struct {
        uint8_t at, width;
    } fields[] = {{5, 2},  {7, 4},  {11, 4}, {15, 4},
                  {19, 1}, {20, 4}, {4, 1},  {6, 1}};
    size_t begin = l.cracks, now;
    switch (next_random(random) % 8) {
    case 0: { /* a field of the header */
        const uint32_t i = next_random(random) % 8;
        mutate_number(p + fields[i].at, fields[i].width, random);
        return size;
    }
    case 1: /* an entry of the index, perhaps with the next one to match */
        if (z + 1 < sz && next_random(random) & 1) {
            uint8_t *entry = p + l.index + 4 * (size_t)z;
            const uint32_t by = next_random(random) % 9 - 4;
            store(entry, load(entry, 4) + by, 4);
            store(entry + 4, load(entry + 4, 4) - by, 4);
        } else {
            mutate_number(p + l.index + 4 * (size_t)z, 4, random);
        }
        return size;
    case 2: { /* a number of the label section */
        if (h->label_bytes < 8)
            return size;
        const size_t at = next_random(random) & 1
                              ? 0
                              : next_random(random) % (h->label_bytes - 7);
        mutate_number(p + l.labels + at, 1u << next_random(random) % 4,
                      random);
        return size;
    }
    case 3: /* the label section */
    case 4:
        size = mutate_range(p, size, room, l.labels, l.model, &now);
        store(p + 20, now, h->version ? 8 : 4);
        return size;
    case 5: /* the model, which has no size of its own */
        if (l.model < l.cracks)
            LLVMFuzzerMutate(p + l.model, l.cracks - l.model,
                             l.cracks - l.model);
        return size;
    default: { /* a crack code */
        for (uint32_t i = 0; i < z; i++)
            begin += load(p + l.index + 4 * (size_t)i, 4);
        const size_t end = begin +
                           (size_t)load(p + l.index + 4 * (size_t)z, 4);
        if (end - begin >= 5 && next_random(random) % 4 == 0) {
            mutate_number(p + begin + (size_t)4 * (next_random(random) % 2),
                          end - begin < 8 ? 1 : 4, random);
        } else {
            size = mutate_range(p, size, room, begin, end, &now);
            store(p + l.index + 4 * (size_t)z, now, 4);
        }
        return size;
    }
    }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size,
                               unsigned seed)
{
    uint32_t random = seed * 2654435761u + 1;
    struct fuzz_input input;
    next_random(&random);
    if (next_random(&random) % 2 || !fuzz_split(data, size, &input) ||
        max_size < size)
        return LLVMFuzzerMutate(data, size, max_size);
    const int which = input.size[1] && next_random(&random) % 3 == 0;
    uint8_t *const tail = data + size - FUZZ_TAIL;
    if (next_random(&random) % 16 == 0) {
        LLVMFuzzerMutate(tail, FUZZ_CHOICES, FUZZ_CHOICES);
        return size;
    }
    const size_t spare = max_size - size;
    uint8_t *p = malloc(input.size[which] + spare + 1);
    memcpy(p, input.data[which], input.size[which]);
    size_t n = input.size[which];
    for (uint32_t i = next_random(&random) % 3 + 1; i; i--)
        n = mutate_stream(p, n, input.size[which] + spare, &random);
    repair(p, n, next_random(&random) % 4 != 0);
    if (n >= 29 && n - input.size[which] <= spare &&
        next_random(&random) % 32 == 0) {
        struct layout l;
        if (layout_find(p, n, &l) && l.header.version) { /* to version 0 */
            memmove(p + l.index + 4 * (size_t)l.header.sz, p + l.labels,
                    l.tail - l.labels);
            memmove(p + 24, p + 29, l.tail - 29 - 4);
            p[4] = 0;
            n = l.tail - 9;
        }
    }
    const size_t before = which ? input.size[0] : 0;
    const size_t behind = size - before - input.size[which];
    memmove(data + before + n, data + before + input.size[which], behind);
    memcpy(data + before, p, n);
    free(p);
    size = before + n + behind;
    if (which)
        store(data + size - 4, n, 4);
    return size;
}

/* The first streams of two inputs become the streams of one. */
size_t LLVMFuzzerCustomCrossOver(const uint8_t *first, size_t first_size,
                                 const uint8_t *second, size_t second_size,
                                 uint8_t *out, size_t max_size, unsigned seed)
{
    struct fuzz_input a, b;
    (void)seed;
    if (!fuzz_split(first, first_size, &a) ||
        !fuzz_split(second, second_size, &b) ||
        a.size[0] + b.size[0] + FUZZ_TAIL > max_size)
        return 0;
    memcpy(out, a.data[0], a.size[0]);
    memcpy(out + a.size[0], b.data[0], b.size[0]);
    uint8_t *tail = out + a.size[0] + b.size[0];
    memcpy(tail, first + first_size - FUZZ_TAIL, FUZZ_CHOICES);
    store(tail + FUZZ_CHOICES, b.size[0], 4);
    return a.size[0] + b.size[0] + FUZZ_TAIL;
}
