/*
 * Where the time goes: time-stamp cycles a voxel of each stage, for a stream
 * of flat labels without a Markov model. x86-64 only; `make stages DATA=...`.
 *
 *     stages STREAM [ROUNDS [CPU_LEVEL]]
 *
 * The stages are called as decode.c and encode.c do, whose static functions
 * this needs: so they are included here and the others linked.
 */
#include "../csrc/decode.c" /* NOLINT(bugprone-suspicious-include): see above */
#include "../csrc/encode.c" /* NOLINT(bugprone-suspicious-include): see above */

#include <stdio.h>
#include <x86intrin.h>

enum { STAGES = 8 };

static void report(const char *what, const char *const *names,
                   const uint64_t *cycles, double voxels)
{
    double all = 0;
    printf("%s:", what);
    for (int i = 0; i < STAGES && names[i]; i++) {
        printf(" %s %.2f", names[i], (double)cycles[i] / voxels);
        all += (double)cycles[i] / voxels;
    }
    printf(", all %.2f\n", all);
}

/* Add the cycles since '*from' to '*to'. */
static void lap(uint64_t *from, uint64_t *to)
{
    uint64_t now = __rdtsc();
    *to += now - *from;
    *from = now;
}

static int decode_once(const struct crackle_stream *stream,
                       struct crackle_workspace *ws, uint8_t *out,
                       uint64_t *cycles, struct crackle_error *error)
{
    const struct crackle_kernels *kernels = crackle_kernels();
    const struct crackle_header *header = &stream->header;
    const unsigned log2 = crackle_width_log2(header->data_width);
    const size_t bytes = ((size_t)header->sx * header->sy) << log2;
    struct crackle_slice *slice = &ws->slice;
    for (uint32_t z = 0; z < header->sz; z++, out += bytes) {
        struct crackle_moves moves;
        uint64_t t = __rdtsc();
        int status = crackle_moves_read(stream, ws, z, &moves, error);
        if (status)
            return status;
        lap(&t, &cycles[0]);
        const size_t bitmap = (size_t)slice->words * slice->sy * 8;
        if (moves.num_starts) {
            kernels->walk(ws, &moves);
            lap(&t, &cycles[1]);
            kernels->cracks_to_bits(ws);
        } else {
            memset(slice->left, 0, bitmap);
            memset(slice->above, 0, bitmap);
        }
        if (header->permissible)
            crackle_flip(slice);
        lap(&t, &cycles[2]);
        kernels->find_runs(ws);
        lap(&t, &cycles[3]);
        if (kernels->crc(ws) !=
            crackle_load32(stream->component_crcs + (size_t)z * 4))
            return CRACKLE_CORRUPT;
        lap(&t, &cycles[4]);
        void *values = crackle_reserve(&ws->values,
                                       (size_t)slice->num_components << log2);
        status = crackle_labels_of_slice(stream, slice, z, NULL, values,
                                         error);
        if (status)
            return status;
        lap(&t, &cycles[5]);
        kernels->render[log2](ws, values, out);
        lap(&t, &cycles[6]);
    }
    return CRACKLE_OK;
}

static int encode_once(const struct crackle_params *params, const void *labels,
                       int permissible, struct crackle_workspace *ws,
                       uint64_t *cycles, struct crackle_error *error)
{
    const struct crackle_kernels *kernels = crackle_kernels();
    struct crackle_slice *slice = &ws->slice;
    struct crackle_part *part = calloc(1, sizeof *part);
    int status = CRACKLE_NO_MEMORY;
    if (!part)
        return status;
    part->z1 = params->sz;
    part->slices = calloc(params->sz, sizeof *part->slices);
    if (part->slices)
        status = crackle_slice_reserve(ws, params->sx, params->sy, error);
    if (!status)
        status = crackle_crc_powers(ws, params->sx, params->sy, error);
    uint32_t waiting = 0;
    for (uint32_t z = 0; z < params->sz && !status; z++) {
        uint64_t t = __rdtsc();
        compare_slice(params, labels, z, slice);
        lap(&t, &cycles[0]);
        kernels->find_runs(ws);
        lap(&t, &cycles[1]);
        kernels->crc(ws);
        lap(&t, &cycles[2]);
        uint32_t *keys = crackle_reserve(
            &ws->values, (size_t)slice->num_components * sizeof *keys);
        status = labels_of_slice(params, labels, z, params->data_width, part,
                                 slice, keys);
        status |= crackle_part_add_keys(part, keys, slice->num_components);
        lap(&t, &cycles[3]);
        if (permissible)
            crackle_flip(slice);
        status |= kernels->trace_begin(ws, &ws->traces[waiting++]);
        lap(&t, &cycles[4]);
        if (waiting < 2 && z + 1 < params->sz)
            continue;
        status |= kernels->trace(ws->traces, waiting, params->sx + 1);
        lap(&t, &cycles[5]);
        for (uint32_t i = 0; i < waiting && !status; i++) {
            uint32_t index_bytes;
            uint64_t num_codes;
            status = crackle_chains_pack(ws, &ws->traces[i], &part->code,
                                         &part->code_size, &index_bytes,
                                         &num_codes);
        }
        lap(&t, &cycles[6]);
        waiting = 0;
    }
    crackle_part_free(part);
    return status;
}

/* The quickest of 'rounds'. */
static void keep_best(uint64_t *best, const uint64_t *cycles)
{
    uint64_t old = 0, new = 0;
    for (int i = 0; i < STAGES; i++) {
        old += best[i];
        new += cycles[i];
    }
    if (!old || new < old)
        memcpy(best, cycles, STAGES * sizeof *best);
}

/* The bytes of a file, to be freed, or NULL. */
static uint8_t *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    uint8_t *data = NULL;
    long end = -1;
    if (!fseek(file, 0, SEEK_END))
        end = ftell(file);
    if (end > 0 && !fseek(file, 0, SEEK_SET))
        data = malloc((size_t)end);
    *size = data ? fread(data, 1, (size_t)end, file) : 0;
    fclose(file);
    return data;
}

int main(int argc, char **argv)
{
    static const char *const decoding[STAGES] = {
        "moves", "walk", "bits", "runs", "crc", "labels", "render"};
    static const char *const encoding[STAGES] = {
        "compare", "runs", "crc", "labels", "sides", "trace", "pack"};
    size_t size = 0;
    uint8_t *data = argc > 1 ? read_file(argv[1], &size) : NULL;
    if (!data) {
        fprintf(stderr, "usage: stages STREAM [ROUNDS [CPU_LEVEL]]\n");
        return 2;
    }
    const long rounds = argc > 2 ? strtol(argv[2], NULL, 10) : 20;
    if (argc > 3)
        crackle_cpu_select((int)strtol(argv[3], NULL, 10));
    struct crackle_error error = {0, 0, 0, "there is no memory"};
    struct crackle_stream *stream = NULL;
    struct crackle_workspace *ws = crackle_workspace_new();
    if (!ws || crackle_open(data, size, &stream, NULL, &error)) {
        fprintf(stderr, "can't read it: %s\n", error.what);
        crackle_workspace_free(ws);
        free(data);
        return 1;
    }
    const struct crackle_header *h = &stream->header;
    const double voxels = (double)h->sx * h->sy * h->sz;
    uint8_t *out = malloc((size_t)voxels * h->data_width);
    const struct crackle_params params = {.sx = h->sx,
                                          .sy = h->sy,
                                          .sz = h->sz,
                                          .data_width = h->data_width,
                                          .is_signed = h->is_signed,
                                          .fortran_order = 1};
    uint64_t decode_best[STAGES] = {0}, encode_best[STAGES] = {0};
    int status = out ? crackle_walk_prepare(ws, h->sx, h->sy, &error)
                     : CRACKLE_NO_MEMORY;
    for (long i = 0; i < rounds && !status; i++) {
        uint64_t decoded[STAGES] = {0}, encoded[STAGES] = {0};
        status = decode_once(stream, ws, out, decoded, &error);
        if (!status)
            status = encode_once(&params, out, h->permissible, ws, encoded,
                                 &error);
        keep_best(decode_best, decoded);
        keep_best(encode_best, encoded);
    }
    if (status)
        fprintf(stderr, "status %s\n", crackle_status_name(status));
    printf("%u x %u x %u, level %d, cycles a voxel\n", h->sx, h->sy, h->sz,
           crackle_cpu_level());
    report("decode", decoding, decode_best, voxels);
    report("encode", encoding, encode_best, voxels);
    crackle_close(stream);
    crackle_workspace_free(ws);
    free(out);
    free(data);
    return status ? 1 : 0;
}
