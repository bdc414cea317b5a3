/* Writing codepoints through a Markov model. moves.c reads them. */
#include "internal.h"

#include <stdlib.h>

/* Up to this order statistics are counted in a table; above it the contexts
 * that occur are sorted, as there may be a thousand million others. */
#define CRACKLE_TABLE_ORDER 10

/* Which permutation k puts codepoints of these counts in descending order;
 * of equal counts the higher codepoint comes first. */
static unsigned rank_order(const uint32_t counts[4])
{
    unsigned p[4] = {3, 2, 1, 0};
    for (int i = 1; i < 4; i++)
        for (int j = i; j > 0 && counts[p[j]] > counts[p[j - 1]]; j--) {
            unsigned swap = p[j];
            p[j] = p[j - 1];
            p[j - 1] = swap;
        }
    uint8_t packed =
        (uint8_t)(p[0] | p[1] << 2 | p[2] << 4 | p[3] << 6);
    unsigned k = 0;
    while (crackle_permutations[k] != packed)
        k++;
    return k;
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

static unsigned code_at(const uint8_t *packed, uint64_t i)
{
    return packed[i / 4] >> (i % 4 * 2) & 3;
}

/* Every codepoint of 'slices' with the context before it, as
 * context << 2 | codepoint, to BODY. */
#define CRACKLE_FOR_CONTEXTS(slice, order, name, BODY)                        \
    {                                                                         \
        uint64_t name##_context = 0;                                          \
        for (uint64_t i = 0; i < (slice)->num_codes; i++) {                   \
            uint64_t code = code_at((slice)->data, i);                        \
            uint64_t name = name##_context << 2 | code;                       \
            BODY;                                                             \
            name##_context =                                                  \
                name##_context >> 2 | code << (2 * (order)-2);                \
        }                                                                     \
    }

int crackle_markov_model(const struct crackle_packed *slices, size_t count,
                         unsigned order, uint8_t *model)
{
    const size_t contexts = (size_t)1 << 2 * order;
    if (order <= CRACKLE_TABLE_ORDER) {
        uint32_t *counts = calloc(contexts * 4, sizeof *counts);
        if (!counts)
            return CRACKLE_NO_MEMORY;
        for (size_t s = 0; s < count; s++)
            CRACKLE_FOR_CONTEXTS(&slices[s], order, seen, counts[seen]++)
        memset(model, 0, (size_t)crackle_model_bytes(order));
        for (size_t c = 0; c < contexts; c++)
            model_set(model, c, rank_order(counts + 4 * c));
        free(counts);
        return CRACKLE_OK;
    }

    /* Contexts that never occur: 8 rank orders of no counts in 5 bytes. */
    const uint32_t none[4] = {0, 0, 0, 0};
    uint8_t eight[5] = {0, 0, 0, 0, 0};
    for (size_t c = 0; c < 8; c++)
        model_set(eight, c, rank_order(none));
    for (size_t c = 0; c < contexts; c += 8)
        memcpy(model + c / 8 * 5, eight, 5);

    uint64_t total = 0;
    for (size_t s = 0; s < count; s++)
        total += slices[s].num_codes;
    struct crackle_item *items = malloc(2 * total * sizeof *items + 1);
    if (!items)
        return CRACKLE_NO_MEMORY;
    size_t n = 0;
    for (size_t s = 0; s < count; s++)
        CRACKLE_FOR_CONTEXTS(&slices[s], order, seen, items[n].value = 0;
                             items[n++].key = seen)
    crackle_sort(items, items + n, n);
    for (size_t i = 0; i < n;) {
        uint64_t context = items[i].key >> 2;
        uint32_t counts[4] = {0, 0, 0, 0};
        for (; i < n && items[i].key >> 2 == context; i++)
            counts[items[i].key & 3]++;
        model_set(model, (size_t)context, rank_order(counts));
    }
    free(items);
    return CRACKLE_OK;
}

uint64_t crackle_markov_write(const struct crackle_packed *slice,
                              unsigned order, const uint8_t *model,
                              uint8_t *out)
{
    uint64_t bits = 0, written = 0;
    unsigned have = 0;
    CRACKLE_FOR_CONTEXTS(slice, order, seen, {
        unsigned used = 2;
        unsigned symbol = (unsigned)code;
        if (i > 0) {
            uint8_t ranks =
                crackle_permutations[model_get(model, (size_t)(seen >> 2))];
            unsigned rank = 0;
            while ((ranks >> (2 * rank) & 3u) != code)
                rank++;
            used = rank < 3 ? rank + 1 : 3;
            symbol = (1u << rank) - 1;
        }
        if (out) {
            bits |= (uint64_t)symbol << have;
            have += used;
            for (; have >= 8; have -= 8, bits >>= 8)
                *out++ = (uint8_t)bits;
        }
        written += used;
    })
    if (have)
        *out = (uint8_t)bits;
    return (written + 7) / 8;
}
