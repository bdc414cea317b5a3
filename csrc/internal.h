/* What the C files share. Nothing here is part of the public interface. */
#ifndef CRACKLE_INTERNAL_H
#define CRACKLE_INTERNAL_H

#include "base.h"

/* A slice's two crack planes share one 32-bit index space (kernel_walk.h), so
 * a slice may have 2^30 vertices. Images of 32000 x 32000 pixels still fit.
 *
 * Where size_t has 32 bits it must hold what is reserved: less than 64 bytes a
 * vertex, or a voxel that is encoded, and 32 a byte of a stream. */
#if SIZE_MAX > UINT32_MAX
#define CRACKLE_MAX_VERTICES ((uint64_t)1 << 30)
#define CRACKLE_TOO_MANY_VERTICES "a slice has more than 2^30 vertices"
#else
#define CRACKLE_MAX_VERTICES ((uint64_t)1 << 26)
#define CRACKLE_TOO_MANY_VERTICES                                             \
    "a slice has more than 2^26 vertices, the most for 32-bit addresses"
#endif
#define CRACKLE_MAX_ENCODED_32 ((uint64_t)1 << 26)
#define CRACKLE_MAX_STREAM_32 ((size_t)1 << 27)
_Static_assert(2 * CRACKLE_MAX_VERTICES + 64 < UINT32_MAX,
               "positions in both planes fit 32 bits");

#define CRACKLE_V0_HEADER_BYTES 24
#define CRACKLE_V1_HEADER_BYTES 29
#define CRACKLE_GRID_LOG2 31
#define CRACKLE_MAX_ORDER 15 /* of a Markov model: 4 bits of the header */

/* ---- an opened stream ---- */

/* One pin: it gives its label to 'depth' + 1 voxels downward. */
struct crackle_pin {
    uint64_t pixel; /* x + sx * y */
    uint32_t z, depth;
    uint64_t label; /* index into the table of unique labels */
};

/* One component that is named outright. */
struct crackle_single {
    uint64_t component; /* volume-wide id */
    uint64_t label;
};

struct crackle_stream {
    struct crackle_header header;
    const uint8_t *data;
    size_t size;
    const uint8_t *unique; /* num_unique of stored_width */
    uint64_t num_unique;
    const uint8_t *background; /* pins only */
    const uint8_t *keys;       /* flat only: one per component */
    unsigned key_width;
    const uint8_t *model;             /* packed Markov model */
    uint8_t *numbers, *steps, *pairs; /* unpacked: see markov_read.c */
    uint8_t step[24][8];           /* what the next bits say, by rank order */
    const uint8_t *component_crcs; /* version 1: u32 per slice */
    uint64_t *crack_offset;        /* sz + 1: where each crack code starts */
    uint64_t *first_component;     /* sz + 1: volume-wide ids by slice */
    struct crackle_pin *pins;      /* by ascending z */
    size_t num_pins;
    uint32_t *pin_ends; /* a tree of them: see pins.c */
    size_t pin_leaves;
    struct crackle_single *singles; /* by ascending component */
    size_t num_singles;
};

/* A label of the table as the array has it, sign-extended if signed. Other
 * writers narrow the array and leave the table wide: what is too much is cut
 * off. */
CRACKLE_INLINE uint64_t crackle_label(const struct crackle_stream *stream,
                                      uint64_t stored)
{
    const struct crackle_header *header = &stream->header;
    const unsigned width = header->stored_width < header->data_width
                               ? header->stored_width
                               : header->data_width;
    const unsigned shift = 64 - 8 * width;
    stored <<= shift;
    return header->is_signed ? (uint64_t)((int64_t)stored >> shift)
                             : stored >> shift;
}

struct crackle_slice;

/* labels.c, pins.c: read the label section into 'stream'. */
int crackle_labels_open(struct crackle_stream *stream,
                        struct crackle_reader section,
                        struct crackle_error *error);
int crackle_pins_open(struct crackle_stream *stream,
                      struct crackle_reader section,
                      struct crackle_error *error);
/* The value of each component of slice z, which is in ws->slice, to 'values'
 * of 'width' bytes; or bytes that tell whether it is '*label'. */
int crackle_labels_of_slice(const struct crackle_stream *stream,
                            const struct crackle_slice *slice, uint32_t z,
                            const uint64_t *label, void *values,
                            struct crackle_error *error);
/* The group of each component of slice z: of its label's place in the table,
 * or that place where 'group' is NULL. Streams with pins have it walked. */
int crackle_groups_of_slice(const struct crackle_stream *stream,
                            const struct crackle_slice *slice, uint32_t z,
                            const uint32_t *group, uint32_t *out,
                            struct crackle_error *error);
int crackle_pins_of_slice(const struct crackle_stream *stream,
                          const struct crackle_slice *slice, uint32_t z,
                          uint64_t *keys, struct crackle_error *error);
/* The first pin of 'stream', from the i-th on, that ends in slice z or behind
 * it; their number if there is none. */
size_t crackle_next_pin(const struct crackle_stream *stream, size_t i,
                        uint32_t z);
/* The singles of slice z: their first, and '*end' behind the last. */
size_t crackle_first_single(const struct crackle_stream *stream, uint32_t z,
                            size_t *end);
/* Read the components-per-slice counts into stream->first_component. */
int crackle_component_counts(struct crackle_stream *stream,
                             struct crackle_reader *section,
                             struct crackle_error *error);

/* moves.c: the k-th rank order, 2 bits a rank, the likeliest codepoint
 * lowest; and markov_read.c: unpack the Markov model. */
extern const uint8_t crackle_permutations[24];
CRACKLE_INLINE uint64_t crackle_model_bytes(unsigned order)
{
    return order ? (((uint64_t)5 << 2 * order) + 7) / 8 : 0;
}
int crackle_model_open(struct crackle_stream *stream,
                       struct crackle_error *error);

/* ---- scratch memory ---- */

/* A buffer that only grows. Its contents do not survive growing unless
 * 'keep' is said. */
struct crackle_buffer {
    void *data;
    size_t size;
};

/* Room for at least 'size' bytes: the data pointer, or NULL. */
void *crackle_reserve(struct crackle_buffer *buffer, size_t size);
void *crackle_reserve_keep(struct crackle_buffer *buffer, size_t size);

/*
 * One slice in bitmaps and runs: the middle of every fold.
 *
 * 'left' and 'above' are the crack bitmaps, 'words' 64-bit words a row: bit
 * x of left[y * words + x / 64] says that a border lies between pixels x-1
 * and x of row y, of 'above' that one lies between rows y-1 and y. The
 * image's own border is never set, nor are the bits past sx.
 *
 * A run is a maximal stretch of a row without a left crack. word_run[i] is
 * the run of the pixel before word i of 'left', and of the first pixel where
 * a row begins; so the run of a pixel is word_run plus the cracks up to it,
 * and row y's runs begin with word_run[y * words], the last row's end with
 * word_run[sy * words]. run_component holds each run's component: ids in
 * raster order of the components' first pixels, 'num_components' in all;
 * run_start its first pixel, x + sx * y, once the crc was taken; and
 * first_run each component's first run.
 */
struct crackle_slice {
    uint32_t sx, sy, words;
    uint64_t *left, *above;
    uint32_t *word_run;
    uint32_t *run_component;
    uint32_t *run_start;
    uint32_t *first_run;
    uint32_t num_runs, num_components;
};

/*
 * Tables for the walk, made anew when the slice's size changes. A crack is
 * a byte of the map: left cracks of vertex v = x + (sx + 1) * y at v, those
 * above at plane + v. Entry [b] is for the four directions in byte b, lowest
 * bits first.
 */
struct crackle_walk_tables {
    uint32_t sx, sy;       /* that they are for; sx 0: none yet */
    uint32_t plane;        /* (sx + 1) * (sy + 1) */
    uint32_t mark[256][4]; /* the cracks drawn, relative to the first vertex */
    uint32_t pair[256][4]; /* all ones where the 2 bits of b are set */
    uint32_t net[256];     /* how far the four moves lead */
    uint32_t land[4];      /* from a direction's crack to the vertex behind */
    bool large;            /* than CRACKLE_LARGE_PLANE: without a map */
    bool blank_known;
    uint32_t blank_crc; /* of a slice that is one component */
};

/* Slices with more vertices are walked bit by bit (walk.c): a map of bytes
 * would be 2 bytes a pixel, of which a few moves in a few bytes can touch
 * every page. This is to be no more than 32 MB. */
#ifndef CRACKLE_LARGE_PLANE
#define CRACKLE_LARGE_PLANE ((size_t)1 << 24)
#endif

/* Arrays whose fastest axis is z are read and written in whole cache lines:
 * this many slices at a time, beginning where a line does. */
#define CRACKLE_LINE 64u
CRACKLE_INLINE uint32_t crackle_block_depth(const void *array, size_t width,
                                            uint32_t z)
{
    const uint32_t most = CRACKLE_LINE / (uint32_t)width;
    const uintptr_t lead = (uintptr_t)array % CRACKLE_LINE / width;
    return most - (uint32_t)((lead + z) % most);
}

/* A slice put by until enough of them make whole cache lines of an array
 * whose fastest axis is z: offsets into ws->block of its left cracks, word_run
 * and the values of its runs. */
struct crackle_saved {
    size_t left, word_run, values;
};

/*
 * What folds a block of 'rows' rows of runs into a crc32c. The factor by
 * which a change of the component id at pixel p of the block enters the
 * register at its end is
 *
 *     sum over j = 1 .. rows * sx - p of x^(32 j - 33)  mod P
 *
 * and state[n], that by which the register from before n rows does:
 * x^(32 n sx - 33). The missing x^33 comes back when a 64-bit carry-less
 * product is reduced by one crc step: x^32 from the step, x from the product
 * of two reflected words being one bit short.
 */
struct crackle_crc_powers {
    uint32_t sx, rows;            /* sx 0: none yet */
    struct crackle_buffer buffer; /* factors, then states */
    uint32_t *state;
};

/* The codepoints of a slice, read through the Markov model. */
struct crackle_ranks {
    uint32_t z;
    bool cut_off; /* the last codepoint is */
    unsigned max_padding;
    uint64_t *words, num_codes; /* see crackle_moves */
};

/* Slices that were read ahead of their turn, and which may be. */
#define CRACKLE_AHEAD 8
struct crackle_ahead {
    uint32_t begin, end;
    const uint8_t *wanted;
    uint32_t count;
    struct crackle_ranks slices[CRACKLE_AHEAD];
    struct crackle_buffer words;
};

/* ---- tracing (kernel_trace.h traces, chains.c packs) ---- */

/* A chain's codepoints are codes[begin .. end). */
struct crackle_chain {
    uint32_t start; /* vertex, x + (sx + 1) * y */
    uint32_t begin, end;
};

struct crackle_branch {
    uint32_t vertex, at; /* where it is, and where its symbol stands */
};

/* What is traced: the sides left at each vertex, the open branches, one
 * direction a byte in 'codes', CRACKLE_DELETED where an empty branch was
 * taken back, and the chains they make, one behind the other. */
#define CRACKLE_DELETED 0xFF
struct crackle_trace {
    struct crackle_buffer adjacency, stack, codes, chains;
    uint32_t vertices, num_chains;
};

/* A slice reduced to its runs, each with a value (fold.h). start has an entry
 * behind the last, the number of pixels; row_run one for each row and the
 * number of runs. */
struct crackle_layer {
    uint32_t sx, sy, num_runs;
    uint32_t *row_run, *start, *component, *value;
    struct crackle_buffer rows, starts, components, values;
};

struct crackle_workspace {
    struct crackle_slice slice;
    struct crackle_layer layers[2];
    struct crackle_buffer borders; /* see surface.c */
    struct crackle_ahead ahead;
    struct crackle_walk_tables walk;
    struct crackle_buffer cracks; /* byte map of both planes, always zero */
    struct crackle_buffer codes, marks, stack; /* see crackle_moves */
    struct crackle_buffer left, above;         /* see crackle_slice */
    struct crackle_buffer word_run, run_component, run_start, first_run;
    struct crackle_buffer row; /* what finding or rendering rows needs */
    struct crackle_crc_powers crc_powers;
    struct crackle_buffer values; /* by component */
    struct crackle_buffer block;  /* where the saved slices lie */
    struct crackle_saved saved[CRACKLE_LINE];
    struct crackle_buffer tile, flags;
    struct crackle_trace traces[2];
    struct crackle_buffer sort;
};

/* Rows are taken in blocks of about so many pixels, so that loops over runs
 * are long and what they need stays in the nearest cache. */
#define CRACKLE_BLOCK_PIXELS 4096u
CRACKLE_INLINE uint32_t crackle_block_rows(uint32_t sx, uint32_t sy)
{
    uint32_t rows = (CRACKLE_BLOCK_PIXELS + sx - 1) / sx;
    return rows < sy ? rows : sy;
}

/* Links between runs (kernel_runs.h) that are listed before they are used. */
#define CRACKLE_LINKS 2048

/* ws->row: room for the starts of a block's runs, an even number so that
 * values of 8 bytes may follow; or for the links of one row and the
 * CRACKLE_LINKS before them. */
#define CRACKLE_BLOCK_STARTS(sx)                                              \
    (((size_t)(sx) + CRACKLE_BLOCK_PIXELS + 17) & ~(size_t)1)
#define CRACKLE_ROW_BYTES(sx) (CRACKLE_BLOCK_STARTS(sx) * 12)
_Static_assert(CRACKLE_LINKS + 8 < CRACKLE_BLOCK_PIXELS, "the links fit");

/* Point ws->slice at room for a slice of this size. */
int crackle_slice_reserve(struct crackle_workspace *ws, uint32_t sx,
                          uint32_t sy, struct crackle_error *error);

/* Join the trees of two entries of a union-find: the smaller root wins, so
 * that roots come first of their components. */
CRACKLE_INLINE void crackle_unite(uint32_t *parent, uint32_t a, uint32_t b)
{
    while (parent[a] != a) {
        parent[a] = parent[parent[a]];
        a = parent[a];
    }
    while (parent[b] != b) {
        parent[b] = parent[parent[b]];
        b = parent[b];
    }
    if (a < b)
        parent[b] = a;
    else
        parent[a] = b;
}

/* The component of a pixel, x + sx * y. */
CRACKLE_INLINE uint32_t crackle_component_at(const struct crackle_slice *slice,
                                             uint32_t pixel)
{
    const uint32_t x = pixel % slice->sx, y = pixel / slice->sx;
    const size_t w = (size_t)y * slice->words + x / 64;
    const uint64_t upto = ~(uint64_t)0 >> (63 - x % 64);
    return slice->run_component[slice->word_run[w] +
                                crackle_popcount64(slice->left[w] & upto)];
}

/* labels.c: whether z0 <= z1 <= sz, and the labels are there, or no voxels. */
int crackle_range_check(const struct crackle_stream *stream, uint32_t z0,
                        uint32_t z1, struct crackle_error *error);

/* decode.c: make ready for slices of this size, and read slice z of a stream
 * into ws->slice as far as its components, checked. */
int crackle_walk_prepare(struct crackle_workspace *ws, uint32_t sx,
                         uint32_t sy, struct crackle_error *error);
int crackle_components_read(const struct crackle_stream *stream,
                            struct crackle_workspace *ws, uint32_t z,
                            struct crackle_error *error);

/* The same, and run_start, with one entry more: the number of pixels. */
int crackle_runs_read(const struct crackle_stream *stream,
                      struct crackle_workspace *ws, uint32_t z,
                      struct crackle_error *error);

/* Turn cracks into open connections and back: the permissible format. */
void crackle_flip(struct crackle_slice *slice);

/* Make ws->crc_powers those for slices of this size. */
int crackle_crc_powers(struct crackle_workspace *ws, uint32_t sx, uint32_t sy,
                       struct crackle_error *error);

/* ---- the crack code of a slice (moves.c) ---- */

/*
 * A crack code read into directions: up 0, right 1, down 2, left 3.
 *
 * 'words' holds 32 codepoints a word, 2 bits each, lowest first. Bit 2i of
 * marks[w] says that codepoint 32w + i completes a symbol; one word of zeros
 * follows the last. The vertices where chains start, as x + (sx + 1) * y,
 * lie reversed on 'stack', which has room for every branch besides, and one
 * writable entry before it.
 *
 * The code must end at its last codepoint but for 'max_padding' of them.
 */
struct crackle_moves {
    uint64_t *words;
    uint64_t *marks;
    uint64_t num_codes;
    unsigned max_padding;
    uint32_t *stack;
    uint32_t num_starts;
};
int crackle_moves_read(const struct crackle_stream *stream,
                       struct crackle_workspace *ws, uint32_t z,
                       struct crackle_moves *moves,
                       struct crackle_error *error);

/* A crack code in its two pieces. */
struct crackle_code {
    const uint8_t *index, *moves;
    size_t index_bytes, moves_bytes;
};
int crackle_code_split(const struct crackle_stream *stream, uint32_t z,
                       struct crackle_code *code, struct crackle_error *error);

/* Say which slices crackle_moves_read will be asked for: of [z0, z1) all, or
 * with 'wanted' not NULL those with a byte other than 0. To be called before
 * the first of a stream, as what was read ahead of another is dropped; an
 * empty range will do. A slice may be asked for or not, in any order. */
void crackle_moves_ahead(struct crackle_workspace *ws, uint32_t z0,
                         uint32_t z1, const uint8_t *wanted);

/* markov_read.c: the codepoints of slice z, which has some. */
int crackle_ranks_read(const struct crackle_stream *stream,
                       struct crackle_workspace *ws, uint32_t z,
                       struct crackle_moves *moves,
                       struct crackle_error *error);

/* walk.c: draw the moves into the slice's bitmaps, which are zero, as the
 * kernels' 'walk' and 'cracks_to_bits' do together. '*inside' is whether the
 * walk stayed inside the image and off its border. */
uint64_t crackle_walk_bits(struct crackle_workspace *ws,
                           const struct crackle_moves *moves, bool *inside);

/* ---- packing chains (chains.c) ---- */

/* Append to 'code', which holds '*size' bytes, the crack code of a traced
 * slice without a Markov model. '*index_bytes' is how many of the new bytes
 * come before the moves, '*num_codes' how many codepoints there are. */
int crackle_chains_pack(struct crackle_workspace *ws,
                        struct crackle_trace *trace,
                        struct crackle_buffer *code, size_t *size,
                        uint32_t *index_bytes, uint64_t *num_codes);

/* ---- sorting (sort.c) ---- */

struct crackle_item {
    uint64_t key;
    uint32_t value;
};
/* Sort by key, stable. 'scratch' has room for as many items. */
void crackle_sort(struct crackle_item *items, struct crackle_item *scratch,
                  size_t count);

/* ---- hashing ---- */

/* An odd factor to hash by: the highest bits of its product with a key.
 * Whoever writes labels must not know it, or could write such as all collide,
 * so it comes of where a table happens to lie. What is returned to callers
 * must not depend on it. */
CRACKLE_INLINE uint64_t crackle_hash_factor(const void *table)
{
    uint64_t x = (uint64_t)(uintptr_t)table ^
                 (uint64_t)(uintptr_t)crackle_permutations << 17;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u; /* the mixer of splitmix64 */
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return (x ^ x >> 31) | 1;
}

/* ---- the Markov model (markov.c) ---- */

/* The moves of a slice as they stand without a model: packed codepoints. */
struct crackle_packed {
    const uint8_t *data;
    uint64_t num_codes;
};
/* The model of a volume: of order 0, where there is none, no more. */
struct crackle_markov {
    unsigned order;
    uint8_t *model;   /* crackle_model_bytes(order), as the stream has it */
    uint8_t *symbols; /* what each codepoint in each context is written as;
                         NULL for orders whose table would be too large */
    uint16_t *pairs;  /* the same for two at a time, or NULL */
};
/* Make the model of 'order' from the statistics of 'count' slices, or with
 * CRACKLE_MARKOV_AUTO that of the order that takes the fewest bytes. To be
 * freed even after a failure. */
int crackle_markov_make(struct crackle_markov *markov,
                        const struct crackle_packed *slices, size_t count,
                        unsigned order);
void crackle_markov_free(struct crackle_markov *markov);
/* Room for a slice of 'num_codes' codepoints of at most 3 bits, and for the
 * last store of 8 bytes. */
CRACKLE_INLINE uint64_t crackle_markov_room(uint64_t num_codes)
{
    return num_codes / 8 * 3 + 16;
}
/* Write the codepoints of one slice to 'out': the bytes they take. */
uint64_t crackle_markov_write(const struct crackle_markov *markov,
                              const struct crackle_packed *slice,
                              uint8_t *out);

/* ---- kernels, one set for each CPU level (kernels.h) ---- */

#define CRACKLE_WALK_ENDLESS UINT64_MAX

struct crackle_kernels {
    /* Draw the moves into ws->cracks. Returns the index of the codepoint
     * that ends the last chain, or CRACKLE_WALK_ENDLESS. */
    uint64_t (*walk)(struct crackle_workspace *ws,
                     const struct crackle_moves *moves);
    /* Turn ws->cracks into the slice's bitmaps and clear it. False if the
     * walk left the image or drew its border. */
    bool (*cracks_to_bits)(struct crackle_workspace *ws);
    /* Find runs and components from the bitmaps. */
    void (*find_runs)(struct crackle_workspace *ws);
    /* Whether a border of the slice lies between runs of equal 'value'. */
    bool (*false_border)(struct crackle_workspace *ws, const uint32_t *value);
    /* The crc32c of the slice's component ids as uint32 little-endian; sets
     * run_start. */
    uint32_t (*crc)(struct crackle_workspace *ws);
    /* That of a slice that is one component. */
    uint32_t (*blank_crc)(const struct crackle_workspace *ws);
    /* By log2 of the element width. Fill out[sy][sx] with the value of each
     * pixel's component. */
    void (*render[4])(struct crackle_workspace *ws, const void *values,
                      void *out);
    /* Render 'depth' saved slices into an array whose fastest axis is z:
     * pixel (x, y) of slice k goes to out[(x * sy + y) * stride + k]. */
    void (*render_block[4])(struct crackle_workspace *ws, uint32_t depth,
                            void *out, uint64_t stride);
    /* The crack bitmaps of rows against themselves and the row above (NULL
     * above a slice's first). 'before' tells whether the element before the
     * first row may be read, 'after' whether 64 behind each may. Returns how
     * many rows begin with the element before them. */
    uint32_t (*compare[4])(const void *first, size_t pitch,
                           const void *first_above, uint32_t rows, uint32_t sx,
                           bool before, bool after, uint64_t *left,
                           uint64_t *above);
    /* Copy row y of 'depth' slices out of an array whose fastest axis is z:
     * tile[k][x], 'pitch' elements a row. */
    void (*gather_block[4])(const void *in, uint32_t sx, uint64_t x_stride,
                            uint32_t depth, void *tile, uint32_t pitch);
    /* Make ready to trace the slice's bitmaps, drawn as they are; and trace
     * one or two such slices of 'pitch' vertices a row. A status. */
    int (*trace_begin)(struct crackle_workspace *ws,
                       struct crackle_trace *trace);
    int (*trace)(struct crackle_trace *traces, uint32_t count, uint32_t pitch);
    uint32_t (*crc32c)(uint32_t crc, const uint8_t *data, size_t size);
};

/* cpu.c: the set in use. */
const struct crackle_kernels *crackle_kernels(void);
extern const struct crackle_kernels crackle_kernels_portable;
#if CRACKLE_X86
extern const struct crackle_kernels crackle_kernels_sse4;
extern const struct crackle_kernels crackle_kernels_avx2;
#endif

#endif /* CRACKLE_INTERNAL_H */
