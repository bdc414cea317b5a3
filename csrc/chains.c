/* From traced chains to the bytes of a crack code. */
#include "internal.h"

/* Copy codepoints, leaving out the deleted: the end of the copy. 'to' may be
 * 'from' or lie before it, and has room for one more. */
static uint8_t *copy_kept(uint8_t *to, const uint8_t *from, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint64_t eight;
        if (i + 8 <= n) {
            memcpy(&eight, from + i, 8);
            if (!(eight & 0x8080808080808080u)) {
                memcpy(to, &eight, 8);
                to += 8;
                i += 8;
                continue;
            }
        }
        for (size_t end = i + 8 < n ? i + 8 : n; i < end; i++) {
            *to = from[i];
            to += from[i] != CRACKLE_DELETED;
        }
    }
    return to;
}

/* Difference-code 'n' directions, one a byte with 32 readable ones behind,
 * and pack them four a byte; 'out' has room for 8 bytes more. */
static void pack(const uint8_t *codes, uint64_t n, uint8_t *out)
{
    const uint64_t low = 0x5555555555555555u;
    uint64_t last = 0;
    for (uint64_t i = 0; i < n; i += 32) {
        uint64_t c = 0;
        for (size_t k = 0; k < 4; k++) {
            uint64_t v = crackle_load64(codes + i + 8 * k);
            v &= 0x0303030303030303u;
            v |= v >> 6;
            v |= v >> 12;
            v = (v & 255) | (v >> 24 & 0xFF00);
            c |= v << (16 * k);
        }
        /* c - p in each lane of 2 bits, mod 4 */
        uint64_t p = c << 2 | last, l = c ^ p;
        uint64_t borrow = ~c & p & low;
        uint64_t d = (l & low) | ((l ^ borrow << 1) & ~low);
        if (n - i < 32)
            d &= ((uint64_t)1 << 2 * (n - i)) - 1;
        crackle_store64(out + i / 4, d);
        last = c >> 62;
    }
}

int crackle_chains_pack(struct crackle_workspace *ws,
                        struct crackle_trace *trace,
                        struct crackle_buffer *code, size_t *size,
                        uint32_t *index_bytes, uint64_t *num_codes)
{
    const uint32_t pitch = ws->slice.sx + 1, n = trace->num_chains;
    const unsigned yw = crackle_width((uint64_t)ws->slice.sy + 1);
    const unsigned xw = crackle_width((uint64_t)ws->slice.sx + 1);
    const struct crackle_chain *chains = trace->chains.data;

    /* Chains stand by ascending start; only one that was turned around can
     * be out of place. */
    bool sorted = true;
    for (uint32_t i = 1; i < n; i++)
        sorted &= chains[i - 1].start <= chains[i].start;
    size_t all = n ? chains[n - 1].end : 0;
    uint8_t *codes = trace->codes.data, *kept_end;
    struct crackle_item *items =
        crackle_reserve(&ws->sort, 2 * (size_t)n * sizeof *items + 8);
    if (!items)
        return CRACKLE_NO_MEMORY;
    for (uint32_t i = 0; i < n; i++) {
        items[i].key = chains[i].start;
        items[i].value = i;
    }
    if (sorted) {
        kept_end = copy_kept(codes, codes, all);
    } else {
        crackle_sort(items, items + n, n);
        uint8_t *ordered = crackle_reserve(&trace->adjacency, all + 64);
        if (!ordered)
            return CRACKLE_NO_MEMORY;
        kept_end = ordered;
        for (uint32_t i = 0; i < n; i++) {
            const struct crackle_chain *c = &chains[items[i].value];
            kept_end = copy_kept(kept_end, codes + c->begin,
                                 c->end - c->begin);
        }
        codes = ordered;
    }
    *num_codes = (uint64_t)(kept_end - codes);

    const size_t room = *size + 4 + yw + (size_t)n * (yw + 2 * xw) +
                        (size_t)(*num_codes / 4) + 16;
    uint8_t *begin = crackle_reserve_keep(code, room);
    if (!begin)
        return CRACKLE_NO_MEMORY;
    begin += *size;
    uint8_t *p = begin + 4, *rows_at = p;
    p += yw;
    uint32_t rows = 0, row_before = 0;
    for (uint32_t i = 0; i < n;) {
        /* sx is below 2^30: NOLINTNEXTLINE(clang-analyzer-core.DivideZero) */
        uint32_t y = (uint32_t)(items[i].key / pitch), x_before = 0, count = 0;
        uint64_t row_end = ((uint64_t)y + 1) * pitch;
        p = crackle_store(p, y - row_before, yw);
        uint8_t *count_at = p;
        p += xw;
        for (; i < n && items[i].key < row_end; i++, count++) {
            uint32_t x = (uint32_t)(items[i].key % pitch);
            p = crackle_store(p, x - x_before, xw);
            x_before = x;
        }
        crackle_store(count_at, count, xw);
        row_before = y;
        rows++;
    }
    crackle_store(rows_at, rows, yw);
    crackle_store(begin, (uint64_t)(p - begin - 4), 4);
    *index_bytes = (uint32_t)(p - begin);
    pack(codes, *num_codes, p);
    *size += *index_bytes + (size_t)((*num_codes + 3) / 4);
    return CRACKLE_OK;
}
