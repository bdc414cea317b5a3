/* From the bytes of a crack code to directions and symbols. */
#include "internal.h"

/* Rank order k of the four codepoints: the k-th permutation of 0..3 in
 * lexicographic order, 2 bits a rank, the likeliest lowest. */
const uint8_t crackle_permutations[24] = {
    0xE4, 0xB4, 0xD8, 0x78, 0x9C, 0x6C, 0xE1, 0xB1, 0xC9, 0x39, 0x8D, 0x2D,
    0xD2, 0x72, 0xC6, 0x36, 0x4E, 0x1E, 0x93, 0x63, 0x87, 0x27, 0x4B, 0x1B,
};

/*
 * From difference-coded codepoints to directions, and marks at those that
 * complete a symbol. 32 lanes of 2 bits at a time: a running sum mod 4 is a
 * prefix xor of the low bits, and of the high bits with the carries.
 *
 * A codepoint completes a symbol if it is the opposite of the one before
 * (a difference of 2) and that one did not complete one itself: among
 * consecutive 2s every other, found by adding at the run's start and looking
 * how far the carry went.
 */
static void find_directions(uint64_t *words, uint64_t *marks,
                            uint64_t num_words)
{
    const uint64_t low = 0x5555555555555555u, even = 0x3333333333333333u;
    uint64_t carry = 0;     /* the last direction, in every lane */
    uint64_t completed = 1; /* the last codepoint did; the first can't */
    for (uint64_t w = 0; w < num_words; w++) {
        uint64_t d = words[w];
        uint64_t l = d & low, h = d >> 1 & low;
        uint64_t two = h & ~l;

        uint64_t run = two | two << 1;
        uint64_t starts = two & ~(two << 2);
        uint64_t at_even = starts & even & ~completed;
        uint64_t on_even = run & ~(run + at_even);
        uint64_t done = (on_even & even) | (run & ~on_even & ~even);
        done &= low;
        /* A run that goes on from the last word's counts as begun at an odd
         * lane if that one completed a symbol, and at an even one if not. */
        marks[w] = done;
        completed = done >> 62;

        uint64_t s = l;
        s ^= s << 2;
        s ^= s << 4;
        s ^= s << 8;
        s ^= s << 16;
        s ^= s << 32;
        /* A lane's low bit and its predecessors' sum are both 1: carry. */
        uint64_t t = h ^ (l & s << 2);
        t ^= t << 2;
        t ^= t << 4;
        t ^= t << 8;
        t ^= t << 16;
        t ^= t << 32;
        /* Add the last direction of the word before. */
        uint64_t cl = carry & low, ch = carry >> 1 & low;
        uint64_t lo = s ^ cl;
        uint64_t hi = t ^ ch ^ (s & cl);
        words[w] = lo | hi << 1;
        carry = (words[w] >> 62) * low;
    }
    marks[num_words] = 0;
}

/* Read the beginning-of-chain index: vertices, in order, to *starts. */
static int starts_read(const struct crackle_header *header, uint32_t z,
                       const uint8_t *data, size_t size,
                       struct crackle_workspace *ws, size_t *num_starts,
                       struct crackle_error *error)
{
    const unsigned yw = crackle_width((uint64_t)header->sy + 1);
    const unsigned xw = crackle_width((uint64_t)header->sx + 1);
    struct crackle_reader r = {data, data + size};
    *num_starts = 0;
    if (size < yw) /* as crackle's full() writes it: no chain */
        return CRACKLE_OK;
    /* Each start takes at least a byte. */
    uint32_t *starts = crackle_reserve(&ws->sort, size * 4);
    if (!starts)
        return CRACKLE_NOMEM(error);
    uint64_t rows = crackle_load(crackle_take(&r, yw), yw);
    uint64_t y = 0;
    size_t n = 0;
    for (uint64_t i = 0; i < rows; i++) {
        const uint8_t *p = crackle_take(&r, yw + xw);
        if (!p)
            goto cut;
        y += crackle_load(p, yw);
        uint64_t count = crackle_load(p + yw, xw), x = 0;
        p = crackle_take_items(&r, count, xw);
        if (!p)
            goto cut;
        if (y > header->sy)
            goto outside;
        for (uint64_t j = 0; j < count; j++) {
            x += crackle_load(p + j * xw, xw);
            if (x > header->sx)
                goto outside;
            starts[n++] = (uint32_t)(x + ((uint64_t)header->sx + 1) * y);
        }
    }
    if (crackle_left(&r))
        return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_CRACKS, z,
                            "the index of chains is longer than its rows");
    *num_starts = n;
    return CRACKLE_OK;
cut:
    return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_CRACKS, z,
                        "the index of chains is shorter than its rows");
outside:
    return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_CRACKS, z,
                        "a chain starts outside the slice");
}

int crackle_code_split(const struct crackle_stream *stream, uint32_t z,
                       struct crackle_code *code, struct crackle_error *error)
{
    const uint8_t *p = stream->data + stream->crack_offset[z];
    size_t size =
        (size_t)(stream->crack_offset[z + 1] - stream->crack_offset[z]);
    if (size < 4)
        return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_CRACKS, z,
                            "the crack code has no index of chains");
    code->index = p + 4;
    code->index_bytes = crackle_load32(p);
    if (code->index_bytes > size - 4)
        return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_CRACKS, z,
                            "the index of chains is longer than the code");
    code->moves = code->index + code->index_bytes;
    code->moves_bytes = size - 4 - code->index_bytes;
    return CRACKLE_OK;
}

int crackle_moves_read(const struct crackle_stream *stream,
                       struct crackle_workspace *ws, uint32_t z,
                       struct crackle_moves *moves,
                       struct crackle_error *error)
{
    struct crackle_code split;
    int status = crackle_code_split(stream, z, &split, error);
    if (status)
        return status;
    size_t num_starts;
    status = starts_read(&stream->header, z, split.index, split.index_bytes,
                         ws, &num_starts, error);
    if (status)
        return status;
    const uint8_t *code = split.moves;
    const size_t size = split.moves_bytes;
    moves->num_starts = (uint32_t)num_starts;
    if (num_starts == 0) {
        if (size)
            return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_CRACKS,
                                z, "there are moves but no chain");
        return CRACKLE_OK;
    }
    if (size == 0)
        return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_CRACKS, z,
                            "there are chains but no moves");

    if (stream->header.markov_order) {
        status = crackle_ranks_read(stream, ws, z, moves, error);
        if (status)
            return status;
    } else {
        moves->words = crackle_reserve(&ws->codes, (size / 8 + 1) * 8);
        if (!moves->words)
            return CRACKLE_NOMEM(error);
        size_t full = size / 8;
        for (size_t i = 0; i < full; i++)
            moves->words[i] = crackle_load64(code + 8 * i);
        uint64_t rest = 0;
        for (size_t i = 8 * full; i < size; i++)
            rest |= (uint64_t)code[i] << (8 * (i - 8 * full));
        moves->words[full] = rest;
        moves->num_codes = (uint64_t)size * 4;
        uint8_t last = code[size - 1];
        moves->max_padding = last >> 2 == 0   ? 3
                             : last >> 4 == 0 ? 2
                             : last >> 6 == 0 ? 1
                                              : 0;
    }
    uint64_t num_words = (moves->num_codes + 31) / 32;
    moves->marks = crackle_reserve(&ws->marks, ((size_t)num_words + 1) * 8);
    if (!moves->marks)
        return CRACKLE_NOMEM(error);
    find_directions(moves->words, moves->marks, num_words);

    /* A branch takes two codepoints and pushes one vertex. */
    uint32_t *stack = crackle_reserve(
        &ws->stack, (num_starts + (size_t)(moves->num_codes / 2) + 6) * 4);
    if (!stack)
        return CRACKLE_NOMEM(error);
    stack[0] = stack[1] = stack[2] = 0;
    moves->stack = stack + 3;
    const uint32_t *starts = ws->sort.data;
    for (size_t i = 0; i < num_starts; i++)
        moves->stack[i] = starts[num_starts - 1 - i];
    return CRACKLE_OK;
}
