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
 * used. A stream that breaks a rule of the format gives a status other than
 * CRACKLE_OK; the contents of the output buffer are then undefined, and
 * nothing outside it was touched. Memory is reserved in proportion to bytes
 * that are there, to the output buffer that the caller chose to provide, and
 * to one slice. So is time, and to the slices that are asked for: as 65 valid
 * bytes can claim a slice of 10^9 voxels, a caller who expects no certain
 * size judges the header's before it goes on.
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
 * at the same time. It grows to what the largest slice so far needed. To
 * decode that is 2.3 bytes a pixel, 0.3 in slices of more than 2^24; 12 bytes
 * a run, of which there may be as many as pixels: address space is reserved
 * for these, and touched as there are runs; and an element for each
 * component. To encode, up to 40 bytes a border between two pixels; and for
 * folds, 24 bytes a run and a byte a pixel. NULL if there is no memory.
 * crackle_workspace_bytes tells how much one holds now.
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
 * may still be used with crackle_check_slices; to whatever asks for labels or
 * voxels it is corrupt.
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
 * The folds. Each takes a range of slices [z0, z1), reads the stream's runs
 * there, with a workspace of its own, and verifies the crc32c of every slice
 * it walks. No array of voxels is made.
 *
 * 'group' says for each entry of the table of unique labels, and for the
 * background behind them, to which group of labels it belongs: entries of
 * one label, which an edited table may hold twice, belong to one.
 * 2^32 - 1 leaves a label out. The caller sizes arrays by group.
 */

/*
 * Add to counts[g] the voxels of group g; to boxes[6 g ..], where not NULL,
 * the lowest x, y, z and the highest x, y, z, inclusive (an entry with count
 * 0 is overwritten); to sums[3 g ..], where not NULL, the sums of x, y, z,
 * modulo 2^64. With 'wanted' not NULL, slices z with wanted[z - z0] 0 are
 * skipped.
 */
int crackle_measure(const struct crackle_stream *stream,
                    struct crackle_workspace *workspace, uint32_t z0,
                    uint32_t z1, const uint8_t *wanted, const uint32_t *group,
                    uint64_t *counts, uint32_t *boxes, uint64_t *sums,
                    struct crackle_error *error);

/* Two groups and how they touch, by axis. */
struct crackle_pair {
    uint32_t a, b;
    uint64_t counts[3];
};

/*
 * List the pairs of groups a < b that share faces, and how many across x, y
 * and z; of slice z0 also those with the slice before. '*pairs' is to be
 * freed with crackle_free.
 */
int crackle_contacts(const struct crackle_stream *stream,
                     struct crackle_workspace *workspace, uint32_t z0,
                     uint32_t z1, const uint32_t *group,
                     struct crackle_pair **pairs, size_t *count,
                     struct crackle_error *error);

/*
 * List the pairs of groups, a of the first and b of the second of two
 * streams of one size, that voxels have, and in counts[2] how many do. With
 * 'different' only pairs of unlike groups, and only those of the first slice
 * that has one.
 */
int crackle_overlay(const struct crackle_stream *first,
                    struct crackle_workspace *first_workspace,
                    const uint32_t *first_group,
                    const struct crackle_stream *second,
                    struct crackle_workspace *second_workspace,
                    const uint32_t *second_group, uint32_t z0, uint32_t z1,
                    int different, struct crackle_pair **pairs, size_t *count,
                    struct crackle_error *error);

/*
 * Whether the slices [z0, z1) of two streams have the same borders between
 * groups: '*same'. Volumes of different size have not.
 */
int crackle_same_borders(const struct crackle_stream *first,
                         struct crackle_workspace *first_workspace,
                         const uint32_t *first_group,
                         const struct crackle_stream *second,
                         struct crackle_workspace *second_workspace,
                         const uint32_t *second_group, uint32_t z0,
                         uint32_t z1, int *same, struct crackle_error *error);

/*
 * Find the voxels that have a face in common with another label or with the
 * outside of the volume. cursor[g] grows by their number in group g. With
 * 'points' not NULL, x, y, z of each, 'point_width' (2 or 4) bytes a
 * coordinate, are written to entry cursor[g] of it in turn, which must be
 * below 'num_points': so a first call counts, and a second one writes.
 */
int crackle_surface(const struct crackle_stream *stream,
                    struct crackle_workspace *workspace, uint32_t z0,
                    uint32_t z1, const uint32_t *group, uint64_t *cursor,
                    void *points, uint64_t num_points, int point_width,
                    struct crackle_error *error);

/*
 * Write for each voxel a byte of bits that say which neighbours have its
 * label: bit 0 the next x, 1 the last x, 2 and 3 y, and with 'connectivity'
 * 6 instead of 4 bits 4 and 5 z. The bits that lead outside mean nothing; they
 * are what other readers of Crackle give: in x and y 1 where cracks are
 * borders and 0 where they are open connections, in z 1 unless there is only
 * one slice.
 * 'out' has 'out_size' bytes: those of the slices [z0, z1).
 */
int crackle_connectivity_graph(const struct crackle_stream *stream,
                               struct crackle_workspace *workspace,
                               uint32_t z0, uint32_t z1, const uint32_t *group,
                               int connectivity, uint8_t *out, size_t out_size,
                               struct crackle_error *error);

/*
 * Join the trees in 'parent', an entry for each component of the volume, of
 * components that are connected and of one group: within the slices of the
 * range, and with the slice before each. At first parent[i] is i; at the end
 * parent[i] <= i, and the roots are the components of the volume. To be
 * called for ranges in turn, not in parallel. 'connectivity' is 6 (faces), 18
 * (and edges) or 26 (and corners).
 */
int crackle_link(const struct crackle_stream *stream,
                 struct crackle_workspace *workspace, uint32_t z0, uint32_t z1,
                 const uint32_t *group, int connectivity, uint32_t *parent,
                 struct crackle_error *error);

/* The volume-wide id of the first component of each slice, sz + 1 of them;
 * NULL if there are no voxels. */
const uint64_t *crackle_first_components(const struct crackle_stream *stream);

/* The place in the table of unique labels of each component of [z0, z1), or
 * their number for the background. Only streams with pins are walked. */
int crackle_keys(const struct crackle_stream *stream,
                 struct crackle_workspace *workspace, uint32_t z0, uint32_t z1,
                 uint32_t *keys, struct crackle_error *error);

/* The same at 'count' voxels: pixel x + sx * y of slice z, by ascending z. */
int crackle_points(const struct crackle_stream *stream,
                   struct crackle_workspace *workspace, uint64_t count,
                   const uint32_t *z, const uint32_t *pixel, uint32_t *keys,
                   struct crackle_error *error);

/* The crc32c of the components of each slice of [z0, z1): as stored, or made
 * where format version 0 has none. */
int crackle_component_checksums(const struct crackle_stream *stream,
                                struct crackle_workspace *workspace,
                                uint32_t z0, uint32_t z1, uint32_t *crcs,
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
    uint8_t remapped;      /* the flag to write; 0 for arrays */
    uint8_t any_format;    /* crackle_join takes either crack format */
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
 * How a stream is to be written anew. 'labels' has the label of each group
 * (sign-extended to 64 bits if params->is_signed), each once; 'group' the
 * group of each entry of the table of unique labels, and of the background
 * behind them; or, with 'by_component', of each volume-wide component. With
 * 'drop_borders' those between voxels of one group are left out.
 */
struct crackle_recode {
    const uint64_t *labels;
    const uint32_t *group;
    uint8_t by_component;
    uint8_t drop_borders;
};

/*
 * Code the slices [z0, z1) of 'stream' as crackle_encode_part codes those of
 * an array, without making one; 'params' has the stream's size. Slices are
 * walked and checked.
 */
struct crackle_part *crackle_recode_part(const struct crackle_params *params,
                                         const struct crackle_stream *stream,
                                         const struct crackle_recode *how,
                                         uint32_t z0, uint32_t z1,
                                         int permissible,
                                         struct crackle_workspace *workspace,
                                         struct crackle_error *error);

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
