/*
 * Decode golden streams on this machine, whatever its byte order: kind-dtype-
 * options.ckl must give the array in kind-dtype.npy, and encode again to a
 * stream of the same array. A line for each has the crc32c of what was
 * encoded, which should not differ between machines.
 *
 *     golden STREAM...
 */
#include "common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void golden(const char *path)
{
    char npy[4096];
    snprintf(npy, sizeof npy - 8, "%s", path);
    char *end = strrchr(npy, '-');
    FUZZ_CHECK(end);
    memcpy(end, ".npy", 5);
    size_t size, npy_size, made_size;
    uint8_t *data = fuzz_read(path, &size);
    uint8_t *array = fuzz_read(npy, &npy_size);
    struct fuzz_stream s;
    struct fuzz_volume v;
    FUZZ_CHECK(fuzz_open(data, size, &s));
    FUZZ_CHECK(fuzz_decode(&s, &v) == CRACKLE_OK);

    /* The array, little-endian and in Fortran order, ends the file. */
    const struct crackle_header *header = s.header;
    const unsigned width = header->data_width;
    FUZZ_CHECK(v.voxels * width < npy_size);
    const uint8_t *p = array + npy_size - v.voxels * width;
    uint8_t *native = fuzz_new((size_t)v.voxels * width);
    for (uint64_t i = 0; i < v.voxels; i++) {
        uint64_t label = 0;
        for (unsigned k = 0; k < width; k++)
            label |= (uint64_t)p[i * width + k] << 8 * k;
        const uint8_t b = (uint8_t)label;
        const uint16_t h = (uint16_t)label;
        const uint32_t w = (uint32_t)label;
        const void *from = width == 1   ? (const void *)&b
                           : width == 2 ? (const void *)&h
                           : width == 4 ? (const void *)&w
                                        : (const void *)&label;
        memcpy(native + i * width, from, width);
        FUZZ_CHECK(v.label[i] ==
                   fuzz_element(native, i, width, header->is_signed));
    }
    struct crackle_params params = fuzz_params(header);
    params.fortran_order = header->fortran_order;
    params.markov_order = header->markov_order;
    uint8_t *made = fuzz_encode(&params, native, header->sz / 2, &made_size);
    fuzz_check_stream(made, made_size, &v, NULL);
    const char *name = strrchr(path, '/');
    printf("%s %08x\n", name ? name + 1 : path,
           (unsigned)crackle_crc32c(0, made, made_size));
    crackle_free(made);
    fuzz_free(native);
    fuzz_volume_free(&v);
    fuzz_close(&s);
    fuzz_free(array);
    fuzz_free(data);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        golden(argv[i]);
    return argc > 1 ? 0 : 2;
}
