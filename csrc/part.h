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
    struct crackle_buffer keys; /* uint32 by component: index into unique */
    size_t num_keys;
    struct crackle_buffer unique; /* labels by first occurrence, extended to
                                     64 bits */
    size_t num_unique;
    uint32_t *table; /* hash of label to 1 + index, open addressing */
    unsigned table_log2;
};

/* What is wrong with 'params', or NULL. */
const char *crackle_params_fault(const struct crackle_params *params);

#endif /* CRACKLE_PART_H */
