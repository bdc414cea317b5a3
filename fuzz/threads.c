/*
 * Several threads at once under ThreadSanitizer: each decodes, measures and
 * writes anew streams that all share, and encodes arrays of its own and one
 * that all share.
 *
 *     threads STREAM...
 */
#include "../csrc/crackle.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 6, ROUNDS = 4 };

struct shared {
    struct crackle_stream *stream;
    uint8_t *bytes, *array; /* what was read, and what it decodes to */
    size_t size, array_size;
    uint32_t *group; /* each entry its own */
    uint64_t *labels;
    uint64_t entries;
};

struct thread {
    pthread_t id;
    unsigned number;
    const struct shared *streams;
    unsigned count;
};

static void require(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "does not hold: %s\n", what);
    exit(1);
}

static void *get(size_t size)
{
    void *p = calloc(size + 1, 1);
    require(p != NULL, "there is memory");
    return p;
}

static void decode(const struct shared *s, struct crackle_workspace *ws,
                   uint8_t *out)
{
    const struct crackle_header *header = crackle_stream_header(s->stream);
    const size_t slice = (size_t)header->sx * header->sy * header->data_width;
    /* The slices one by one, from the last. */
    for (uint32_t z = header->sz; z-- > 0;)
        require(!crackle_decode(s->stream, ws, z, z + 1, NULL, out + z * slice,
                                slice, z, z + 1, 0, NULL),
                "decode");
    require(!memcmp(out, s->array, s->array_size), "the same voxels");
}

static void measure(const struct shared *s, struct crackle_workspace *ws,
                    struct crackle_workspace *other)
{
    const struct crackle_header *header = crackle_stream_header(s->stream);
    const uint64_t voxels = (uint64_t)header->sx * header->sy * header->sz;
    const size_t n = (size_t)s->entries;
    uint64_t *counts = get(n * 8), *sums = get(n * 24), total = 0, parts;
    uint32_t *boxes = get(n * 24);
    const uint64_t *first = crackle_first_components(s->stream);
    uint32_t *parent = get((size_t)first[header->sz] * 4);
    uint8_t *used = get(n), *flags = get(header->sz);
    struct crackle_pair *pairs;
    size_t num_pairs;
    int exact;
    require(!crackle_measure(s->stream, ws, 0, header->sz, NULL, s->group,
                             counts, boxes, sums, NULL),
            "measure");
    for (size_t i = 0; i < n; i++)
        total += counts[i];
    require(total == voxels, "all voxels are counted");
    require(!crackle_contacts(s->stream, ws, 0, header->sz, s->group, &pairs,
                              &num_pairs, NULL),
            "contacts");
    crackle_free(pairs);
    require(!crackle_overlay(s->stream, ws, s->group, s->stream, other,
                             s->group, 0, header->sz, 1, &pairs, &num_pairs,
                             NULL) &&
                num_pairs == 0,
            "overlay");
    crackle_free(pairs);
    for (uint64_t i = 0; i < first[header->sz]; i++)
        parent[i] = (uint32_t)i;
    require(!crackle_link(s->stream, ws, 0, header->sz, s->group, 26, parent,
                          NULL),
            "link");
    memset(counts, 0, n * 8);
    require(!crackle_surface(s->stream, ws, 0, header->sz, s->group, counts,
                             NULL, 0, 2, NULL),
            "surface");
    require(!crackle_keys(s->stream, ws, 0, header->sz, parent, NULL), "keys");
    require(!crackle_labels_in(s->stream, 0, header->sz, used, &parts, &exact,
                               NULL),
            "labels");
    require(!crackle_slices_with(s->stream, s->labels[0], 0, header->sz, flags,
                                 &exact, NULL),
            "slices");
    free(counts);
    free(sums);
    free(boxes);
    free(parent);
    free(used);
    free(flags);
}

/* Encode what the stream decodes to, or write the stream anew; and read it. */
static void encode(const struct shared *s, struct crackle_workspace *ws,
                   const void *array, int recode)
{
    const struct crackle_header *header = crackle_stream_header(s->stream);
    struct crackle_params params;
    memset(&params, 0, sizeof params);
    params.sx = header->sx;
    params.sy = header->sy;
    params.sz = header->sz;
    params.data_width = header->data_width;
    params.is_signed = header->is_signed;
    params.markov_order = 2;
    params.any_format = recode != 0;
    struct crackle_recode how = {s->labels, s->group, 0, 0};
    int permissible = crackle_guess_permissible(&params, array);
    uint8_t *bytes = NULL, *pinned = NULL;
    size_t size = 0;
    for (int attempt = 0; attempt < 2 && !bytes; attempt++) {
        struct crackle_part *part =
            recode ? crackle_recode_part(&params, s->stream, &how, 0,
                                         header->sz, permissible, ws, NULL)
                   : crackle_encode_part(&params, array, 0, header->sz,
                                         permissible, ws, NULL);
        require(part != NULL, "encode");
        require(
            !crackle_join(&params, &part, 1, permissible, &bytes, &size, NULL),
            "join");
        crackle_part_free(part);
        permissible = !permissible;
    }
    struct shared made = *s;
    require(!crackle_open(bytes, size, &made.stream, NULL, NULL), "open");
    uint8_t *out = get(s->array_size);
    decode(&made, ws, out);
    require(!crackle_pin(made.stream, ws, 2, NULL, &pinned, &size, NULL),
            "pin");
    crackle_free(pinned);
    crackle_close(made.stream);
    crackle_free(bytes);
    free(out);
}

static void *run(void *state)
{
    const struct thread *thread = state;
    struct crackle_workspace *ws = crackle_workspace_new();
    struct crackle_workspace *other = crackle_workspace_new();
    require(ws && other, "there is memory");
    for (unsigned round = 0; round < ROUNDS; round++)
        for (unsigned i = 0; i < thread->count; i++) {
            /* All at the same stream, or each at another. */
            const unsigned skip = round % 2 ? thread->number : 0;
            const struct shared *s =
                &thread->streams[(i + skip) % thread->count];
            uint8_t *out = get(s->array_size);
            decode(s, ws, out);
            measure(s, ws, other);
            encode(s, ws, round % 2 ? out : s->array, round / 2 % 2 != 0);
            free(out);
        }
    crackle_workspace_free(ws);
    crackle_workspace_free(other);
    return NULL;
}

static void read_stream(const char *path, struct shared *s)
{
    FILE *file = fopen(path, "rb");
    require(file && !fseek(file, 0, SEEK_END), path);
    const long end = ftell(file);
    require(end >= 0 && !fseek(file, 0, SEEK_SET), path);
    s->size = (size_t)end;
    s->bytes = get(s->size);
    require(fread(s->bytes, 1, s->size, file) == s->size, path);
    fclose(file);
    require(!crackle_open(s->bytes, s->size, &s->stream, NULL, NULL), path);
    const struct crackle_header *header = crackle_stream_header(s->stream);
    s->array_size = (size_t)header->sx * header->sy * header->sz *
                    header->data_width;
    s->array = get(s->array_size);
    struct crackle_workspace *ws = crackle_workspace_new();
    require(ws && !crackle_decode(s->stream, ws, 0, header->sz, NULL, s->array,
                                  s->array_size, 0, header->sz, 0, NULL),
            path);
    crackle_workspace_free(ws);
    const uint8_t *background;
    const uint8_t *unique = crackle_unique(s->stream, &s->entries,
                                           &background);
    const unsigned width = header->stored_width;
    s->group = get((size_t)(s->entries + 1) * 4);
    s->labels = get((size_t)(s->entries + 1) * 8);
    for (uint64_t k = 0; k < s->entries + (background != NULL); k++) {
        const uint8_t *p = k < s->entries ? unique + k * width : background;
        uint64_t label = 0;
        for (unsigned i = 0; i < width; i++)
            label |= (uint64_t)p[i] << 8 * i;
        if (header->is_signed && p[width - 1] >> 7 && width < 8)
            label |= ~(uint64_t)0 << 8 * width;
        s->group[k] = (uint32_t)k;
        s->labels[k] = label;
    }
    s->entries += background != NULL;
}

int main(int argc, char **argv)
{
    const int count = argc - 1;
    require(count > 0, "there is a stream");
    struct shared *streams = get((size_t)count * sizeof *streams);
    struct thread threads[THREADS];
    for (int i = 0; i < count; i++)
        read_stream(argv[i + 1], &streams[i]);
    for (unsigned i = 0; i < THREADS; i++) {
        threads[i].number = i;
        threads[i].streams = streams;
        threads[i].count = (unsigned)count;
        require(!pthread_create(&threads[i].id, NULL, run, &threads[i]),
                "a thread starts");
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i].id, NULL);
    for (int i = 0; i < count; i++) {
        crackle_close(streams[i].stream);
        free(streams[i].bytes);
        free(streams[i].array);
        free(streams[i].group);
        free(streams[i].labels);
    }
    free(streams);
    printf("%d streams in %d threads\n", count, THREADS);
    return 0;
}
