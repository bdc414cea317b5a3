/* A stream from a stream: its slices traced anew with other labels, without
 * the borders between equal ones, in the other crack format. */
#include "fold.h"

#include "part.h"

struct recoding {
    const struct crackle_stream *stream;
    const struct crackle_recode *how;
    struct crackle_workspace *ws;
    struct crackle_part *part;
    uint32_t last; /* the group of the voxel before the slice */
    struct crackle_error *error;
};

/* Read slice z of the stream to ws->layers[0]. */
static int read_slice(struct recoding *r, uint32_t z)
{
    const struct crackle_recode *how = r->how;
    struct crackle_layer *layer = &r->ws->layers[0];
    int status = crackle_layer_read(r->stream, r->ws, z,
                                    how->by_component ? NULL : how->group,
                                    layer, r->error);
    if (status || !how->by_component)
        return status;
    const uint32_t *group = how->group + r->stream->first_component[z];
    for (uint32_t i = 0; i < layer->num_runs; i++)
        layer->value[i] = group[layer->component[i]];
    return CRACKLE_OK;
}

/* Voxels of the slice that equal the one before them in stream order. */
static uint64_t count_pairs(struct recoding *r, bool first)
{
    const struct crackle_layer *layer = &r->ws->layers[0];
    const uint32_t *value = layer->value;
    uint64_t pairs = (uint64_t)layer->sx * layer->sy;
    for (uint32_t i = 0; i < layer->num_runs; i++) {
        pairs -= value[i] != r->last || (first && i == 0);
        r->last = value[i];
    }
    return pairs;
}

/* Add what is known of the slice but its crack code to the part, and make
 * ready to trace it. */
static int recode_slice(struct recoding *r, uint32_t z, int permissible,
                        struct crackle_trace *trace)
{
    const struct crackle_kernels *kernels = crackle_kernels();
    const struct crackle_layer *layer = &r->ws->layers[0];
    struct crackle_slice *slice = &r->ws->slice;
    struct crackle_part *part = r->part;
    if (r->how->drop_borders) {
        crackle_drop_borders(r->ws, layer, slice->left, slice->above);
        kernels->find_runs(r->ws);
    }
    struct coded_slice *coded = &part->slices[z - part->z0];
    const uint32_t n = slice->num_components;
    coded->components = n;
    coded->crc = kernels->crc(r->ws);
    uint32_t *keys = crackle_reserve(&r->ws->values, (size_t)n * sizeof *keys);
    if (!keys)
        return CRACKLE_NO_MEMORY;
    /* A component's first pixel lies in a run of the layer; both ascend. */
    for (uint32_t c = 0, run = 0; c < n; c++) {
        const uint32_t pixel = slice->run_start[slice->first_run[c]];
        while (layer->start[run + 1] <= pixel)
            run++;
        int status = crackle_part_intern(
            part, r->how->labels[layer->value[run]], &keys[c]);
        if (status)
            return status;
    }
    int status = crackle_part_add_keys(part, keys, n);
    if (status)
        return status;
    if (permissible)
        crackle_flip(slice);
    return kernels->trace_begin(r->ws, trace);
}

struct crackle_part *crackle_recode_part(
    const struct crackle_params *params, const struct crackle_stream *stream,
    const struct crackle_recode *how, uint32_t z0, uint32_t z1,
    int permissible, struct crackle_workspace *ws, struct crackle_error *error)
{
    const struct crackle_header *header = &stream->header;
    if (params->sx != header->sx || params->sy != header->sy ||
        params->sz != header->sz) {
        crackle_fail(error, CRACKLE_BAD_ARGUMENT, CRACKLE_SECTION_NONE, -1,
                     "the volumes differ in size");
        return NULL;
    }
    struct crackle_part *part = crackle_part_new(params, z0, z1, ws, error);
    if (!part)
        return NULL;
    int status = crackle_fold_prepare(stream, ws, z0, z1, error);
    if (status) {
        crackle_part_free(part);
        return NULL;
    }
    if (!stream->first_component || z0 == z1)
        return part;
    struct recoding r = {stream, how, ws, part, 0, error};
    const uint32_t from = z0 ? z0 - 1 : 0;
    crackle_moves_ahead(ws, from, z1, NULL);
    uint32_t waiting = 0, z = from;
    for (; z < z1 && !status; z++) {
        if (read_slice(&r, z)) {
            crackle_part_free(part);
            return NULL;
        }
        const uint64_t pairs = count_pairs(&r, z == 0);
        if (z < z0)
            continue;
        part->pairs += pairs;
        status = recode_slice(&r, z, permissible, &ws->traces[waiting++]);
        const bool large = ws->traces[0].codes.size > CRACKLE_LARGE_TRACE;
        if (!status && (waiting == 2 || z + 1 == z1 || large)) {
            status = crackle_part_trace(part, z + 1 - waiting, waiting, ws);
            waiting = 0;
        }
    }
    return status ? crackle_part_failed(part, status, z, error) : part;
}
