/* A coded range of slices: what encode.c makes and join.c joins. */
#ifndef CRACKLE_PART_H
#define CRACKLE_PART_H

#include "internal.h"

/* What is known of one coded slice. */
struct coded_slice {
    uint32_t index_bytes; /* of its code, before the moves */
    uint32_t components;
    uint32_t crc;
    uint64_t num_codes;
};

struct crackle_part {
    uint32_t z0, z1;
    uint64_t pairs; /* voxels that equal the one before in stream order */
    struct coded_slice *slices;
    struct crackle_buffer code; /* the crack codes without a model */
    size_t code_size;
    struct crackle_buffer keys; /* by component: index into unique, uint16
                                   or, where that is too narrow, uint32 */
    bool wide_keys;
    size_t num_keys;
    struct crackle_buffer unique; /* labels by first occurrence, extended to
                                     64 bits */
    size_t num_unique;
    uint32_t *table; /* hash of label to 1 + index, open addressing */
    unsigned table_log2;
    uint64_t table_factor;
};

CRACKLE_INLINE uint32_t crackle_part_key(const struct crackle_part *part,
                                         size_t i)
{
    return part->wide_keys ? ((const uint32_t *)part->keys.data)[i]
                           : ((const uint16_t *)part->keys.data)[i];
}

/* What is wrong with 'params', or NULL. */
const char *crackle_params_fault(const struct crackle_params *params);

/* An empty part, and a workspace ready for its slices; NULL and 'error'. */
struct crackle_part *crackle_part_new(const struct crackle_params *params,
                                      uint32_t z0, uint32_t z1,
                                      struct crackle_workspace *ws,
                                      struct crackle_error *error);
/* Free a part that failed at slice z, and say why: NULL. */
struct crackle_part *crackle_part_failed(struct crackle_part *part, int status,
                                         uint32_t z,
                                         struct crackle_error *error);
/* The index of 'label' in part->unique, added if it is new. */
int crackle_part_intern(struct crackle_part *part, uint64_t label,
                        uint32_t *index);
/* Add 'n' keys to those of 'part'. */
int crackle_part_add_keys(struct crackle_part *part, const uint32_t *keys,
                          uint32_t n);
/* Trace 'count' slices from z on, ready in ws->traces, and add their crack
 * codes to 'part'. */
int crackle_part_trace(struct crackle_part *part, uint32_t z, uint32_t count,
                       struct crackle_workspace *ws);

/* Bytes of codepoints from which on a slice is traced alone: two slices of
 * noise would take much memory. */
#define CRACKLE_LARGE_TRACE ((size_t)1 << 20)

#endif /* CRACKLE_PART_H */
