/* Decoding slices: moves -> bitmaps -> runs -> components -> pixels. */
#include "internal.h"

#define OTHER_NUMBER                                                          \
    "the slice has another number of components than the label section says"
#define OTHER_CRC "the slice's components do not match their crc32c"

/* Room for a slice of this size, and the tables for walking in it. */
int crackle_walk_prepare(struct crackle_workspace *ws, uint32_t sx,
                         uint32_t sy, struct crackle_error *error)
{
    struct crackle_walk_tables *t = &ws->walk;
    crackle_moves_ahead(ws, 0, 0, NULL);
    int status = crackle_slice_reserve(ws, sx, sy, error);
    if (!status)
        status = crackle_crc_powers(ws, sx, sy, error);
    if (status)
        return status;
    if (t->sx == sx && t->sy == sy)
        return CRACKLE_OK;
    t->sx = 0;
    const uint32_t pitch = sx + 1, plane = pitch * (sy + 1);
    t->large = plane > CRACKLE_LARGE_PLANE;
    if (!t->large) {
        /* Two bytes for what is drawn nowhere, and reads of 64 at a row's
         * end. */
        if (!crackle_reserve(&ws->cracks, 2 * (size_t)plane + 2 + 64))
            return CRACKLE_NOMEM(error);
        memset(ws->cracks.data, 0, ws->cracks.size);
    }

    /* A move up or down draws the left crack of the lower pixel row; one
     * right or left draws the crack above. Differences wrap around. */
    const uint32_t step[4] = {0u - pitch, 1, pitch, 0u - 1};
    const uint32_t mark[4] = {0u - pitch, plane, 0, plane - 1};
    for (unsigned i = 0; i < 4; i++)
        t->land[i] = step[i] - mark[i];
    for (unsigned b = 0; b < 256; b++) {
        uint32_t at = 0;
        for (unsigned j = 0; j < 4; j++) {
            unsigned two = b >> (2 * j) & 3;
            t->mark[b][j] = at + mark[two];
            t->pair[b][j] = two == 3 ? UINT32_MAX : 0;
            at += step[two];
        }
        t->net[b] = at;
    }
    t->sx = sx;
    t->sy = sy;
    t->plane = plane;
    t->blank_known = false;
    return CRACKLE_OK;
}

/* The checksum of a slice that is one component. */
static uint32_t blank_crc(struct crackle_workspace *ws)
{
    struct crackle_walk_tables *t = &ws->walk;
    if (!t->blank_known) {
        t->blank_crc = crackle_kernels()->blank_crc(ws);
        t->blank_known = true;
    }
    return t->blank_crc;
}

/* A slice without moves has one component, or as many as pixels. Such a slice
 * may claim any size, so it is checked before memory is touched for it. */
static int check_blank(const struct crackle_stream *stream,
                       struct crackle_workspace *ws, uint32_t z,
                       struct crackle_error *error)
{
    const bool apart = stream->header.permissible;
    const uint64_t pixels = (uint64_t)ws->slice.sx * ws->slice.sy;
    const uint64_t *first = stream->first_component;
    if (first && first[z + 1] - first[z] != (apart ? pixels : 1))
        return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_CRACKS, z,
                            OTHER_NUMBER);
    if (stream->component_crcs && !apart &&
        crackle_load32(stream->component_crcs + (size_t)z * 4) !=
            blank_crc(ws))
        return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_COMPONENTS,
                            z, OTHER_CRC);
    return CRACKLE_OK;
}

/* Fill the slice's bitmaps with the cracks of slice z. */
static int cracks_read(const struct crackle_stream *stream,
                       struct crackle_workspace *ws, uint32_t z,
                       struct crackle_error *error)
{
    const struct crackle_kernels *kernels = crackle_kernels();
    struct crackle_slice *slice = &ws->slice;
    const size_t num_words = (size_t)slice->words * slice->sy;
    const int where = CRACKLE_SECTION_CRACKS;
    struct crackle_moves moves;
    int status = crackle_moves_read(stream, ws, z, &moves, error);
    if (status)
        return status;
    if (moves.num_starts == 0) {
        status = check_blank(stream, ws, z, error);
        if (status)
            return status;
        memset(slice->left, 0, num_words * 8);
        memset(slice->above, 0, num_words * 8);
    } else {
        uint64_t end;
        bool inside;
        if (ws->walk.large) {
            memset(slice->left, 0, num_words * 8);
            memset(slice->above, 0, num_words * 8);
            end = crackle_walk_bits(ws, &moves, &inside);
        } else {
            end = kernels->walk(ws, &moves);
            inside = kernels->cracks_to_bits(ws);
        }
        if (!inside)
            return crackle_fail(error, CRACKLE_CORRUPT, where, z,
                                "the moves leave the slice or follow its "
                                "border");
        if (end == CRACKLE_WALK_ENDLESS)
            return crackle_fail(error, CRACKLE_CORRUPT, where, z,
                                "the crack code ends within a chain");
        if (moves.num_codes - 1 - end > moves.max_padding)
            return crackle_fail(error, CRACKLE_CORRUPT, where, z,
                                "the crack code goes on after its last "
                                "chain");
    }
    if (stream->header.permissible)
        crackle_flip(slice);
    return CRACKLE_OK;
}

/* Read slice z as far as its components, and check them. */
int crackle_components_read(const struct crackle_stream *stream,
                            struct crackle_workspace *ws, uint32_t z,
                            struct crackle_error *error)
{
    const struct crackle_kernels *kernels = crackle_kernels();
    int status = cracks_read(stream, ws, z, error);
    if (status)
        return status;
    kernels->find_runs(ws);
    if (stream->first_component &&
        ws->slice.num_components !=
            stream->first_component[z + 1] - stream->first_component[z])
        return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_CRACKS, z,
                            OTHER_NUMBER);
    if (stream->component_crcs &&
        kernels->crc(ws) !=
            crackle_load32(stream->component_crcs + (size_t)z * 4))
        return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_COMPONENTS,
                            z, OTHER_CRC);
    return CRACKLE_OK;
}

/* What one call of crackle_decode needs to know. */
struct job {
    const struct crackle_stream *stream;
    struct crackle_workspace *ws;
    const uint64_t *label;
    unsigned width_log2;
    struct crackle_error *error;
};

/* Read slice z and find the value of each component. */
static int values_read(const struct job *job, uint32_t z)
{
    struct crackle_workspace *ws = job->ws;
    struct crackle_slice *slice = &ws->slice;
    int status = crackle_components_read(job->stream, ws, z, job->error);
    if (status)
        return status;
    void *values = crackle_reserve(&ws->values, (size_t)slice->num_components
                                                    << job->width_log2);
    if (!values)
        return CRACKLE_NOMEM(job->error);
    return crackle_labels_of_slice(job->stream, slice, z, job->label, values,
                                   job->error);
}

static size_t aligned(size_t offset)
{
    return (offset + 15) & ~(size_t)15;
}

/* Put the slice just read by, as number k of a block. With 'empty' it is one
 * run a row of value 0. '*used' counts the block's bytes. */
static int save(const struct job *job, uint32_t k, bool empty, size_t *used)
{
    struct crackle_workspace *ws = job->ws;
    const struct crackle_slice *slice = &ws->slice;
    const size_t width = (size_t)1 << job->width_log2;
    const size_t bitmap = (size_t)slice->words * slice->sy * 8;
    const size_t rows = ((size_t)slice->words * slice->sy + 1) * 4;
    const uint32_t runs = empty ? 1 : slice->num_runs;
    struct crackle_saved *saved = &ws->saved[k];
    saved->left = aligned(*used);
    saved->word_run = aligned(saved->left + bitmap);
    saved->values = aligned(saved->word_run + rows);
    *used = saved->values + ((size_t)runs + 8) * width;
    uint8_t *block = crackle_reserve_keep(&ws->block, *used);
    if (!block)
        return CRACKLE_NOMEM(job->error);
    if (empty) {
        memset(block + saved->left, 0, *used - saved->left);
        return CRACKLE_OK;
    }
    memcpy(block + saved->left, slice->left, bitmap);
    memcpy(block + saved->word_run, slice->word_run, rows);
    void *to = block + saved->values;
    const void *from = ws->values.data;
#define CRACKLE_BY_RUN(TYPE)                                                  \
    for (uint32_t i = 0; i < runs; i++)                                       \
        ((TYPE *)to)[i] = ((const TYPE *)from)[slice->run_component[i]];
    switch (width) {
    case 1:
        CRACKLE_BY_RUN(uint8_t)
        break;
    case 2:
        CRACKLE_BY_RUN(uint16_t)
        break;
    case 4:
        CRACKLE_BY_RUN(uint32_t)
        break;
    default:
        CRACKLE_BY_RUN(uint64_t)
    }
    memset((uint8_t *)to + runs * width, 0, 8 * width);
    return CRACKLE_OK;
}

/* Whether slice z has no crack at all, and its checksum says so too. 'blank'
 * is what that of such a slice is. */
static bool is_blank(const struct job *job, uint32_t z, uint32_t blank)
{
    const struct crackle_stream *stream = job->stream;
    struct crackle_moves moves;
    return !crackle_moves_read(stream, job->ws, z, &moves, NULL) &&
           moves.num_starts == 0 &&
           stream->first_component[z + 1] - stream->first_component[z] == 1 &&
           (!stream->component_crcs ||
            crackle_load32(stream->component_crcs + (size_t)z * 4) == blank);
}

/* Chunks of one label are common. If the slices [z0, z1) are such, fill
 * 'count' elements at 'out' and set '*filled'; else they are read as usual. */
static int fill_blank(const struct job *job, uint32_t z0, uint32_t z1,
                      void *out, size_t count, bool *filled)
{
    const struct crackle_stream *stream = job->stream;
    struct crackle_slice *slice = &job->ws->slice;
    *filled = false;
    if (stream->num_unique != 1 || !stream->keys || stream->header.permissible)
        return CRACKLE_OK;
    const uint32_t blank = blank_crc(job->ws);
    slice->num_components = 1;
    uint64_t value = 0; /* with room for any width */
    for (uint32_t z = z0; z < z1; z++) {
        if (!is_blank(job, z, blank))
            return CRACKLE_OK;
        int status = crackle_labels_of_slice(stream, slice, z, job->label,
                                             &value, job->error);
        if (status)
            return status;
    }
    *filled = true;
    uint8_t *p = out;
    const size_t width = (size_t)1 << job->width_log2;
    const uint8_t *bytes = (const uint8_t *)&value;
    bool same = true; /* all bytes of the label, as 0's are */
    for (size_t i = 1; i < width; i++)
        same &= bytes[i] == bytes[0];
    if (same) {
        memset(p, bytes[0], count * width);
        return CRACKLE_OK;
    }
    /* A block, and the block again. */
    size_t done = 0, all = count * width;
    for (; done < all && done < 4096; done += width)
        memcpy(p + done, bytes, width);
    for (size_t block = done; done < all; done += block)
        memcpy(p + done, p, all - done < block ? all - done : block);
    return CRACKLE_OK;
}

/* A block for z-fastest arrays ends early when it holds this much. */
#define CRACKLE_BLOCK_BYTES ((size_t)1 << 20)

int crackle_decode(const struct crackle_stream *stream,
                   struct crackle_workspace *ws, uint32_t z0, uint32_t z1,
                   const uint64_t *label, void *out, size_t out_size,
                   uint32_t out_z0, uint32_t out_z1, int c_order,
                   struct crackle_error *error)
{
    const struct crackle_header *header = &stream->header;
    const uint32_t sx = header->sx, sy = header->sy;
    const uint64_t pixels = (uint64_t)sx * sy;
    struct job job = {stream, ws, label, 0, error};
    job.width_log2 = label ? 0 : crackle_width_log2(header->data_width);
    const size_t width = (size_t)1 << job.width_log2;
    if (out_z1 > header->sz || z0 < out_z0 || z0 > z1 || z1 > out_z1)
        return crackle_fail(error, CRACKLE_BAD_ARGUMENT, CRACKLE_SECTION_NONE,
                            -1, "the z range is not in the volume");
    const uint64_t depth = out_z1 - out_z0;
    if ((depth && pixels > SIZE_MAX / width / depth) ||
        out_size != pixels * depth * width)
        return crackle_fail(error, CRACKLE_BAD_ARGUMENT, CRACKLE_SECTION_NONE,
                            -1, "the output buffer has another size");
    int status = crackle_range_check(stream, z0, z1, error);
    if (status || z0 == z1 || pixels == 0)
        return status;

    const struct crackle_kernels *kernels = crackle_kernels();
    status = crackle_walk_prepare(ws, sx, sy, error);
    if (status)
        return status;

    if (!c_order || (z0 == out_z0 && z1 == out_z1)) {
        bool filled;
        status =
            fill_blank(&job, z0, z1,
                       (uint8_t *)out + (size_t)(z0 - out_z0) * pixels * width,
                       (size_t)pixels * (z1 - z0), &filled);
        if (status || filled)
            return status;
    }

    uint8_t *holds = NULL; /* for one label: the slices that may hold it */
    if (label) {
        int exact;
        holds = crackle_reserve(&ws->flags, z1 - z0);
        if (!holds)
            return CRACKLE_NOMEM(error);
        status = crackle_slices_with(stream, *label, z0, z1, holds, &exact,
                                     error);
        if (status)
            return status;
    }
    crackle_moves_ahead(ws, z0, z1, holds);

    const uint32_t block = c_order ? CRACKLE_LINE / (uint32_t)width : 1;
    if (c_order &&
        !crackle_reserve(&ws->tile, ((size_t)sx + 8) * block * width))
        return CRACKLE_NOMEM(error);
    uint32_t saved = 0;
    size_t used = 0;
    for (uint32_t z = z0; z < z1; z++) {
        bool empty = holds && !holds[z - z0];
        if (!empty) {
            status = values_read(&job, z);
            if (status)
                return status;
        }
        if (c_order) {
            status = save(&job, saved++, empty, &used);
            if (status)
                return status;
            if (z + 1 < z1 &&
                crackle_block_depth(out, width, z + 1 - out_z0) != block &&
                used < CRACKLE_BLOCK_BYTES)
                continue;
            kernels->render_block[job.width_log2](
                ws, saved,
                (uint8_t *)out + (size_t)(z + 1 - saved - out_z0) * width,
                depth);
            saved = 0;
            used = 0;
        } else {
            void *to = (uint8_t *)out + (size_t)(z - out_z0) * pixels * width;
            if (empty)
                memset(to, 0, (size_t)pixels * width);
            else
                kernels->render[job.width_log2](ws, ws->values.data, to);
        }
    }
    return CRACKLE_OK;
}

int crackle_check_slices(const struct crackle_stream *stream,
                         struct crackle_workspace *ws, uint32_t z0,
                         uint32_t z1, uint8_t *damaged,
                         struct crackle_error *error)
{
    const struct crackle_header *header = &stream->header;
    if (z0 > z1 || z1 > header->sz)
        return crackle_fail(error, CRACKLE_BAD_ARGUMENT, CRACKLE_SECTION_NONE,
                            -1, "the z range is not in the volume");
    if (!stream->crack_offset) { /* no voxels */
        memset(damaged, 0, z1 - z0);
        return CRACKLE_OK;
    }
    int status = crackle_walk_prepare(ws, header->sx, header->sy, error);
    if (status)
        return status;
    crackle_moves_ahead(ws, z0, z1, NULL);
    for (uint32_t z = z0; z < z1; z++) {
        status = crackle_components_read(stream, ws, z, error);
        if (status == CRACKLE_NO_MEMORY)
            return status;
        damaged[z - z0] = status != CRACKLE_OK;
    }
    return CRACKLE_OK;
}
