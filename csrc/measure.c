/* Sizes, boxes and sums of coordinates by label; labels of components and at
 * single voxels. */
#include "fold.h"

#include <stdlib.h>

/* What is known of a component of one slice. */
struct extent {
    uint32_t voxels, min_x, max_x, max_y;
    uint64_t twice_x, sum_y; /* the sum of x, twice; and of y */
};

/* With 'boxes' or 'sums' false, what is for the other alone; constants. */
CRACKLE_INLINE void extents_of_slice(const struct crackle_slice *slice,
                                     bool boxes, bool sums,
                                     struct extent *extents)
{
    const uint32_t *start = slice->run_start;
    for (uint32_t c = 0; c < slice->num_components; c++) {
        struct extent none = {0, UINT32_MAX, 0, 0, 0, 0};
        extents[c] = none;
    }
    for (uint32_t y = 0, base = 0; y < slice->sy; y++, base += slice->sx) {
        const size_t row = (size_t)y * slice->words;
        const uint32_t end = slice->word_run[row + slice->words];
        for (uint32_t r = slice->word_run[row]; r < end; r++) {
            struct extent *e = &extents[slice->run_component[r]];
            const uint32_t first = start[r] - base;
            const uint32_t last = start[r + 1] - 1 - base;
            const uint32_t voxels = last + 1 - first;
            e->voxels += voxels;
            if (boxes) {
                e->min_x = first < e->min_x ? first : e->min_x;
                e->max_x = last > e->max_x ? last : e->max_x;
                e->max_y = y; /* rows ascend */
            }
            if (sums) {
                e->twice_x += (uint64_t)(first + last) * voxels;
                e->sum_y += (uint64_t)y * voxels;
            }
        }
    }
}

/* Add the components of slice z to the totals of their groups. */
static void extents_add(const struct crackle_slice *slice, uint32_t z,
                        const uint32_t *group, const struct extent *extents,
                        uint64_t *counts, uint32_t *boxes, uint64_t *sums)
{
    for (uint32_t c = 0; c < slice->num_components; c++) {
        const size_t g = group[c];
        const struct extent *e = &extents[c];
        if (g == CRACKLE_NO_GROUP)
            continue;
        if (boxes) {
            uint32_t *box = boxes + 6 * g;
            const uint32_t min_y = slice->run_start[slice->first_run[c]] /
                                   slice->sx;
            const bool new = counts[g] == 0;
            box[0] = new || e->min_x < box[0] ? e->min_x : box[0];
            box[1] = new || min_y < box[1] ? min_y : box[1];
            box[2] = new || z < box[2] ? z : box[2];
            box[3] = new || e->max_x > box[3] ? e->max_x : box[3];
            box[4] = new || e->max_y > box[4] ? e->max_y : box[4];
            box[5] = new || z > box[5] ? z : box[5];
        }
        counts[g] += e->voxels;
        if (sums) {
            sums[3 * g] += e->twice_x / 2;
            sums[3 * g + 1] += e->sum_y;
            sums[3 * g + 2] += (uint64_t)z * e->voxels;
        }
    }
}

/* The same when only the counts are wanted: no rows, no columns. */
static void counts_add(const struct crackle_slice *slice,
                       const uint32_t *group, uint32_t *voxels,
                       uint64_t *counts)
{
    memset(voxels, 0, (size_t)slice->num_components * sizeof *voxels);
    const uint32_t *start = slice->run_start;
    for (uint32_t r = 0; r < slice->num_runs; r++)
        voxels[slice->run_component[r]] += start[r + 1] - start[r];
    for (uint32_t c = 0; c < slice->num_components; c++)
        if (group[c] != CRACKLE_NO_GROUP)
            counts[group[c]] += voxels[c];
}

int crackle_measure(const struct crackle_stream *stream,
                    struct crackle_workspace *ws, uint32_t z0, uint32_t z1,
                    const uint8_t *wanted, const uint32_t *group,
                    uint64_t *counts, uint32_t *boxes, uint64_t *sums,
                    struct crackle_error *error)
{
    int status = crackle_fold_prepare(stream, ws, z0, z1, error);
    if (status || !stream->first_component)
        return status;
    crackle_moves_ahead(ws, z0, z1, wanted);
    const struct crackle_slice *slice = &ws->slice;
    for (uint32_t z = z0; z < z1; z++) {
        if (wanted && !wanted[z - z0])
            continue;
        status = crackle_runs_read(stream, ws, z, error);
        if (status)
            return status;
        const size_t n = slice->num_components;
        uint32_t *groups = crackle_reserve(&ws->values, n * sizeof *groups);
        struct extent *extents = crackle_reserve(&ws->block,
                                                 n * sizeof *extents);
        if (!groups || !extents)
            return CRACKLE_NOMEM(error);
        status = crackle_groups_of_slice(stream, slice, z, group, groups,
                                         error);
        if (status)
            return status;
        if (!boxes && !sums) {
            counts_add(slice, groups, (uint32_t *)extents, counts);
            continue;
        }
        if (boxes && sums)
            extents_of_slice(slice, true, true, extents);
        else if (boxes)
            extents_of_slice(slice, true, false, extents);
        else
            extents_of_slice(slice, false, true, extents);
        extents_add(slice, z, groups, extents, counts, boxes, sums);
    }
    return CRACKLE_OK;
}

const uint64_t *crackle_first_components(const struct crackle_stream *stream)
{
    return stream->first_component;
}

int crackle_keys(const struct crackle_stream *stream,
                 struct crackle_workspace *ws, uint32_t z0, uint32_t z1,
                 uint32_t *keys, struct crackle_error *error)
{
    int status = crackle_fold_prepare(stream, ws, z0, z1, error);
    if (status || !stream->first_component)
        return status;
    const uint64_t *first = stream->first_component;
    if (stream->background)
        crackle_moves_ahead(ws, z0, z1, NULL);
    for (uint32_t z = z0; z < z1; z++) {
        /* Flat streams say it without being walked. */
        if (stream->background) {
            status = crackle_components_read(stream, ws, z, error);
            if (status)
                return status;
        } else {
            ws->slice.num_components = (uint32_t)(first[z + 1] - first[z]);
        }
        status = crackle_groups_of_slice(stream, &ws->slice, z, NULL,
                                         keys + (first[z] - first[z0]), error);
        if (status)
            return status;
    }
    return CRACKLE_OK;
}

int crackle_points(const struct crackle_stream *stream,
                   struct crackle_workspace *ws, uint64_t count,
                   const uint32_t *z, const uint32_t *pixel, uint32_t *keys,
                   struct crackle_error *error)
{
    const uint32_t sz = stream->header.sz;
    int status = crackle_fold_prepare(stream, ws, 0, sz, error);
    if (status)
        return status;
    const uint64_t pixels = (uint64_t)stream->header.sx * stream->header.sy;
    for (uint64_t i = 0; i < count; i++)
        if (z[i] >= sz || pixel[i] >= pixels || (i && z[i] < z[i - 1]))
            return crackle_fail(error, CRACKLE_BAD_ARGUMENT,
                                CRACKLE_SECTION_NONE, -1,
                                "a point is not in the volume, or the points "
                                "are not in order");
    for (uint64_t i = 0; i < count;) {
        const uint32_t here = z[i];
        status = crackle_components_read(stream, ws, here, error);
        if (status)
            return status;
        uint32_t *groups = crackle_reserve(
            &ws->values, (size_t)ws->slice.num_components * sizeof *groups);
        if (!groups)
            return CRACKLE_NOMEM(error);
        status = crackle_groups_of_slice(stream, &ws->slice, here, NULL,
                                         groups, error);
        if (status)
            return status;
        for (; i < count && z[i] == here; i++)
            keys[i] = groups[crackle_component_at(&ws->slice, pixel[i])];
    }
    return CRACKLE_OK;
}

int crackle_component_checksums(const struct crackle_stream *stream,
                                struct crackle_workspace *ws, uint32_t z0,
                                uint32_t z1, uint32_t *crcs,
                                struct crackle_error *error)
{
    int status = crackle_fold_prepare(stream, ws, z0, z1, error);
    if (status || !stream->first_component)
        return status;
    if (!stream->component_crcs)
        crackle_moves_ahead(ws, z0, z1, NULL);
    for (uint32_t z = z0; z < z1; z++) {
        if (stream->component_crcs) {
            crcs[z - z0] =
                crackle_load32(stream->component_crcs + (size_t)z * 4);
            continue;
        }
        status = crackle_components_read(stream, ws, z, error);
        if (status)
            return status;
        crcs[z - z0] = crackle_kernels()->crc(ws);
    }
    return CRACKLE_OK;
}
