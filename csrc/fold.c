/* Slices as layers: runs with values. */
#include "fold.h"

int crackle_fold_prepare(const struct crackle_stream *stream,
                         struct crackle_workspace *ws, uint32_t z0,
                         uint32_t z1, struct crackle_error *error)
{
    const struct crackle_header *header = &stream->header;
    int status = crackle_range_check(stream, z0, z1, error);
    if (status || !stream->first_component) /* no voxels */
        return status;
    return crackle_walk_prepare(ws, header->sx, header->sy, error);
}

int crackle_runs_read(const struct crackle_stream *stream,
                      struct crackle_workspace *ws, uint32_t z,
                      struct crackle_error *error)
{
    int status = crackle_components_read(stream, ws, z, error);
    if (status)
        return status;
    if (!stream->component_crcs)
        crackle_kernels()->crc(ws); /* finds run_start */
    struct crackle_slice *slice = &ws->slice;
    slice->run_start[slice->num_runs] = slice->sx * slice->sy;
    return CRACKLE_OK;
}

int crackle_layer_read(const struct crackle_stream *stream,
                       struct crackle_workspace *ws, uint32_t z,
                       const uint32_t *group, struct crackle_layer *layer,
                       struct crackle_error *error)
{
    int status = crackle_runs_read(stream, ws, z, error);
    if (status)
        return status;
    const struct crackle_slice *slice = &ws->slice;
    const uint32_t n = slice->num_runs;
    uint32_t *values = crackle_reserve(
        &ws->values, (size_t)slice->num_components * sizeof *values);
    layer->row_run = crackle_reserve(&layer->rows,
                                     ((size_t)slice->sy + 1) * 4);
    layer->start = crackle_reserve(&layer->starts, ((size_t)n + 1) * 4);
    layer->component = crackle_reserve(&layer->components, (size_t)n * 4);
    layer->value = crackle_reserve(&layer->values, (size_t)n * 4);
    if (!values || !layer->row_run || !layer->start || !layer->component ||
        !layer->value)
        return CRACKLE_NOMEM(error);
    status = crackle_groups_of_slice(stream, slice, z, group, values, error);
    if (status)
        return status;
    layer->sx = slice->sx;
    layer->sy = slice->sy;
    layer->num_runs = n;
    for (uint32_t y = 0; y <= slice->sy; y++)
        layer->row_run[y] = slice->word_run[(size_t)y * slice->words];
    memcpy(layer->start, slice->run_start, ((size_t)n + 1) * 4);
    memcpy(layer->component, slice->run_component, (size_t)n * 4);
    for (uint32_t r = 0; r < n; r++)
        layer->value[r] = values[slice->run_component[r]];
    return CRACKLE_OK;
}
