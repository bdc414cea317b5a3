/* Labels as pins: what cover.c chooses and pins_write.c writes. */
#ifndef CRACKLE_COVER_H
#define CRACKLE_COVER_H

#include "internal.h"

/* A vertical line that names the components it passes. */
struct cover_pin {
    uint32_t pixel, z, depth; /* its first slice, and how many are below */
    uint32_t label;           /* place in the table of labels, or DROPPED */
    uint64_t hits;            /* where its depth + 1 components are listed */
};
#define CRACKLE_DROPPED UINT32_MAX

/* Some components named by pins; those with count 0 are singles. */
struct cover {
    struct crackle_buffer pins;
    size_t num_pins;
    struct crackle_buffer hits; /* uint32: components, by pin */
    uint64_t num_hits;
    struct crackle_buffer count;  /* uint16 by component: pins that name it */
    struct crackle_buffer active; /* uint32: pins that reach the next slice */
    size_t num_active;
};

/* What the labels of a flat stream cost as pins and singles: bytes. */
struct cover_costs {
    unsigned index, depth, id;
};

/* A choice: for each label the cover that serves it. */
struct cover_choice {
    const struct cover *covers[2];
    const uint8_t *by_label;
    uint32_t background; /* place in the table of labels */
};

int crackle_pins_write(const struct crackle_stream *flat,
                       const struct cover_choice *choice, uint8_t **stream,
                       size_t *size);

/* The label of component c of a flat stream: its place in the table. */
CRACKLE_INLINE uint32_t crackle_key(const struct crackle_stream *flat,
                                    uint64_t c)
{
    return (uint32_t)crackle_load(flat->keys + c * flat->key_width,
                                  flat->key_width);
}

#endif /* CRACKLE_COVER_H */
