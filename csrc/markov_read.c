/* Reading codepoints through a Markov model; markov.c writes them.
 *
 * Where a codepoint ends and which context it makes are known only once it
 * is read, so a slice is one long chain of look-ups, each waiting for the
 * one before. Slices don't wait for each other: up to CRACKLE_LANES of them
 * are read in lock-step, those that will be asked for next ahead of their
 * turn, and twice as many in all, as some are longer than others. */
#include "internal.h"

#include <stdlib.h>

/* A table for the next 3 bits takes 8 bytes a context, 13 times the model's
 * own; above this order each context has but the number of its rank order,
 * and the table is one of 24. */
#define CRACKLE_STEPS_ORDER 8

/* Up to this order there may be a table for the next 6 bits, two codepoints,
 * of 64 bytes a context: if the bytes to read with it are half as many. */
#define CRACKLE_PAIRS_ORDER 6

/* What the next 3 bits say: the codepoint of rank 0, 1, 2 or 3, and above
 * its 2 bits how many bits it took. */
static void step_of(unsigned k, uint8_t step[8])
{
    static const uint8_t rank[8] = {0, 1, 0, 2, 0, 1, 0, 3};
    static const uint8_t used[4] = {1, 2, 3, 3};
    for (unsigned bits = 0; bits < 8; bits++)
        step[bits] =
            (uint8_t)((crackle_permutations[k] >> 2 * rank[bits] & 3) |
                      used[rank[bits]] << 2);
}

/* Bytes 0 to 3 of 'bytes' to the even bytes. */
static uint64_t spread(uint64_t bytes)
{
    bytes &= 0xFFFFFFFFu;
    bytes = (bytes | bytes << 16) & 0x0000FFFF0000FFFFu;
    return (bytes | bytes << 8) & 0x00FF00FF00FF00FFu;
}

/* The same for the next 6 bits: two codepoints in 4 bits, and above them how
 * many bits they took. */
static void pairs_make(struct crackle_stream *stream)
{
    const unsigned top = 2 * (stream->header.markov_order - 1u);
    const size_t contexts = (size_t)4 << top;
    const uint64_t each = 0x0101010101010101u;
    static const uint8_t first[4] = {0, 1, 3, 7}; /* 0, 10, 110, 111 */
    for (size_t c = 0; c < contexts; c++) {
        const uint8_t *step = stream->steps + 8 * c;
        uint64_t both[4]; /* after each first codepoint, by the 3 bits next */
        for (unsigned rank = 0; rank < 4; rank++) {
            const unsigned code = step[first[rank]] & 3;
            const unsigned used = step[first[rank]] >> 2;
            const size_t next = c >> 2 | (size_t)code << top;
            const uint64_t s = crackle_load64(stream->steps + 8 * next);
            both[rank] = (s & 3 * each) << 2 | (s >> 2 & 3 * each) << 4;
            both[rank] += (code | used << 4) * each;
        }
        /* 3 bits next stand 1, 2 or 3 bits up in the 6: entries of rank 0
         * repeat after 16 bytes, of rank 1 after 32. */
        for (size_t i = 0; i < 8; i++) {
            uint64_t eight = spread(both[0] >> 32 * (i & 1));
            eight |= (both[1] >> 16 * (i & 3) & 255) << 8;
            eight |= (both[1] >> 16 * (i & 3) >> 8 & 255) << 40;
            eight |= (both[2] >> 8 * i & 255) << 24;
            eight |= (both[3] >> 8 * i & 255) << 56;
            crackle_store64(stream->pairs + 64 * c + 8 * i, eight);
        }
    }
}

int crackle_model_open(struct crackle_stream *stream,
                       struct crackle_error *error)
{
    const unsigned order = stream->header.markov_order;
    const size_t contexts = (size_t)1 << 2 * order;
    const size_t bytes = (size_t)crackle_model_bytes(order);
    const bool direct = order <= CRACKLE_STEPS_ORDER;
    for (unsigned k = 0; k < 24; k++)
        step_of(k, stream->step[k]);
    /* Paid for by the model's own bytes, which are there. */
    uint8_t *table = malloc(direct ? contexts * 8 : contexts);
    if (!table)
        return CRACKLE_NOMEM(error);
    if (direct)
        stream->steps = table;
    else
        stream->numbers = table;
    uint64_t bits = 0;
    unsigned have = 0;
    const uint8_t *p = stream->model, *end = p + bytes;
    for (size_t i = 0; i < contexts; i++) {
        if (have < 5) {
            bits |= (uint64_t)(p < end ? *p++ : 0) << have;
            have += 8;
        }
        unsigned k = bits & 31;
        if (k >= 24)
            return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_MODEL,
                                -1,
                                "a rank order of the Markov model is not "
                                "a permutation");
        if (direct)
            memcpy(table + 8 * i, stream->step[k], 8);
        else
            table[i] = (uint8_t)k;
        bits >>= 5;
        have -= 5;
    }
    const uint64_t worth = stream->crack_offset[stream->header.sz] -
                           stream->crack_offset[0];
    if (order <= CRACKLE_PAIRS_ORDER && worth >= contexts * 32) {
        stream->pairs = malloc(contexts * 64);
        if (!stream->pairs)
            return CRACKLE_NOMEM(error);
        pairs_make(stream);
    }
    return CRACKLE_OK;
}

/* ---- lanes ---- */

#define CRACKLE_LANES 4

/* A slice that is being read. */
struct lane {
    const uint8_t *data;
    size_t readable;  /* bytes, to the end of the stream */
    uint64_t total;   /* bits, of the slice */
    uint64_t bit;     /* how far it is read */
    uint64_t history; /* the last codepoints, the newest highest */
    uint64_t *words;  /* where the next 32 go; the last one read, the highest
                         of 'history', is the first of them */
    uint8_t number;   /* among the slices read together */
    bool ended;       /* less than a round is left */
};

/* Which table a codepoint is looked up in. */
enum table { CRACKLE_BY_NUMBER, CRACKLE_BY_STEP, CRACKLE_BY_PAIR };

CRACKLE_INLINE unsigned look_up(const struct crackle_stream *stream,
                                enum table table, uint64_t context,
                                uint64_t bits)
{
    switch (table) {
    case CRACKLE_BY_PAIR:
        return stream->pairs[context * 64 + (bits & 63)];
    case CRACKLE_BY_STEP:
        return stream->steps[context * 8 + (bits & 7)];
    default:
        return stream->step[stream->numbers[context]][bits & 7];
    }
}

/* A round is 32 codepoints, of at most 12 bytes: two loads of 8, the second
 * at most 6 bytes after the first. It may run over the slice's end, into
 * whatever the stream has there, and is then undone. As many bits are left
 * to 'finish' as it needs to see how much may be padding. */
#define CRACKLE_ROUND_BYTES 14
#define CRACKLE_LAST_BITS 9

CRACKLE_INLINE bool has_round(const struct lane *lane)
{
    return !lane->ended && lane->readable >= CRACKLE_ROUND_BYTES &&
           lane->bit / 8 <= lane->readable - CRACKLE_ROUND_BYTES;
}

/* Read 32 codepoints of each of 'n' lanes at a time, until one has no more. */
CRACKLE_INLINE void run_lanes(const struct crackle_stream *stream,
                              struct lane *lanes, const unsigned n,
                              const enum table table)
{
    const unsigned to_context = 64u - 2u * stream->header.markov_order;
    const unsigned codes = table == CRACKLE_BY_PAIR ? 2 : 1;
    uint64_t history[CRACKLE_LANES], window[CRACKLE_LANES];
    uint64_t before[CRACKLE_LANES], bit[CRACKLE_LANES];
    for (unsigned l = 0; l < n; l++)
        history[l] = lanes[l].history;
    for (;;) {
        bool all = true;
        for (unsigned l = 0; l < n; l++)
            all &= has_round(&lanes[l]);
        if (!all)
            break;
        for (unsigned l = 0; l < n; l++) {
            before[l] = history[l];
            bit[l] = lanes[l].bit;
        }
        for (unsigned half = 0; half < 2; half++) {
            /* Of at least 57 bits at most 48 are used. A 1 above them is
             * shifted with them and tells how many. */
            for (unsigned l = 0; l < n; l++)
                window[l] = crackle_load64(lanes[l].data + bit[l] / 8) >>
                                bit[l] % 8 |
                            (uint64_t)1 << 63;
            for (unsigned i = 0; i < 16; i += codes)
                for (unsigned l = 0; l < n; l++) {
                    unsigned found = look_up(
                        stream, table, history[l] >> to_context, window[l]);
                    history[l] = history[l] >> 2 * codes |
                                 (uint64_t)found << (64 - 2 * codes);
                    window[l] >>= found >> 2 * codes;
                }
            for (unsigned l = 0; l < n; l++)
                bit[l] += crackle_clz64(window[l]);
        }
        for (unsigned l = 0; l < n; l++) {
            if (CRACKLE_UNLIKELY(bit[l] + CRACKLE_LAST_BITS >
                                 lanes[l].total)) {
                lanes[l].ended = true;
                history[l] = before[l];
            } else {
                lanes[l].bit = bit[l];
                *lanes[l].words++ = history[l] << 2 | before[l] >> 62;
            }
        }
    }
    for (unsigned l = 0; l < n; l++)
        lanes[l].history = history[l];
}

CRACKLE_INLINE void run(const struct crackle_stream *stream,
                        struct lane *lanes, unsigned n, const enum table table)
{
    switch (n) {
    case 1:
        run_lanes(stream, lanes, 1, table);
        break;
    case 2:
        run_lanes(stream, lanes, 2, table);
        break;
    case 3:
        run_lanes(stream, lanes, 3, table);
        break;
    default:
        run_lanes(stream, lanes, CRACKLE_LANES, table);
    }
}

/* Read the lanes as far as whole rounds go. */
static void run_all(const struct crackle_stream *stream, struct lane *lanes,
                    unsigned n)
{
    for (;;) {
        for (unsigned l = 0; l < n;)
            if (has_round(&lanes[l])) {
                l++;
            } else {
                struct lane ended = lanes[l];
                lanes[l] = lanes[--n];
                lanes[n] = ended;
            }
        if (n == 0)
            return;
        if (stream->pairs)
            run(stream, lanes, n, CRACKLE_BY_PAIR);
        else if (stream->steps)
            run(stream, lanes, n, CRACKLE_BY_STEP);
        else
            run(stream, lanes, n, CRACKLE_BY_NUMBER);
    }
}

/* Read a lane's last codepoints, of which it has some. */
static void finish(const struct crackle_stream *stream,
                   const struct lane *lane, struct crackle_ranks *ranks)
{
    const unsigned to_context = 64u - 2u * stream->header.markov_order;
    const enum table table = stream->steps ? CRACKLE_BY_STEP
                                           : CRACKLE_BY_NUMBER;
    const uint64_t total = lane->total;
    uint64_t history = lane->history, bit = lane->bit;
    uint64_t *words = lane->words, word = history >> 62;
    uint64_t count = 1;
    uint64_t padding = 0; /* codepoints of one bit at the end so far */
    while (bit < total) {
        uint64_t window = 0;
        size_t at = (size_t)(bit / 8), n = (size_t)(total / 8) - at;
        for (size_t i = 0; i < (n < 8 ? n : 8); i++)
            window |= (uint64_t)lane->data[at + i] << (8 * i);
        window >>= bit % 8;
        /* At least 57 bits: 19 codepoints of at most 3. */
        for (int i = 0; i < 19 && bit < total; i++) {
            unsigned found = look_up(stream, table, history >> to_context,
                                     window);
            history = history >> 2 | (uint64_t)found << 62;
            window >>= found >> 2;
            bit += found >> 2;
            padding = found >> 2 == 1 ? padding + 1 : 0;
            word |= (uint64_t)(found & 3) << (count % 32 * 2);
            if (++count % 32 == 0) {
                *words++ = word;
                word = 0;
            }
        }
    }
    *words = word;
    ranks->cut_off = bit > total;
    ranks->num_codes = (uint64_t)(words - ranks->words) * 32 + count % 32;
    ranks->max_padding = padding < 7 ? (unsigned)padding : 7;
}

/* ---- slices ---- */

void crackle_moves_ahead(struct crackle_workspace *ws, uint32_t z0,
                         uint32_t z1, const uint8_t *wanted)
{
    ws->ahead.count = 0;
    ws->ahead.begin = z0;
    ws->ahead.end = z1;
    ws->ahead.wanted = wanted;
}

/* Every codepoint takes at least one bit, and 32 of them a word. */
static size_t words_room(size_t bytes)
{
    return bytes / 4 + 3;
}

/* Read slice z, and with it those that are wanted after it. */
static int batch_read(const struct crackle_stream *stream,
                      struct crackle_workspace *ws, uint32_t z)
{
    struct crackle_ahead *ahead = &ws->ahead;
    struct lane lanes[CRACKLE_AHEAD];
    size_t room = 0;
    unsigned n = 0;
    for (uint64_t next = z; n < CRACKLE_AHEAD; next++) {
        if (next > z && next >= ahead->end)
            break;
        if (next > z && ahead->wanted && !ahead->wanted[next - ahead->begin])
            continue;
        /* One that can't be split is found out in its turn. */
        struct crackle_code code;
        if (crackle_code_split(stream, (uint32_t)next, &code, NULL) ||
            code.moves_bytes == 0)
            continue;
        lanes[n].data = code.moves;
        lanes[n].readable = (size_t)(stream->data + stream->size - code.moves);
        lanes[n].total = (uint64_t)code.moves_bytes * 8;
        lanes[n].ended = false;
        lanes[n].bit = 2;
        lanes[n].history = (uint64_t)code.moves[0] << 62;
        lanes[n].number = (uint8_t)n;
        ahead->slices[n].z = (uint32_t)next;
        room += words_room(code.moves_bytes);
        n++;
    }
    ahead->count = 0;
    uint64_t *words = crackle_reserve(&ahead->words, room * 8);
    if (!words)
        return CRACKLE_NO_MEMORY;
    for (unsigned l = 0; l < n; l++) {
        ahead->slices[l].words = lanes[l].words = words;
        words += words_room((size_t)(lanes[l].total / 8));
    }
    ahead->count = n;
    run_all(stream, lanes, n);
    for (unsigned l = 0; l < n; l++)
        finish(stream, &lanes[l], &ahead->slices[lanes[l].number]);
    return CRACKLE_OK;
}

static struct crackle_ranks *find(struct crackle_ahead *ahead, uint32_t z)
{
    for (unsigned i = 0; i < ahead->count; i++)
        if (ahead->slices[i].z == z)
            return &ahead->slices[i];
    return NULL;
}

int crackle_ranks_read(const struct crackle_stream *stream,
                       struct crackle_workspace *ws, uint32_t z,
                       struct crackle_moves *moves,
                       struct crackle_error *error)
{
    struct crackle_ranks *ranks = find(&ws->ahead, z);
    if (!ranks) {
        if (batch_read(stream, ws, z))
            return CRACKLE_NOMEM(error);
        ranks = &ws->ahead.slices[0];
    }
    moves->words = ranks->words;
    moves->num_codes = ranks->num_codes;
    moves->max_padding = ranks->max_padding;
    /* Its words are about to become directions: it can be had once. */
    ranks->z = UINT32_MAX;
    if (ranks->cut_off)
        return crackle_fail(error, CRACKLE_CORRUPT, CRACKLE_SECTION_CRACKS, z,
                            "the last codepoint is cut off");
    return CRACKLE_OK;
}
