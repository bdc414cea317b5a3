/* What the fuzz targets share: making things from bytes, buffers that tell
 * when they are overrun, streams and the voxels in them. */
#ifndef FUZZ_COMMON_H
#define FUZZ_COMMON_H

#include "../csrc/crackle.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A claim that holds for every input: else the run ends, as in a crash. */
#define FUZZ_CHECK(claim)                                                     \
    do {                                                                      \
        if (!(claim))                                                         \
            fuzz_failed(#claim, __FILE__, __LINE__);                          \
    } while (0)
_Noreturn void fuzz_failed(const char *claim, const char *file, int line);

/* What a caller would accept to decode: checked before anything is reserved
 * for voxels; and up to where each answer is counted again, voxel by voxel. */
#define FUZZ_MOST_VOXELS ((uint64_t)1 << 18)
#define FUZZ_MOST_COUNTED ((uint64_t)1 << 14)

/* Memory of exactly 'size' bytes, filled with 0xA5. Without AddressSanitizer
 * the bytes around it are looked at when it is freed. */
void *fuzz_new(size_t size);
void fuzz_free(void *pointer);

/* ---- inputs ---- */

/* A file's bytes, to be freed with fuzz_free. Without them the run ends. */
uint8_t *fuzz_read(const char *path, size_t *size);

/* To encode a volume of this header's shape and labels; the rest is 0. */
struct crackle_params fuzz_params(const struct crackle_header *header);

/*
 * The input of all targets but the round trip: one stream, perhaps a second
 * one, FUZZ_CHOICES bytes that say what to do with them, and the number of
 * bytes of the second stream as 4 bytes, little-endian.
 */
enum { FUZZ_CHOICES = 16, FUZZ_TAIL = FUZZ_CHOICES + 4 };

struct fuzz_choices {
    const uint8_t *at;
    size_t left;
};
/* The next choice; 0 when all were made. */
uint8_t fuzz_choose(struct fuzz_choices *choices);
/* Take a CPU level into use. */
void fuzz_choose_cpu(struct fuzz_choices *choices);
/* z0 and z1 of a range of slices, perhaps empty. */
void fuzz_choose_range(struct fuzz_choices *choices, uint32_t sz, uint32_t *z0,
                       uint32_t *z1);

struct fuzz_input {
    const uint8_t *data[2];
    size_t size[2];
    struct fuzz_choices choices;
};
/* False if there are too few bytes. */
bool fuzz_split(const uint8_t *data, size_t size, struct fuzz_input *input);

/* ---- streams ---- */

struct fuzz_stream {
    uint8_t *copy; /* of the bytes, as long as they are */
    struct crackle_stream *stream;
    const struct crackle_header *header;
    uint64_t pixels, voxels;
    /* The labels of the table's entries, and of the background behind them,
     * as the array has them; 'entries' counts the background. */
    uint64_t *entry;
    uint64_t entries;
};
/* Open it. False, with nothing left to be closed, if it is refused or has
 * more than FUZZ_MOST_VOXELS. */
bool fuzz_open(const uint8_t *data, size_t size, struct fuzz_stream *stream);
void fuzz_close(struct fuzz_stream *stream);

/* Check that a status is one, and that the error says the same. */
void fuzz_check_status(int status, const struct crackle_error *error);

/* ---- volumes ---- */

/* Labels, sign-extended to 64 bits if they are signed, x fastest. */
struct fuzz_volume {
    uint32_t sx, sy, sz;
    uint64_t pixels, voxels;
    uint64_t *label; /* NULL if the stream is damaged */
};
/* Decode all. A status; with any but CRACKLE_OK there are no labels. */
int fuzz_decode(const struct fuzz_stream *stream, struct fuzz_volume *volume);
void fuzz_volume_free(struct fuzz_volume *volume);
/* Element i of an array of 'width' bytes each, extended. */
uint64_t fuzz_element(const void *array, uint64_t i, unsigned width,
                      bool is_signed);

/* Groups of labels, by the place of a label among all, sorted. */
struct fuzz_groups {
    uint64_t *sorted;   /* each label once */
    uint32_t count;     /* labels, and more than any group */
    uint32_t modulo;    /* group: place % modulo */
    uint32_t left_out;  /* no group where place % left_out is 0; 0: none is */
    uint32_t *of_entry; /* to hand to the library */
};
#define FUZZ_NO_GROUP UINT32_MAX
void fuzz_groups_make(struct fuzz_choices *choices, bool all,
                      const struct fuzz_stream *stream,
                      struct fuzz_groups *groups);
void fuzz_groups_free(struct fuzz_groups *groups);
/* The label must be one of the table. */
uint32_t fuzz_group(const struct fuzz_groups *groups, uint64_t label);

/*
 * Ask everything crackle.h knows to tell of 'stream', and of it and 'other',
 * which may be NULL. Where 'volume' has labels the answers are counted again
 * from them; where it has none, asking must fail. 'other_volume' goes with
 * 'other'.
 */
void fuzz_check_queries(const struct fuzz_stream *stream,
                        const struct fuzz_volume *volume,
                        const struct fuzz_stream *other,
                        const struct fuzz_volume *other_volume,
                        struct fuzz_choices *choices);

/* ---- encoding ---- */

/* Encode 'array' in two parts with a border at slice 'split'. The bytes are
 * to be freed with crackle_free. */
uint8_t *fuzz_encode(const struct crackle_params *params, const void *array,
                     uint32_t split, size_t *size);
/* Open a stream that the library made, and check that it has the labels of
 * 'volume' and all that goes with that. */
void fuzz_check_stream(const uint8_t *data, size_t size,
                       const struct fuzz_volume *volume,
                       struct fuzz_choices *choices);
/* Write 'stream' anew in two parts; as crackle_recode_part and crackle_join.
 * A status. */
int fuzz_recode(const struct crackle_params *params,
                const struct fuzz_stream *stream,
                const struct crackle_recode *how, uint32_t split,
                int permissible, uint8_t **data, size_t *size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif /* FUZZ_COMMON_H */
