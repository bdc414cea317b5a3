/* Streams, volumes and choices from bytes: see common.h. */
#include "common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __SANITIZE_ADDRESS__
#define FUZZ_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FUZZ_ASAN 1
#endif
#endif
#ifndef FUZZ_ASAN
#define FUZZ_ASAN 0
#endif

void fuzz_failed(const char *claim, const char *file, int line)
{
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, claim);
    abort();
}

/* ---- buffers ---- */

static const size_t GUARD = FUZZ_ASAN ? 0 : 64;
static const uint8_t guard_byte = 0x5A;

void *fuzz_new(size_t size)
{
    uint8_t *p = malloc(size + 2 * GUARD);
    FUZZ_CHECK(p);
    memset(p, guard_byte, GUARD);
    memset(p + GUARD, 0xA5, size);
    memset(p + GUARD + size, guard_byte, GUARD);
    if (GUARD)
        memcpy(p, &size, sizeof size);
    return p + GUARD;
}

void fuzz_free(void *pointer)
{
    if (!pointer)
        return;
    uint8_t *p = (uint8_t *)pointer - GUARD;
    size_t size = 0;
    if (GUARD)
        memcpy(&size, p, sizeof size);
    for (size_t i = sizeof size; i < GUARD; i++)
        FUZZ_CHECK(p[i] == guard_byte);
    for (size_t i = 0; i < GUARD; i++)
        FUZZ_CHECK(p[GUARD + size + i] == guard_byte);
    free(p);
}

/* ---- inputs ---- */

struct crackle_params fuzz_params(const struct crackle_header *header)
{
    struct crackle_params params;
    memset(&params, 0, sizeof params);
    params.sx = header->sx;
    params.sy = header->sy;
    params.sz = header->sz;
    params.data_width = header->data_width;
    params.is_signed = header->is_signed;
    return params;
}

uint8_t *fuzz_read(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    long end = -1;
    if (file && !fseek(file, 0, SEEK_END))
        end = ftell(file);
    if (end >= 0 && !fseek(file, 0, SEEK_SET)) {
        uint8_t *data = fuzz_new((size_t)end);
        *size = (size_t)end;
        if (fread(data, 1, *size, file) == *size) {
            fclose(file);
            return data;
        }
    }
    perror(path);
    exit(2);
}

uint8_t fuzz_choose(struct fuzz_choices *choices)
{
    if (!choices->left)
        return 0;
    choices->left--;
    return *choices->at++;
}

void fuzz_choose_cpu(struct fuzz_choices *choices)
{
    crackle_cpu_select(crackle_cpu_detect() - fuzz_choose(choices) % 3);
}

void fuzz_choose_range(struct fuzz_choices *choices, uint32_t sz, uint32_t *z0,
                       uint32_t *z1)
{
    uint32_t a = (uint32_t)(fuzz_choose(choices) % ((uint64_t)sz + 1));
    uint32_t b = (uint32_t)(fuzz_choose(choices) % ((uint64_t)sz + 1));
    *z0 = a < b ? a : b;
    *z1 = a < b ? b : a;
}

bool fuzz_split(const uint8_t *data, size_t size, struct fuzz_input *input)
{
    if (size < FUZZ_TAIL)
        return false;
    const uint8_t *tail = data + size - FUZZ_TAIL;
    const size_t streams = size - FUZZ_TAIL;
    size_t second = 0;
    for (int i = 0; i < 4; i++)
        second |= (size_t)tail[FUZZ_CHOICES + i] << 8 * i;
    if (second > streams)
        second = 0;
    input->data[0] = data;
    input->size[0] = streams - second;
    input->data[1] = data + input->size[0];
    input->size[1] = second;
    input->choices.at = tail;
    input->choices.left = FUZZ_CHOICES;
    return true;
}

/* ---- streams ---- */

void fuzz_check_status(int status, const struct crackle_error *error)
{
    FUZZ_CHECK(status >= CRACKLE_OK && status <= CRACKLE_NO_MEMORY);
    FUZZ_CHECK(strcmp(crackle_status_name(status), "unknown status") != 0);
    /* Nothing here asks for so much that there could be no memory. */
    FUZZ_CHECK(status != CRACKLE_NO_MEMORY);
    if (status == CRACKLE_OK)
        return;
    FUZZ_CHECK(error->status == status && error->what && *error->what);
    FUZZ_CHECK(error->section >= 0 &&
               error->section <= CRACKLE_SECTION_COMPONENTS);
    FUZZ_CHECK(error->slice >= -1);
}

uint64_t fuzz_element(const void *array, uint64_t i, unsigned width,
                      bool is_signed)
{
    switch (width) {
    case 1:
        return is_signed ? (uint64_t)((const int8_t *)array)[i]
                         : ((const uint8_t *)array)[i];
    case 2:
        return is_signed ? (uint64_t)((const int16_t *)array)[i]
                         : ((const uint16_t *)array)[i];
    case 4:
        return is_signed ? (uint64_t)((const int32_t *)array)[i]
                         : ((const uint32_t *)array)[i];
    default:
        return ((const uint64_t *)array)[i];
    }
}

/* A label of the table as the array has it. */
static uint64_t entry_label(const struct crackle_header *header,
                            const uint8_t *p)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < header->stored_width; i++)
        v |= (uint64_t)p[i] << 8 * i;
    const unsigned width = header->stored_width < header->data_width
                               ? header->stored_width
                               : header->data_width;
    FUZZ_CHECK(width >= 1 && width <= 8);
    if (width == 8)
        return v;
    v &= ((uint64_t)1 << 8 * width) - 1;
    if (header->is_signed && v >> (8 * width - 1))
        v |= ~(uint64_t)0 << 8 * width;
    return v;
}

bool fuzz_open(const uint8_t *data, size_t size, struct fuzz_stream *s)
{
    memset(s, 0, sizeof *s);
    s->copy = fuzz_new(size);
    memcpy(s->copy, data, size);
    struct crackle_error error = {0, 0, 0, NULL};
    struct crackle_header header;
    const int probed = crackle_header_read(s->copy, size, 0, &header, &error);
    fuzz_check_status(probed, &error);
    /* 's' holds the copy: NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
    int status = crackle_open(s->copy, size, &s->stream, NULL, &error);
    fuzz_check_status(status, &error);
    FUZZ_CHECK((status == CRACKLE_OK) == (s->stream != NULL));
    FUZZ_CHECK(status != CRACKLE_BAD_ARGUMENT);
    FUZZ_CHECK(probed == CRACKLE_OK || status == probed);
    if (status) {
        fuzz_close(s);
        return false;
    }
    s->header = crackle_stream_header(s->stream);
    /* All but the padding behind the last member. */
    FUZZ_CHECK(!memcmp(s->header, &header,
                       offsetof(struct crackle_header, header_bytes) +
                           sizeof header.header_bytes));
    s->pixels = (uint64_t)header.sx * header.sy;
    /* Of no voxels, too, there may be 2^32 slices. */
    if (header.sz > FUZZ_MOST_VOXELS || s->pixels > FUZZ_MOST_VOXELS ||
        s->pixels * header.sz > FUZZ_MOST_VOXELS) {
        fuzz_close(s);
        return false;
    }
    s->voxels = s->pixels * header.sz;
    uint64_t count = 0;
    const uint8_t *background = NULL;
    const uint8_t *unique = crackle_unique(s->stream, &count, &background);
    FUZZ_CHECK(count <= size);
    s->entries = count + (background != NULL);
    s->entry = fuzz_new((size_t)s->entries * sizeof *s->entry);
    for (uint64_t k = 0; k < count; k++)
        s->entry[k] = entry_label(&header, unique + k * header.stored_width);
    if (background)
        s->entry[count] = entry_label(&header, background);
    return true;
}

void fuzz_close(struct fuzz_stream *s)
{
    crackle_close(s->stream);
    fuzz_free(s->entry);
    fuzz_free(s->copy);
    memset(s, 0, sizeof *s);
}

/* ---- volumes ---- */

int fuzz_decode(const struct fuzz_stream *s, struct fuzz_volume *volume)
{
    const struct crackle_header *header = s->header;
    memset(volume, 0, sizeof *volume);
    volume->sx = header->sx;
    volume->sy = header->sy;
    volume->sz = header->sz;
    volume->pixels = s->pixels;
    volume->voxels = s->voxels;
    const size_t bytes = (size_t)s->voxels * header->data_width;
    uint8_t *out = fuzz_new(bytes);
    struct crackle_workspace *ws = crackle_workspace_new();
    struct crackle_error error = {0, 0, 0, NULL};
    int status = crackle_decode(s->stream, ws, 0, header->sz, NULL, out, bytes,
                                0, header->sz, 0, &error);
    fuzz_check_status(status, &error);
    FUZZ_CHECK(status != CRACKLE_BAD_ARGUMENT);
    crackle_workspace_free(ws);
    if (status == CRACKLE_OK) {
        volume->label = fuzz_new((size_t)s->voxels * sizeof *volume->label);
        for (uint64_t i = 0; i < s->voxels; i++)
            volume->label[i] = fuzz_element(out, i, header->data_width,
                                            header->is_signed);
    }
    fuzz_free(out);
    return status;
}

void fuzz_volume_free(struct fuzz_volume *volume)
{
    fuzz_free(volume->label);
    volume->label = NULL;
}

/* ---- groups ---- */

static int compare_labels(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

void fuzz_groups_make(struct fuzz_choices *choices, bool all,
                      const struct fuzz_stream *s, struct fuzz_groups *groups)
{
    const size_t n = (size_t)s->entries;
    groups->sorted = fuzz_new(n * sizeof *groups->sorted);
    memcpy(groups->sorted, s->entry, n * sizeof *groups->sorted);
    if (n)
        qsort(groups->sorted, n, sizeof *groups->sorted, compare_labels);
    uint32_t count = 0;
    for (size_t i = 0; i < n; i++)
        if (i == 0 || groups->sorted[i] != groups->sorted[count - 1])
            groups->sorted[count++] = groups->sorted[i];
    groups->count = count;
    const uint8_t choice = fuzz_choose(choices);
    groups->modulo = choice % 4 ? UINT32_MAX : 1u + choice / 4 % 8;
    groups->left_out = all || choice % 3 ? 0 : 2 + choice / 3 % 4;
    groups->of_entry = fuzz_new(n * sizeof *groups->of_entry);
    for (size_t i = 0; i < n; i++)
        groups->of_entry[i] = fuzz_group(groups, s->entry[i]);
}

void fuzz_groups_free(struct fuzz_groups *groups)
{
    fuzz_free(groups->sorted);
    fuzz_free(groups->of_entry);
}

uint32_t fuzz_group(const struct fuzz_groups *groups, uint64_t label)
{
    uint32_t low = 0, high = groups->count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (groups->sorted[middle] < label)
            low = middle + 1;
        else
            high = middle;
    }
    FUZZ_CHECK(low < groups->count && groups->sorted[low] == label);
    if (groups->left_out && low % groups->left_out == 0)
        return FUZZ_NO_GROUP;
    return low % groups->modulo;
}

/* ---- encoding ---- */

uint8_t *fuzz_encode(const struct crackle_params *params, const void *array,
                     uint32_t split, size_t *size)
{
    int permissible = crackle_guess_permissible(params, array);
    uint8_t *stream = NULL;
    for (int attempt = 0; attempt < 2 && !stream; attempt++) {
        struct crackle_part *parts[2];
        struct crackle_error error = {0, 0, 0, NULL};
        struct crackle_workspace *ws = crackle_workspace_new();
        for (int i = 0; i < 2; i++) {
            parts[i] = crackle_encode_part(params, array, i ? split : 0,
                                           i ? params->sz : split, permissible,
                                           ws, &error);
            FUZZ_CHECK(parts[i]);
        }
        FUZZ_CHECK(crackle_join(params, parts, 2, permissible, &stream, size,
                                &error) == CRACKLE_OK);
        for (int i = 0; i < 2; i++)
            crackle_part_free(parts[i]);
        crackle_workspace_free(ws);
        permissible = !permissible;
    }
    FUZZ_CHECK(stream);
    return stream;
}

int fuzz_recode(const struct crackle_params *params,
                const struct fuzz_stream *s, const struct crackle_recode *how,
                uint32_t split, int permissible, uint8_t **data, size_t *size)
{
    struct crackle_part *parts[2] = {NULL, NULL};
    struct crackle_error error = {0, 0, 0, NULL};
    struct crackle_workspace *ws = crackle_workspace_new();
    int status = CRACKLE_OK;
    *data = NULL;
    for (int i = 0; i < 2 && !status; i++) {
        parts[i] = crackle_recode_part(params, s->stream, how, i ? split : 0,
                                       i ? params->sz : split, permissible, ws,
                                       &error);
        status = parts[i] ? CRACKLE_OK : error.status;
    }
    if (!status)
        status = crackle_join(params, parts, 2, permissible, data, size,
                              &error);
    fuzz_check_status(status, &error);
    for (int i = 0; i < 2; i++)
        crackle_part_free(parts[i]);
    crackle_workspace_free(ws);
    return status;
}

void fuzz_check_stream(const uint8_t *data, size_t size,
                       const struct fuzz_volume *volume,
                       struct fuzz_choices *choices)
{
    struct fuzz_stream s;
    struct fuzz_volume back;
    FUZZ_CHECK(fuzz_open(data, size, &s));
    FUZZ_CHECK(fuzz_decode(&s, &back) == CRACKLE_OK);
    FUZZ_CHECK(back.sx == volume->sx && back.sy == volume->sy &&
               back.sz == volume->sz);
    FUZZ_CHECK(!memcmp(back.label, volume->label,
                       (size_t)volume->voxels * sizeof *back.label));
    if (choices && volume->voxels <= FUZZ_MOST_COUNTED)
        fuzz_check_queries(&s, &back, NULL, NULL, choices);
    fuzz_volume_free(&back);
    fuzz_close(&s);
}
