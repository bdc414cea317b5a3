/* The sections of a stream: header, bounds, checksums. */
#include "internal.h"

#include <stdlib.h>

const char *crackle_status_name(int status)
{
    static const char *const names[] = {"ok",          "bad argument",
                                        "truncated",   "corrupt",
                                        "unsupported", "out of memory"};
    return status >= 0 && status <= CRACKLE_NO_MEMORY ? names[status]
                                                      : "unknown status";
}

const char *crackle_section_name(int section)
{
    static const char *const names[] = {
        "stream",       "header",      "crack index",        "labels",
        "markov model", "crack codes", "component checksums"};
    return section >= 0 && section <= CRACKLE_SECTION_COMPONENTS
               ? names[section]
               : "unknown section";
}

int crackle_header_read(const void *data, size_t size, int ignore_crc,
                        struct crackle_header *header,
                        struct crackle_error *error)
{
    const int where = CRACKLE_SECTION_HEADER;
    const uint8_t *p = data;
    memset(header, 0, sizeof *header);
    if (size < 5)
        return crackle_fail(error, CRACKLE_TRUNCATED, where, -1,
                            "too short for a Crackle header");
    if (memcmp(p, "crkl", 4) != 0)
        return crackle_fail(error, CRACKLE_CORRUPT, where, -1,
                            "not a Crackle stream: it does not start with "
                            "'crkl'");
    if (p[4] > 1)
        return crackle_fail(error, CRACKLE_UNSUPPORTED, where, -1,
                            "the format version is neither 0 nor 1");
    header->version = p[4];
    header->header_bytes = p[4] ? CRACKLE_V1_HEADER_BYTES
                                : CRACKLE_V0_HEADER_BYTES;
    if (size < header->header_bytes)
        return crackle_fail(error, CRACKLE_TRUNCATED, where, -1,
                            "too short for a Crackle header");

    unsigned format = (unsigned)crackle_load(p + 5, 2);
    header->data_width = (uint8_t)(1u << (format & 3));
    header->stored_width = (uint8_t)(1u << (format >> 2 & 3));
    header->permissible = format >> 4 & 1;
    header->label_format = format >> 5 & 3;
    header->fortran_order = format >> 7 & 1;
    header->is_signed = format >> 8 & 1;
    header->markov_order = format >> 9 & 15;
    header->unsorted = format >> 13 & 1;
    header->remapped = format >> 14 & 1;
    header->sx = crackle_load32(p + 7);
    header->sy = crackle_load32(p + 11);
    header->sz = crackle_load32(p + 15);
    header->grid_log2 = p[19];
    if (header->version) {
        header->label_bytes = crackle_load64(p + 20);
        header->crc = p[28];
        if (!ignore_crc && crackle_crc8(p + 5, 23) != header->crc)
            return crackle_fail(error, CRACKLE_CORRUPT, where, -1,
                                "the header does not match its crc8");
    } else {
        header->label_bytes = crackle_load32(p + 20);
    }
    return CRACKLE_OK;
}

/* What the header may say, and what of it this library reads. */
static int header_check(const struct crackle_header *header, unsigned format,
                        struct crackle_error *error)
{
    const int where = CRACKLE_SECTION_HEADER;
    if (format >> 15)
        return crackle_fail(error, CRACKLE_UNSUPPORTED, where, -1,
                            "a reserved bit is set");
    if (header->label_format != CRACKLE_LABELS_FLAT &&
        header->label_format != CRACKLE_LABELS_PINS)
        return crackle_fail(error, CRACKLE_UNSUPPORTED, where, -1,
                            "the label format is neither flat nor condensed "
                            "pins");
    if (header->grid_log2 < 32 &&
        ((uint64_t)1 << header->grid_log2 < header->sx ||
         (uint64_t)1 << header->grid_log2 < header->sy))
        return crackle_fail(error, CRACKLE_UNSUPPORTED, where, -1,
                            "a slice is coded in several grids");
    if (header->grid_log2 > 31)
        return crackle_fail(error, CRACKLE_CORRUPT, where, -1,
                            "the grid size is out of range");
    if (((uint64_t)header->sx + 1) * ((uint64_t)header->sy + 1) >
        CRACKLE_MAX_VERTICES)
        return crackle_fail(error, CRACKLE_UNSUPPORTED, where, -1,
                            CRACKLE_TOO_MANY_VERTICES);
    return CRACKLE_OK;
}

void crackle_close(struct crackle_stream *stream)
{
    if (!stream)
        return;
    free(stream->numbers);
    free(stream->steps);
    free(stream->pairs);
    free(stream->crack_offset);
    free(stream->first_component);
    free(stream->pins);
    free(stream->pin_ends);
    free(stream->singles);
    free(stream);
}

const struct crackle_header *
crackle_stream_header(const struct crackle_stream *stream)
{
    return &stream->header;
}

/* Cut the stream into its sections and read them. Of damage in the index or
 * the labels '*damaged' takes note; what is returned is what ends the call. */
static int sections_read(struct crackle_stream *stream, uint32_t *damaged,
                         struct crackle_error *error)
{
    const struct crackle_header *header = &stream->header;
    const bool v1 = header->version == 1;
    struct crackle_reader r = {stream->data + header->header_bytes,
                               stream->data + stream->size};

    if (header->sx == 0 || header->sy == 0 || header->sz == 0) {
        if (header->label_bytes || crackle_left(&r))
            return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_HEADER,
                                -1, "an empty volume is more than a header");
        return CRACKLE_OK;
    }
    /* Now the volume has at most 2^62 voxels. */

    const uint8_t *index = crackle_take_items(&r, header->sz, 4);
    const uint8_t *index_crc = v1 ? crackle_take(&r, 4) : NULL;
    if (!index || (v1 && !index_crc))
        return crackle_fail(error, CRACKLE_TRUNCATED, CRACKLE_SECTION_INDEX,
                            -1, "the crack index is cut off");
    if (v1 && crackle_crc32c(0, index, (size_t)header->sz * 4) !=
                  crackle_load32(index_crc))
        return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_INDEX, -1,
                            "the crack index does not match its crc32c");

    const uint8_t *labels = crackle_take(&r, header->label_bytes);
    if (!labels)
        return crackle_fail(error, CRACKLE_TRUNCATED, CRACKLE_SECTION_LABELS,
                            -1, "the label section is cut off");
    stream->model = crackle_take(&r,
                                 crackle_model_bytes(header->markov_order));
    if (!stream->model)
        return crackle_fail(error, CRACKLE_TRUNCATED, CRACKLE_SECTION_MODEL,
                            -1, "the Markov model is cut off");

    /* sz is earned: that many entries of the index were there. */
    uint64_t *offset = malloc(((size_t)header->sz + 1) * sizeof *offset);
    if (!offset)
        return CRACKLE_NOMEM(error);
    stream->crack_offset = offset;
    offset[0] = (uint64_t)(r.at - stream->data);
    for (uint32_t z = 0; z < header->sz; z++)
        offset[z + 1] = offset[z] + crackle_load32(index + (size_t)z * 4);
    if (!crackle_take(&r, offset[header->sz] - offset[0]))
        return crackle_fail(error, CRACKLE_TRUNCATED, CRACKLE_SECTION_CRACKS,
                            -1, "the crack codes are cut off");
    if (v1) {
        const uint8_t *crc = crackle_take(&r, 4);
        stream->component_crcs = crackle_take_items(&r, header->sz, 4);
        if (!crc || !stream->component_crcs)
            return crackle_fail(error, CRACKLE_TRUNCATED,
                                CRACKLE_SECTION_COMPONENTS, -1,
                                "the checksums are cut off");
        if (crackle_crc32c(0, labels, (size_t)header->label_bytes) !=
            crackle_load32(crc)) {
            int status = crackle_fail(
                error, CRACKLE_CORRUPT, CRACKLE_SECTION_LABELS, -1,
                "the label section does not match its crc32c");
            if (!damaged)
                return status;
            *damaged |= 1u << CRACKLE_SECTION_LABELS;
        }
    }
    if (crackle_left(&r))
        return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_NONE, -1,
                            "bytes follow the end of the stream");

    struct crackle_reader section = {labels, labels + header->label_bytes};
    int status = crackle_labels_open(stream, section, error);
    if (status && damaged && status != CRACKLE_NO_MEMORY) {
        *damaged |= 1u << CRACKLE_SECTION_LABELS;
        status = CRACKLE_OK;
        /* What was read of it is not to be relied on. */
        free(stream->first_component);
        stream->first_component = NULL;
        stream->keys = stream->unique = stream->background = NULL;
        stream->num_unique = 0;
    }
    if (status == CRACKLE_OK && header->markov_order)
        status = crackle_model_open(stream, error);
    return status;
}

int crackle_open(const void *data, size_t size, struct crackle_stream **result,
                 uint32_t *damaged, struct crackle_error *error)
{
    *result = NULL;
    if (damaged)
        *damaged = 0;
    if (sizeof(size_t) < 8 && size > CRACKLE_MAX_STREAM_32)
        return crackle_fail(error, CRACKLE_UNSUPPORTED, CRACKLE_SECTION_NONE,
                            -1, "the stream is too long for 32-bit addresses");
    struct crackle_stream *stream = calloc(1, sizeof *stream);
    if (!stream)
        return CRACKLE_NOMEM(error);
    stream->data = data;
    stream->size = size;
    int status = crackle_header_read(data, size, 0, &stream->header, error);
    if (!status)
        status = header_check(&stream->header,
                              (unsigned)crackle_load(stream->data + 5, 2),
                              error);
    if (!status)
        status = sections_read(stream, damaged, error);
    if (status) {
        if (damaged && error)
            *damaged |= 1u << error->section;
        crackle_close(stream);
        return status;
    }
    *result = stream;
    return CRACKLE_OK;
}
