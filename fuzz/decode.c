/* Fuzz target: decoding. Whole, a range of slices, one label, both orders and
 * two CPU levels agree with each other. */
#include "common.h"

#include <stdlib.h>
#include <string.h>

/* Decode slices [z0, z1) into an array of [out_z0, out_z1); a status. What
 * lies before and behind must stay as it is. */
struct wish {
    uint32_t z0, z1, out_z0, out_z1;
    int c_order;
    const uint64_t *label;
};

static int decode(const struct fuzz_stream *s, const struct wish *wish,
                  uint8_t **out)
{
    const size_t width = wish->label ? 1 : s->header->data_width;
    const uint64_t depth = wish->out_z1 - wish->out_z0;
    const size_t bytes = (size_t)(s->pixels * depth) * width;
    *out = fuzz_new(bytes);
    struct crackle_workspace *ws = crackle_workspace_new();
    struct crackle_error error = {0, 0, 0, NULL};
    int status = crackle_decode(s->stream, ws, wish->z0, wish->z1, wish->label,
                                *out, bytes, wish->out_z0, wish->out_z1,
                                wish->c_order, &error);
    fuzz_check_status(status, &error);
    FUZZ_CHECK(status != CRACKLE_BAD_ARGUMENT);
    crackle_workspace_free(ws);
    for (uint64_t i = 0; i < s->pixels * depth; i++) {
        const uint32_t z = wish->out_z0 + (uint32_t)(wish->c_order
                                                         ? i % depth
                                                         : i / s->pixels);
        if (z >= wish->z0 && z < wish->z1)
            continue;
        for (size_t k = 0; k < width; k++)
            FUZZ_CHECK((*out)[i * width + k] == 0xA5);
    }
    return status;
}

/* The wish is met, and as the volume says; a damaged one must fail where the
 * wish was for all of it. */
static void check(const struct fuzz_stream *s, const struct fuzz_volume *v,
                  const struct wish *wish)
{
    uint8_t *out;
    const struct crackle_header *header = s->header;
    const unsigned width = wish->label ? 1 : header->data_width;
    const uint64_t depth = wish->out_z1 - wish->out_z0;
    const int status = decode(s, wish, &out);
    if (v->label)
        FUZZ_CHECK(status == CRACKLE_OK);
    else if (!wish->label && wish->z0 == 0 && wish->z1 == header->sz)
        FUZZ_CHECK(status != CRACKLE_OK);
    for (uint32_t z = wish->z0; v->label && z < wish->z1; z++)
        for (uint64_t p = 0; p < s->pixels; p++) {
            const uint64_t x = p % header->sx, y = p / header->sx;
            const uint64_t k = z - wish->out_z0;
            const uint64_t i = wish->c_order ? (x * header->sy + y) * depth + k
                                             : k * s->pixels + p;
            const uint64_t here = v->label[z * s->pixels + p];
            FUZZ_CHECK(fuzz_element(out, i, width,
                                    !wish->label && header->is_signed) ==
                       (wish->label ? here == *wish->label : here));
        }
    fuzz_free(out);
}

/* A stream of which the labels or the index may be damaged. */
static void check_tolerant(const uint8_t *data, size_t size,
                           const struct fuzz_volume *v, bool opened)
{
    uint8_t *copy = fuzz_new(size);
    memcpy(copy, data, size);
    struct crackle_stream *stream;
    struct crackle_error error = {0, 0, 0, NULL};
    struct crackle_workspace *ws = crackle_workspace_new();
    uint32_t damaged = 0;
    int status = crackle_open(copy, size, &stream, &damaged, &error);
    fuzz_check_status(status, &error);
    FUZZ_CHECK(status == CRACKLE_OK || damaged);
    const struct crackle_header *header = status
                                              ? NULL
                                              : crackle_stream_header(stream);
    if (header && header->sz <= FUZZ_MOST_VOXELS &&
        (uint64_t)header->sx * header->sy * header->sz <= FUZZ_MOST_VOXELS) {
        const uint32_t sz = header->sz;
        uint8_t *bad = fuzz_new(sz);
        status = crackle_check_slices(stream, ws, 0, sz, bad, &error);
        FUZZ_CHECK(status == CRACKLE_OK);
        for (uint32_t z = 0; z < sz; z++)
            FUZZ_CHECK(bad[z] <= (opened && v->label ? 0 : 1));
        fuzz_free(bad);
        /* Not promised to be of use: but not to end in a crash, either. */
        const size_t bytes = (size_t)header->sx * header->sy * sz *
                             header->data_width;
        uint8_t *out = fuzz_new(bytes);
        status = crackle_decode(stream, ws, 0, sz, NULL, out, bytes, 0, sz, 0,
                                &error);
        fuzz_check_status(status, &error);
        fuzz_free(out);
    }
    crackle_close(stream);
    crackle_workspace_free(ws);
    fuzz_free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input;
    if (!fuzz_split(data, size, &input))
        return 0;
    struct fuzz_stream s;
    struct fuzz_volume v = {0, 0, 0, 0, 0, NULL};
    fuzz_choose_cpu(&input.choices);
    const bool opened = fuzz_open(input.data[0], input.size[0], &s);
    if (opened) {
        const uint32_t sz = s.header->sz;
        fuzz_decode(&s, &v);
        const struct wish whole = {0, sz, 0, sz, 1, NULL};
        check(&s, &v, &whole);

        struct wish part = {0, 0, 0, 0, 0, NULL};
        fuzz_choose_range(&input.choices, sz, &part.z0, &part.z1);
        part.out_z0 = part.z0 - fuzz_choose(&input.choices) % (part.z0 + 1);
        part.out_z1 = part.z1 +
                      fuzz_choose(&input.choices) % (sz - part.z1 + 1);
        part.c_order = fuzz_choose(&input.choices) & 1;
        check(&s, &v, &part);

        uint64_t label = fuzz_choose(&input.choices);
        if (s.entries && label < 224)
            label = s.entry[label % s.entries];
        part.label = &label;
        check(&s, &v, &part);
        part.c_order = !part.c_order;
        check(&s, &v, &part);
        const struct wish all = {0, sz, 0, sz, 0, &label};
        check(&s, &v, &all);

        fuzz_choose_cpu(&input.choices); /* perhaps another one */
        const struct wish again = {0, sz, 0, sz, 0, NULL};
        check(&s, &v, &again);
        part.label = NULL;
        check(&s, &v, &part);
    }
    check_tolerant(input.data[0], input.size[0], &v, opened);
    if (opened) {
        fuzz_volume_free(&v);
        fuzz_close(&s);
    }
    return 0;
}
