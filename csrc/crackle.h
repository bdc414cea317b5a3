/*
 * crackle.h - the Crackle stream: labelled volumes coded by their borders
 *
 * A Crackle stream holds a volume of integer labels, sx * sy * sz voxels
 * with x fastest in memory, as one crack code a z slice (the borders of its
 * 4-connected components) and one table that says which label each
 * component has. This library reads and writes such streams. It does no
 * input or output, starts no threads and keeps no global state that changes
 * after the first call: every function is reentrant, and calls on different
 * slices of one stream may run at the same time as long as each has a
 * workspace of its own.
 *
 * Bytes are not trusted. Whatever a stream says is checked before it is
 * used; memory is reserved in proportion to bytes that are there, or to the
 * output buffer that the caller chose to provide. A stream that breaks a
 * rule of the format gives a status other than CRACKLE_OK; the contents of
 * the output buffer are then undefined, and nothing outside it was touched.
 *
 * Not promised: the bytes that the encoder writes for a volume may change
 * from one version to the next. That every valid stream of format version 0
 * or 1 decodes to the same labels does not change.
 */
#ifndef CRACKLE_H
#define CRACKLE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* cdef: what follows, to the matching mark, is also read by build_ffi.py.
 * It holds declarations only: no preprocessor lines. */

/* What a call came to. The set is closed. */
enum crackle_status {
    CRACKLE_OK = 0,
    CRACKLE_BAD_ARGUMENT = 1, /* the caller's mistake, not the stream's */
    CRACKLE_TRUNCATED = 2,    /* the stream ends before it should */
    CRACKLE_CORRUPT = 3,      /* the stream breaks a rule of the format */
    CRACKLE_UNSUPPORTED = 4,  /* valid or not, this library can't tell */
    CRACKLE_NO_MEMORY = 5     /* malloc said no */
};

/* The sections of a stream, in their order in it. */
enum crackle_section {
    CRACKLE_SECTION_NONE = 0,
    CRACKLE_SECTION_HEADER = 1,
    CRACKLE_SECTION_INDEX = 2,
    CRACKLE_SECTION_LABELS = 3,
    CRACKLE_SECTION_MODEL = 4,
    CRACKLE_SECTION_CRACKS = 5,
    CRACKLE_SECTION_COMPONENTS = 6
};

/* The label formats. Fixed-width pins were never written by anyone and are
 * not read. */
enum crackle_label_format {
    CRACKLE_LABELS_FLAT = 0,
    CRACKLE_LABELS_FIXED_PINS = 1,
    CRACKLE_LABELS_PINS = 2
};

/* The levels of CPU support. A level holds those below it. */
enum crackle_cpu_level {
    CRACKLE_CPU_PORTABLE = 0,
    CRACKLE_CPU_SSE4 = 1, /* SSE4.2, POPCNT, PCLMUL */
    CRACKLE_CPU_AVX2 = 2  /* AVX2, BMI1, BMI2, LZCNT besides */
};

/* Where and why a call failed. 'what' is a constant string, never NULL;
 * 'slice' is -1 where no single slice is to blame. */
struct crackle_error {
    int status;
    int section;
    int64_t slice;
    const char *what;
};

/* The header of a stream, decoded. Widths are in bytes. */
struct crackle_header {
    uint8_t version;
    uint8_t data_width;
    uint8_t stored_width;
    uint8_t permissible;  /* crack format: 1 if cracks are open connections */
    uint8_t label_format; /* enum crackle_label_format */
    uint8_t fortran_order;
    uint8_t is_signed;
    uint8_t markov_order;
    uint8_t unsorted; /* the table of unique labels may be unsorted */
    uint8_t remapped; /* the table was edited */
    uint8_t grid_log2;
    uint8_t crc; /* as stored; 0 in version 0 */
    uint32_t sx, sy, sz;
    uint64_t label_bytes;
    uint32_t header_bytes; /* 24 in version 0, 29 in version 1 */
};

/* Opaque: an opened stream, scratch memory, and a coded range of slices. */
struct crackle_stream;
struct crackle_workspace;
struct crackle_part;

/* The name of a status ("corrupt") or of a section ("crack codes"), as a
 * constant string. */
const char *crackle_status_name(int status);
const char *crackle_section_name(int section);

/*
 * The highest level this machine has, and the one in use. crackle_cpu_select
 * takes a lower or equal one into use for the whole process and returns the
 * level in use afterwards; it is there for tests and benchmarks, and must
 * not run beside other calls.
 */
int crackle_cpu_detect(void);
int crackle_cpu_level(void);
int crackle_cpu_select(int level);

/*
 * Scratch memory, reused from call to call: one for each thread that calls
 * at the same time. It grows to what the largest slice so far needed: 16
 * bytes a pixel and an element each for labels of their own, of which only
 * what the slice's runs need is touched; and to encode, up to 40 bytes a
 * border between two pixels. NULL if there is no memory. crackle_workspace_bytes tells how much one holds now.
 */
struct crackle_workspace *crackle_workspace_new(void);
void crackle_workspace_free(struct crackle_workspace *workspace);
size_t crackle_workspace_bytes(const struct crackle_workspace *workspace);

/*
 * Decode the header in the first bytes of 'data' into 'header'. 'size' may
 * be the whole stream's or any that covers the header. With 'ignore_crc' a
 * header that fails its crc8 is accepted.
 */
int crackle_header_read(const void *data, size_t size, int ignore_crc,
                        struct crackle_header *header,
                        struct crackle_error *error);

/*
 * Open the stream of exactly 'size' bytes at 'data': check the header, the
 * crack index, the size of every section, the total length, and the label
 * section with its checksum. 'data' is borrowed until crackle_close.
 *
 * On success '*stream' is the new stream. With 'damaged' not NULL a failure
 * in the index or label section does not end the call: bit
 * (1 << section) is set in '*damaged', and a stream whose labels are damaged
 * may still be used with crackle_check_slices.
 */
int crackle_open(const void *data, size_t size, struct crackle_stream **stream,
                 uint32_t *damaged, struct crackle_error *error);
void crackle_close(struct crackle_stream *stream);
const struct crackle_header *
crackle_stream_header(const struct crackle_stream *stream);

/*
 * The table of unique labels: 'count' of 'stored_width' bytes each, in
 * stream order, little-endian and unaligned; it points into the stream.
 * '*background' points to the background label of a stream with pins and is
 * NULL in others. The table may hold duplicates in a remapped stream.
 */
const uint8_t *crackle_unique(const struct crackle_stream *stream,
                              uint64_t *count, const uint8_t **background);

/*
 * The number of components in the slices [z0, z1), and with 'used' not NULL
 * (a byte for each entry of the table of unique labels, zeroed by the
 * caller), a 1 at every entry that one of them has: the labels of a z
 * range, without a voxel being decoded. For streams with pins, whose
 * components do not name their labels, '*exact' is 0 and 'used' holds the
 * labels with pins or single components that reach the range; the
 * background is then not accounted for.
 */
int crackle_labels_in(const struct crackle_stream *stream, uint32_t z0,
                      uint32_t z1, uint8_t *used, uint64_t *components,
                      int *exact, struct crackle_error *error);

/*
 * Set flags[z - z0] to 1 for each slice of [z0, z1) that has the label
 * 'label' (sign-extended to 64 bits if the stream is signed), to 0 for the
 * others, from the label section alone. For streams with pins '*exact' is 0
 * and a slice without the label may be flagged, but none with it is missed.
 */
int crackle_slices_with(const struct crackle_stream *stream, uint64_t label,
                        uint32_t z0, uint32_t z1, uint8_t *flags, int *exact,
                        struct crackle_error *error);

/*
 * Decode the slices [z0, z1) into 'out'.
 *
 * 'out' is an array of the slices [out_z0, out_z1), of 'out_size' bytes
 * which must be sx * sy * (out_z1 - out_z0) elements exactly; z0 and z1 lie
 * within. With 'c_order' 0 x is its fastest axis, else z. Elements are
 * data_width bytes each, in the machine's byte order.
 *
 * With 'label' not NULL the elements are bytes instead: 1 where the voxel
 * has the label '*label' (sign-extended to 64 bits if the stream is signed),
 * else 0; only slices that hold the label are walked and checked.
 *
 * The crc32c of every slice that is walked is verified (version 1).
 */
int crackle_decode(const struct crackle_stream *stream,
                   struct crackle_workspace *workspace, uint32_t z0,
                   uint32_t z1, const uint64_t *label, void *out,
                   size_t out_size, uint32_t out_z0, uint32_t out_z1,
                   int c_order, struct crackle_error *error);

/*
 * Walk the slices [z0, z1) and set damaged[z - z0] to 1 for each whose
 * crack code is invalid or whose checksum fails, to 0 for the others.
 * Returns CRACKLE_OK unless memory ran out or an argument is bad.
 */
int crackle_check_slices(const struct crackle_stream *stream,
                         struct crackle_workspace *workspace, uint32_t z0,
                         uint32_t z1, uint8_t *damaged,
                         struct crackle_error *error);

/*
 * As 'markov_order': crackle_join takes the order that makes this volume's
 * stream the smallest, the lowest of several. It finds it from statistics of
 * the moves, whose tables take at most 20 bytes a move.
 */
enum { CRACKLE_MARKOV_AUTO = 255 };

/* What is to be encoded, and how. */
struct crackle_params {
    uint32_t sx, sy, sz;
    uint8_t data_width; /* 1, 2, 4 or 8 */
    uint8_t is_signed;
    uint8_t c_order;       /* the array's fastest axis is z, not x */
    uint8_t fortran_order; /* the flag to write */
    uint8_t markov_order;  /* 0 to 15, or CRACKLE_MARKOV_AUTO */
};

/*
 * Guess from a few slices whether the volume at 'labels' takes the
 * permissible crack format: 1 or 0. crackle_join tells whether it was right.
 */
int crackle_guess_permissible(const struct crackle_params *params,
                              const void *labels);

/*
 * Code the slices [z0, z1) of the volume at 'labels' (the whole of it,
 * sx * sy * sz elements of data_width bytes in the machine's byte order,
 * aligned to their size) and return them as a part, or NULL with 'error'
 * set.
 */
struct crackle_part *crackle_encode_part(const struct crackle_params *params,
                                         const void *labels, uint32_t z0,
                                         uint32_t z1, int permissible,
                                         struct crackle_workspace *workspace,
                                         struct crackle_error *error);
void crackle_part_free(struct crackle_part *part);

/*
 * Join 'count' parts, in order of z and covering all slices, to one stream.
 * '*stream' is then its bytes, to be freed with crackle_free, and '*size'
 * their number. If the crack format turns out to be the wrong one,
 * CRACKLE_OK is returned with '*stream' NULL: encode the parts again with
 * the other one.
 */
int crackle_join(const struct crackle_params *params,
                 struct crackle_part *const *parts, size_t count,
                 int permissible, uint8_t **stream, size_t *size,
                 struct crackle_error *error);
void crackle_free(void *pointer);

/*
 * Make of the flat stream 'flat' one whose labels are pins: vertical lines
 * through the components of a label. '*stream' is then its bytes, to be freed
 * with crackle_free, and '*size' their number; or NULL if pins can't be
 * written for it: one slice, signed labels, open cracks, labels as pins
 * already, format version 0.
 *
 * 'effort' 1 looks for pins from the first slice down, 2 also from the last
 * one up. The label '*background' is left out of the table if there is such a
 * label; with NULL it is the one that saves most. Besides the stream this
 * takes memory for 4 bytes a pixel of a slice, and up to about 40 bytes a
 * component.
 */
int crackle_pin(const struct crackle_stream *flat,
                struct crackle_workspace *workspace, int effort,
                const uint64_t *background, uint8_t **stream, size_t *size,
                struct crackle_error *error);

/*
 * The crc32c (Castagnoli) of 'size' bytes, going on from 'crc', which is 0
 * at the start; and the header's crc8.
 */
uint32_t crackle_crc32c(uint32_t crc, const void *data, size_t size);
uint8_t crackle_crc8(const void *data, size_t size);

/* end of cdef */

#ifdef __cplusplus
}
#endif

#endif /* CRACKLE_H */
