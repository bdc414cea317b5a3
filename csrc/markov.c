/* Writing codepoints through a Markov model, and choosing its order.
 * markov_read.c reads them.
 *
 * In packed moves the codepoints before one lie below it, the oldest lowest,
 * and so they do in a context. A codepoint and its context are therefore 2 *
 * (order + 1) consecutive bits of the moves: 'seen', the codepoint highest.
 * Counts indexed by that are four arrays by context, one for each codepoint,
 * and the counts of the next lower order are sums of four neighbours. */
#include "internal.h"

#include <stdlib.h>

/* Up to this order, and above it where contexts are no more than codepoints,
 * statistics are counted in a table; else the contexts that occur are sorted,
 * as there may be a thousand million others. */
#define CRACKLE_TABLE_ORDER 10

/* Up to this order codepoints are counted two at a time, if they are as many
 * as entries in the table for one, and written so if they are this many times
 * as many: what the larger tables then gain is more than they cost. */
#define CRACKLE_PAIRS_ORDER 6
#define CRACKLE_PAIRS_WORTH 16

/* The first statistics that an order is chosen by: of a table that fits the
 * nearest cache. They tell how far it may pay to go. */
#define CRACKLE_FIRST_ORDER 5

/* ---- the packed moves, 16 codepoints at a time ---- */

/* 16 codepoints from codepoint 'i' on, a multiple of 16; zeros behind the
 * last. */
CRACKLE_INLINE uint64_t codes_at(const struct crackle_packed *slice,
                                 uint64_t i)
{
    const uint8_t *p = slice->data + i / 4;
    if (CRACKLE_LIKELY(slice->num_codes - i >= 16))
        return crackle_load32(p);
    uint64_t codes = 0;
    for (uint64_t j = 0; j < (slice->num_codes - i + 3) / 4; j++)
        codes |= (uint64_t)p[j] << (8 * j);
    return codes;
}

CRACKLE_INLINE uint64_t seen_mask(unsigned order)
{
    return ((uint64_t)1 << 2 * (order + 1)) - 1;
}

/* Codepoint j of 16 in the upper half of 'codes', with the 'count' - 1 before
 * it, 'mask' having 2 * count bits. */
CRACKLE_INLINE uint64_t seen_at(uint64_t codes, unsigned j, unsigned count,
                                uint64_t mask)
{
    return codes >> (34 - 2 * count + 2 * j) & mask;
}

/* Every codepoint of 'slice' with its context, as 'seen', to BODY. */
#define CRACKLE_FOR_SEEN(slice, order, BODY)                                  \
    {                                                                         \
        uint64_t codes = 0;                                                   \
        for (uint64_t i = 0; i < (slice)->num_codes; i++) {                   \
            if (i % 16 == 0)                                                  \
                codes = codes >> 32 | codes_at((slice), i) << 32;             \
            uint64_t seen = seen_at(codes, (unsigned)(i % 16), (order) + 1,   \
                                    seen_mask(order));                        \
            BODY;                                                             \
        }                                                                     \
    }

/* ---- statistics ---- */

static uint64_t codes_in_all(const struct crackle_packed *slices, size_t count)
{
    uint64_t total = 0;
    for (size_t s = 0; s < count; s++)
        total += slices[s].num_codes;
    return total;
}

/* How often each codepoint stands in each context: 4^(order+1) counts, to be
 * freed, or NULL. */
static uint32_t *gather(const struct crackle_packed *slices, size_t count,
                        unsigned order)
{
    const uint64_t mask = seen_mask(order), mask_two = seen_mask(order + 1);
    const size_t size = (size_t)mask + 1;
    const bool two = order <= CRACKLE_PAIRS_ORDER &&
                     codes_in_all(slices, count) >= size;
    uint32_t *counts = calloc((two ? 5 : 1) * size, sizeof *counts);
    if (!counts)
        return NULL;
    uint32_t *pairs = counts + size;
    for (size_t s = 0; s < count; s++) {
        uint64_t codes = 0;
        for (uint64_t i = 0; i < slices[s].num_codes; i += 16) {
            const uint64_t left = slices[s].num_codes - i;
            codes = codes >> 32 | codes_at(&slices[s], i) << 32;
            if (left < 16)
                for (unsigned j = 0; j < left; j++)
                    counts[seen_at(codes, j, order + 1, mask)]++;
            else if (two)
                for (unsigned j = 1; j < 16; j += 2)
                    pairs[seen_at(codes, j, order + 2, mask_two)]++;
            else
                for (unsigned j = 0; j < 16; j++)
                    counts[seen_at(codes, j, order + 1, mask)]++;
        }
    }
    /* Of a pair the first codepoint is the lower, its context's oldest the
     * lowest. */
    if (two)
        for (size_t i = 0; i < size; i++)
            for (size_t k = 0; k < 4; k++)
                counts[i] += pairs[k * size + i] + pairs[4 * i + k];
    return counts;
}

/* From the counts of an order to those of the one below, in place. */
static void fold(uint32_t *counts, unsigned order)
{
    const size_t size = (size_t)1 << 2 * order;
    for (size_t i = 0; i < size; i++)
        counts[i] = counts[4 * i] + counts[4 * i + 1] + counts[4 * i + 2] +
                    counts[4 * i + 3];
}

/* ---- the model ---- */

CRACKLE_INLINE void order_two(uint64_t *high, uint64_t *low)
{
    uint64_t a = *high, b = *low;
    *high = a > b ? a : b;
    *low = a > b ? b : a;
}

/* Codepoints of these counts in descending order, packed 2 bits a rank; of
 * equal counts the higher codepoint comes first. */
static uint8_t rank_order(uint32_t n0, uint32_t n1, uint32_t n2, uint32_t n3)
{
    uint64_t a = (uint64_t)n0 << 2, b = (uint64_t)n1 << 2 | 1;
    uint64_t c = (uint64_t)n2 << 2 | 2, d = (uint64_t)n3 << 2 | 3;
    order_two(&a, &b);
    order_two(&c, &d);
    order_two(&a, &c);
    order_two(&b, &d);
    order_two(&b, &c);
    return (uint8_t)((a & 3) | (b & 3) << 2 | (c & 3) << 4 | (d & 3) << 6);
}

/* permutation_number[p & 63] is the k of the rank order p; the last rank
 * follows from the others. */
static void number_permutations(uint8_t number[64])
{
    memset(number, 0, 64);
    for (unsigned k = 0; k < 24; k++)
        number[crackle_permutations[k] & 63] = (uint8_t)k;
}

static void model_set(uint8_t *model, size_t context, unsigned k)
{
    uint64_t bit = (uint64_t)context * 5;
    uint8_t *p = model + bit / 8;
    unsigned shift = bit % 8;
    p[0] = (uint8_t)((p[0] & ~(31u << shift)) | k << shift);
    if (shift > 3)
        p[1] = (uint8_t)((p[1] & ~(31u >> (8 - shift))) | k >> (8 - shift));
}

static unsigned model_get(const uint8_t *model, size_t context)
{
    uint64_t bit = (uint64_t)context * 5;
    const uint8_t *p = model + bit / 8;
    unsigned shift = bit % 8;
    unsigned k = p[0] >> shift;
    if (shift > 3)
        k |= (unsigned)p[1] << (8 - shift);
    return k & 31;
}

/* What a codepoint of some rank is written as: 3 bits, and above them how
 * many of them count. */
static const uint8_t symbols[4] = {1 << 3, 1 | 2 << 3, 3 | 3 << 3, 7 | 3 << 3};

/* Model and symbols from the counts of all contexts. */
static void model_from_counts(struct crackle_markov *markov,
                              const uint32_t *counts)
{
    const size_t n = (size_t)1 << 2 * markov->order;
    uint8_t number[64];
    number_permutations(number);
    memset(markov->model, 0, (size_t)crackle_model_bytes(markov->order));
    for (size_t c = 0; c < n; c++) {
        /* 4 n are there: NOLINTNEXTLINE(clang-analyzer-security.ArrayBound) */
        uint8_t p = rank_order(counts[c], counts[n + c], counts[2 * n + c],
                               counts[3 * n + c]);
        model_set(markov->model, c, number[p & 63]);
        for (unsigned rank = 0; rank < 4; rank++)
            markov->symbols[(p >> 2 * rank & 3) * n + c] = symbols[rank];
    }
}

/* The model from statistics of those contexts only that occur. */
static int model_from_sorted(struct crackle_markov *markov,
                             const struct crackle_packed *slices, size_t count)
{
    const unsigned order = markov->order;
    const uint64_t contexts = (uint64_t)1 << 2 * order;
    uint8_t number[64], eight[5] = {0, 0, 0, 0, 0};
    number_permutations(number);
    for (size_t c = 0; c < 8; c++)
        model_set(eight, c, number[rank_order(0, 0, 0, 0) & 63]);
    for (size_t c = 0; c < contexts; c += 8)
        memcpy(markov->model + c / 8 * 5, eight, 5);

    const uint64_t total = codes_in_all(slices, count);
    struct crackle_item *items =
        total < SIZE_MAX / 64 ? malloc((size_t)total * 2 * sizeof *items + 1)
                              : NULL;
    if (!items)
        return CRACKLE_NO_MEMORY;
    size_t n = 0;
    for (size_t s = 0; s < count; s++)
        CRACKLE_FOR_SEEN(&slices[s], order, {
            items[n].value = (uint32_t)(seen >> 2 * order);
            items[n++].key = seen & (contexts - 1);
        })
    crackle_sort(items, items + n, n);
    for (size_t i = 0; i < n;) {
        uint64_t context = items[i].key;
        uint32_t counts[4] = {0, 0, 0, 0};
        for (; i < n && items[i].key == context; i++)
            counts[items[i].value]++;
        uint8_t p = rank_order(counts[0], counts[1], counts[2], counts[3]);
        model_set(markov->model, (size_t)context, number[p & 63]);
    }
    free(items);
    return CRACKLE_OK;
}

/* What two codepoints are written as, by both and the context of the first:
 * 6 bits, and above them how many of them count. */
static int pairs_make(struct crackle_markov *markov)
{
    const size_t size = (size_t)16 << 2 * markov->order, mask = size / 4 - 1;
    markov->pairs = malloc(size * sizeof *markov->pairs);
    if (!markov->pairs)
        return CRACKLE_NO_MEMORY;
    for (size_t i = 0; i < size; i++) {
        unsigned one = markov->symbols[i & mask];
        unsigned two = markov->symbols[i >> 2];
        unsigned used = one >> 3;
        markov->pairs[i] = (uint16_t)((one & 7) | (two & 7) << used |
                                      (used + (two >> 3)) << 6);
    }
    return CRACKLE_OK;
}

/* The model of one order, 1 to 15. */
static int model_make(struct crackle_markov *markov,
                      const struct crackle_packed *slices, size_t count,
                      unsigned order)
{
    markov->order = order;
    markov->model = malloc((size_t)crackle_model_bytes(order));
    if (!markov->model)
        return CRACKLE_NO_MEMORY;
    const uint64_t codes = codes_in_all(slices, count);
    if (order > CRACKLE_TABLE_ORDER && codes >> 2 * order == 0)
        return model_from_sorted(markov, slices, count);
    const size_t size = (size_t)4 << 2 * order;
    uint32_t *counts = gather(slices, count, order);
    markov->symbols = malloc(size);
    if (!counts || !markov->symbols) {
        free(counts);
        return CRACKLE_NO_MEMORY;
    }
    model_from_counts(markov, counts);
    free(counts);
    if (order <= CRACKLE_PAIRS_ORDER && codes / CRACKLE_PAIRS_WORTH >= size)
        return pairs_make(markov);
    return CRACKLE_OK;
}

void crackle_markov_free(struct crackle_markov *markov)
{
    free(markov->model);
    free(markov->symbols);
    free(markov->pairs);
    *markov = (struct crackle_markov){0, NULL, NULL, NULL};
}

/* ---- writing ---- */

/* The symbol of a codepoint in its context. */
CRACKLE_INLINE unsigned symbol_of(const struct crackle_markov *markov,
                                  uint64_t seen, bool table)
{
    if (table)
        return markov->symbols[seen];
    uint64_t context = seen & (((uint64_t)1 << 2 * markov->order) - 1);
    unsigned code = (unsigned)(seen >> 2 * markov->order);
    uint8_t p =
        crackle_permutations[model_get(markov->model, (size_t)context)];
    unsigned rank = 0;
    while ((p >> (2 * rank) & 3u) != code)
        rank++;
    return symbols[rank];
}

/* Which table the symbols are in, if any. */
enum table { CRACKLE_NO_TABLE, CRACKLE_BY_ONE, CRACKLE_BY_TWO };

CRACKLE_INLINE uint64_t write_slice(const struct crackle_markov *markov,
                                    const struct crackle_packed *slice,
                                    uint8_t *out, const enum table table)
{
    const unsigned order = markov->order;
    const uint64_t mask = seen_mask(order), mask_two = seen_mask(order + 1);
    uint8_t *begin = out;
    uint64_t codes = 0, bits = 0;
    unsigned have = 0;
    for (uint64_t i = 0; i < slice->num_codes; i += 16) {
        const uint64_t left = slice->num_codes - i;
        codes = codes >> 32 | codes_at(slice, i) << 32;
        if (table == CRACKLE_BY_TWO && CRACKLE_LIKELY(i && left >= 16)) {
            for (unsigned j = 1; j < 16; j += 2) {
                unsigned two =
                    markov->pairs[seen_at(codes, j, order + 2, mask_two)];
                bits |= (uint64_t)(two & 63) << have;
                have += two >> 6;
            }
        } else {
            unsigned j = 0, end = left < 16 ? (unsigned)left : 16;
            if (i == 0) { /* the slice's first is written plainly */
                bits = codes >> 32 & 3;
                have = 2;
                j = 1;
            }
            for (; j < end; j++) {
                unsigned symbol = symbol_of(markov,
                                            seen_at(codes, j, order + 1, mask),
                                            table != CRACKLE_NO_TABLE);
                bits |= (uint64_t)(symbol & 7) << have;
                have += symbol >> 3;
            }
        }
        /* At most 7 bits from before, and 48 new ones. */
        crackle_store64(out, bits);
        out += have / 8;
        bits >>= have & ~7u;
        have %= 8;
    }
    return (uint64_t)(out - begin) + (have > 0);
}

uint64_t crackle_markov_write(const struct crackle_markov *markov,
                              const struct crackle_packed *slice, uint8_t *out)
{
    if (markov->pairs)
        return write_slice(markov, slice, out, CRACKLE_BY_TWO);
    if (markov->symbols)
        return write_slice(markov, slice, out, CRACKLE_BY_ONE);
    return write_slice(markov, slice, out, CRACKLE_NO_TABLE);
}

/* The bytes a slice takes, as write_slice would write it. */
static uint64_t measure_slice(const struct crackle_markov *markov,
                              const struct crackle_packed *slice)
{
    const unsigned order = markov->order;
    const bool table = markov->symbols != NULL;
    uint64_t bits = 0;
    CRACKLE_FOR_SEEN(slice, order, bits += symbol_of(markov, seen, table) >> 3)
    if (slice->num_codes) {
        /* The first one stands in context 0, but is written plainly. */
        uint64_t seen = (uint64_t)(slice->data[0] & 3) << 2 * order;
        bits = bits + 2 - (symbol_of(markov, seen, table) >> 3);
    }
    return (bits + 7) / 8;
}

/* ---- choosing an order ---- */

/* What is known of the bytes that models and moves take together. */
struct choice {
    const struct crackle_packed *slices;
    size_t count;
    uint64_t codes;    /* in all slices */
    uint64_t begun;    /* slices with any */
    uint64_t first[4]; /* how many begin with each codepoint */
    uint64_t shortest; /* moves, if all codepoints but the first took a bit */
    uint64_t low[CRACKLE_MAX_ORDER + 1];  /* by order: at least so many */
    uint64_t high[CRACKLE_MAX_ORDER + 1]; /* at most */
    uint64_t best;                        /* the smallest of 'high' */
};

/* The highest order that may take fewer bytes than the best. */
static unsigned highest_order(const struct choice *choice)
{
    unsigned order = 0;
    while (order < CRACKLE_MAX_ORDER &&
           crackle_model_bytes(order + 1) + choice->shortest < choice->best)
        order++;
    return order;
}

/* The bits of all moves in an order, from its counts. */
static uint64_t count_bits(const struct choice *choice, unsigned order,
                           const uint32_t *counts)
{
    const size_t n = (size_t)1 << 2 * order;
    const uint32_t *n0 = counts, *n1 = n0 + n, *n2 = n1 + n, *n3 = n2 + n;
    uint64_t saved = 0; /* of 3 bits each */
    for (size_t c = 0; c < n; c++) {
        uint32_t a = n0[c] > n1[c] ? n0[c] : n1[c];
        uint32_t b = n0[c] > n1[c] ? n1[c] : n0[c];
        uint32_t d = n2[c] > n3[c] ? n2[c] : n3[c];
        uint32_t e = n2[c] > n3[c] ? n3[c] : n2[c];
        uint32_t most = a > d ? a : d, other = a > d ? d : a;
        uint32_t lower = b > e ? b : e;
        saved += 2 * (uint64_t)most + (other > lower ? other : lower);
    }
    uint64_t bits = 3 * choice->codes - saved;
    uint8_t p = rank_order(n0[0], n1[0], n2[0], n3[0]);
    for (unsigned rank = 0; rank < 4; rank++)
        bits += choice->first[p >> 2 * rank & 3] *
                (2 - (uint64_t)(symbols[rank] >> 3));
    return bits;
}

/* Gather the statistics of order 'from' and bound the bytes of the orders
 * down to 'to'. */
static int bound_orders(struct choice *choice, unsigned from, unsigned to)
{
    uint32_t *counts = gather(choice->slices, choice->count, from);
    if (!counts)
        return CRACKLE_NO_MEMORY;
    for (unsigned order = from; order >= to; order--) {
        if (order < from)
            fold(counts, order + 1);
        uint64_t bits = count_bits(choice, order, counts);
        uint64_t model = crackle_model_bytes(order);
        /* Each slice is filled up to a whole byte. */
        choice->low[order] = model + (bits + 7) / 8;
        choice->high[order] = model + (bits + 7 * choice->begun) / 8;
        if (choice->high[order] < choice->best)
            choice->best = choice->high[order];
    }
    free(counts);
    return CRACKLE_OK;
}

/* The model of the order that takes the fewest bytes, the lowest of several.
 * The statistics of an order hold those of all lower ones, so the sum of bits
 * is known for each; only orders that are so close that it depends on how
 * slices fill their last bytes are measured. */
static int best_make(struct crackle_markov *markov,
                     const struct crackle_packed *slices, size_t count)
{
    struct choice choice = {.slices = slices, .count = count};
    for (size_t s = 0; s < count; s++) {
        if (slices[s].num_codes == 0)
            continue;
        choice.begun++;
        choice.codes += slices[s].num_codes;
        choice.first[slices[s].data[0] & 3]++;
        choice.shortest += (slices[s].num_codes + 8) / 8;
        choice.best += (slices[s].num_codes + 3) / 4;
    }
    choice.low[0] = choice.high[0] = choice.best;
    unsigned highest = highest_order(&choice), known = 0;
    if (highest > CRACKLE_FIRST_ORDER)
        highest = CRACKLE_FIRST_ORDER;
    while (highest > known) {
        int status = bound_orders(&choice, highest, known + 1);
        if (status)
            return status;
        known = highest;
        highest = highest_order(&choice);
    }

    unsigned candidates = 0;
    for (unsigned order = 0; order <= known; order++)
        candidates += choice.low[order] <= choice.best;
    uint64_t least = UINT64_MAX;
    for (unsigned order = 0; order <= known; order++) {
        if (choice.low[order] > choice.best)
            continue;
        struct crackle_markov next = {0, NULL, NULL, NULL};
        uint64_t bytes = choice.low[0];
        if (order) {
            int status = model_make(&next, slices, count, order);
            if (status) {
                crackle_markov_free(&next);
                return status;
            }
            bytes = crackle_model_bytes(order);
            for (size_t s = 0; s < count && candidates > 1; s++)
                bytes += measure_slice(&next, &slices[s]);
        }
        if (bytes < least) {
            least = bytes;
            crackle_markov_free(markov);
            *markov = next;
        } else {
            crackle_markov_free(&next);
        }
    }
    return CRACKLE_OK;
}

int crackle_markov_make(struct crackle_markov *markov,
                        const struct crackle_packed *slices, size_t count,
                        unsigned order)
{
    *markov = (struct crackle_markov){0, NULL, NULL, NULL};
    if (order == 0)
        return CRACKLE_OK;
    if (order == CRACKLE_MARKOV_AUTO)
        return best_make(markov, slices, count);
    return model_make(markov, slices, count, order);
}
