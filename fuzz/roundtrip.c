/*
 * Fuzz target: an array made from the input, encoded, decoded and measured.
 *
 * The input: 8 bytes of shape and options, FUZZ_CHOICES of choices for the
 * questions, and runs of labels: pairs of a length and a label, or only
 * labels; as often as the array takes.
 */
#include "common.h"

#include <stdlib.h>
#include <string.h>

/* The labels that bytes stand for: small ones, those at the ends of the
 * range and those in between. */
static uint64_t label_of(uint8_t byte, unsigned width, bool is_signed)
{
    const unsigned bits = 8 * width;
    uint64_t v = byte;
    if (byte >= 240)
        v = ((uint64_t)1 << (bits - 1)) - 248 + byte; /* around the sign */
    else if (byte >= 224)
        v = ~(uint64_t)0 - (byte - 224u);
    else if (byte >= 128)
        v = byte * (uint64_t)0x0101010101010101u >> (byte % width * 8);
    v <<= 64 - bits;
    return is_signed ? (uint64_t)((int64_t)v >> (64 - bits))
                     : v >> (64 - bits);
}

static void store(void *array, uint64_t i, unsigned width, uint64_t label)
{
    switch (width) {
    case 1:
        ((uint8_t *)array)[i] = (uint8_t)label;
        break;
    case 2:
        ((uint16_t *)array)[i] = (uint16_t)label;
        break;
    case 4:
        ((uint32_t *)array)[i] = (uint32_t)label;
        break;
    default:
        ((uint64_t *)array)[i] = label;
    }
}

/*
 * The most bytes a volume may take: its labels and keys in full, for each
 * slice what stands in front of the moves, and moves that draw every side.
 * There are 2 sides a pixel; each is drawn by one codepoint, and there are no
 * more branches and chains than sides, which take two codepoints to begin and
 * two to end, of 3 bits each.
 */
static uint64_t size_bound(const struct crackle_params *params)
{
    const uint64_t pixels = (uint64_t)params->sx * params->sy;
    const uint64_t voxels = pixels * params->sz;
    const uint64_t model = params->markov_order == CRACKLE_MARKOV_AUTO
                               ? ((uint64_t)5 << 30) / 8
                               : ((uint64_t)5 << 2 * params->markov_order) / 8;
    const uint64_t starts = 8 + 16 * ((uint64_t)params->sy + 1) + 8 * pixels;
    return 64 + voxels * (params->data_width + 4u) +
           params->sz * (16 + starts + 2 * pixels * 5 * 3 / 8) + model;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { HEAD = 8 };
    if (size < HEAD + FUZZ_CHOICES + 2)
        return 0;
    struct crackle_params params;
    memset(&params, 0, sizeof params);
    params.sx = 1 + data[0] % 150;
    params.sy = 1 + data[1] % 70;
    params.sz = 1 + data[2] % 40;
    /* Mostly small ones, which are fast. */
    const uint64_t most = FUZZ_MOST_COUNTED >> (data[3] % 16 ? 4 : 0);
    while ((uint64_t)params.sx * params.sy * params.sz > most) {
        params.sy = (params.sy + 1) / 2;
        params.sz = (params.sz + 1) / 2;
    }
    if (data[3] >= 250) { /* no voxels */
        uint32_t *const axes[3] = {&params.sx, &params.sy, &params.sz};
        *axes[data[3] % 3] = 0;
    }
    params.data_width = (uint8_t)(1u << (data[4] & 3));
    params.is_signed = data[4] >> 2 & 1;
    params.c_order = data[4] >> 3 & 1;
    params.fortran_order = data[4] >> 4 & 1;
    params.remapped = data[4] >> 5 & 1;
    const bool runs = data[4] >> 6 & 1;
    const uint8_t order = data[5] % 9; /* above, the models take megabytes */
    params.markov_order = order == 8 ? CRACKLE_MARKOV_AUTO : order;
    const uint32_t split = (uint32_t)(data[6] % ((uint64_t)params.sz + 1));
    const uint8_t mask = data[7]; /* how many labels there are */

    struct fuzz_choices choices = {data + HEAD, FUZZ_CHOICES};
    fuzz_choose_cpu(&choices);
    const uint8_t *labels = data + HEAD + FUZZ_CHOICES;
    const size_t count = size - HEAD - FUZZ_CHOICES;

    struct fuzz_volume v = {params.sx, params.sy, params.sz, 0, 0, NULL};
    v.pixels = (uint64_t)v.sx * v.sy;
    v.voxels = v.pixels * v.sz;
    v.label = fuzz_new((size_t)v.voxels * sizeof *v.label);
    for (uint64_t i = 0, at = 0; i < v.voxels; at++) {
        uint64_t n = runs ? 1 + labels[at++ % count] : 1;
        const uint8_t byte = labels[at % count] & mask;
        for (; n && i < v.voxels; n--)
            v.label[i++] = label_of(byte, params.data_width, params.is_signed);
    }
    void *array = fuzz_new((size_t)v.voxels * params.data_width);
    for (uint64_t i = 0; i < v.voxels; i++) {
        const uint64_t x = i % v.sx, y = i / v.sx % v.sy, z = i / v.pixels;
        store(array, params.c_order ? (x * v.sy + y) * v.sz + z : i,
              params.data_width, v.label[i]);
    }

    size_t bytes;
    uint8_t *stream = fuzz_encode(&params, array, split, &bytes);
    FUZZ_CHECK(bytes <= size_bound(&params));
    fuzz_check_stream(stream, bytes, &v, &choices);

    /* Neither the border between parts nor the axis that is fastest shows. */
    if (params.c_order)
        for (uint64_t i = 0; i < v.voxels; i++)
            store(array, i, params.data_width, v.label[i]);
    params.c_order = 0;
    size_t other_bytes;
    uint8_t *other = fuzz_encode(&params, array, 0, &other_bytes);
    FUZZ_CHECK(bytes == other_bytes && !memcmp(stream, other, bytes));
    crackle_free(other);
    crackle_free(stream);
    fuzz_free(array);
    fuzz_volume_free(&v);
    return 0;
}
