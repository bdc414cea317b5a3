/* From moves to crack bitmaps. Part of kernels.h. */

/*
 * Draw the moves into the byte map of cracks.
 *
 * 32 codepoints at a time, with no branch on what they are: the cracks of a
 * word's moves relative to its first vertex come from a table, four moves a
 * look-up; then its symbols are followed one by one, each setting the origin
 * of the moves behind it; then all 32 cracks are stored. Codepoints that
 * belong to symbols, and cracks off the map, go to two bytes behind the map,
 * so that no store leaves it whatever the stream says. A walk that leaves
 * the image draws an illegal crack with its first step outside, which
 * cracks_to_bits sees: that is what the spare column and row are for.
 */
CRACKLE_KERNEL uint64_t K(walk)(struct crackle_workspace *ws,
                                const struct crackle_moves *moves)
{
    const struct crackle_walk_tables *tables = &ws->walk;
    uint8_t *map = ws->cracks.data;
    const uint32_t off_map = 2 * tables->plane, nowhere = off_map + 1;
    const uint64_t *words = moves->words, *marks = moves->marks;
    uint32_t *stack = moves->stack;
    int64_t depth = (int64_t)moves->num_starts - 1;
    uint32_t position = stack[depth]; /* of the first codepoint's vertex */
    uint64_t num_words = (moves->num_codes + 31) / 32;
    uint64_t end = CRACKLE_WALK_ENDLESS;

    for (uint64_t w = 0; w < num_words; w++) {
        uint64_t d = words[w], s = marks[w];
        /* Both codepoints of a symbol, both bits of each. */
        uint64_t idle = s | s >> 2 | marks[w + 1] << 62;
        idle |= idle << 1;
        uint32_t mark[32], origin[72], at = 0;
        for (int i = 0; i < 8; i++) {
            unsigned b = d >> (8 * i) & 255;
            for (int j = 0; j < 4; j++)
                mark[4 * i + j] = tables->mark[b][j] + at;
            at += tables->net[b];
        }
        uint32_t base = position;
        for (int i = 0; i < 32; i++)
            origin[i] = base;
        while (s) {
            unsigned bit = crackle_ctz64(s), k = bit / 2;
            s &= s - 1;
            unsigned direction = d >> bit & 3;
            uint32_t here = mark[k] + tables->land[direction];
            /* up and left close, right and down branch */
            unsigned closes = (direction ^ direction >> 1 ^ 1) & 1;
            stack[depth] = here + base;
            uint32_t popped = stack[depth - 1];
            base = closes ? popped - here : base;
            depth += 1 - 2 * (int)closes;
            for (int i = 1; i <= 32; i++)
                origin[k + i] = base;
            if (CRACKLE_UNLIKELY(depth < 0)) {
                end = 32 * w + k;
                idle |= k == 31 ? 0 : ~(uint64_t)0 << (bit + 2);
                break;
            }
        }
        uint32_t index[32];
        for (int i = 0; i < 8; i++) {
            const uint32_t *pair = tables->pair[idle >> (8 * i) & 255];
            for (int j = 0; j < 4; j++) {
                uint32_t a = mark[4 * i + j] + origin[4 * i + j];
                a = a < off_map ? a : off_map;
                index[4 * i + j] = pair[j] ? nowhere : a;
            }
        }
        for (int i = 0; i < 32; i++)
            map[index[i]] = 0xFF;
        if (end != CRACKLE_WALK_ENDLESS)
            break;
        position = base + at;
    }
    return end;
}

/* One bit for each of 64 bytes that are 0x00 or 0xFF, and zero them. */
CRACKLE_HELPER uint64_t K(take_64)(uint8_t *p)
{
#if CRACKLE_LEVEL >= 2
    __m256i a = _mm256_loadu_si256((const __m256i *)p);
    __m256i b = _mm256_loadu_si256((const __m256i *)(p + 32));
    return (uint64_t)(uint32_t)_mm256_movemask_epi8(b) << 32 |
           (uint32_t)_mm256_movemask_epi8(a);
#elif CRACKLE_X86
    uint64_t bits = 0;
    for (int i = 0; i < 4; i++) {
        __m128i a = _mm_loadu_si128((const __m128i *)(p + 16 * i));
        bits |= (uint64_t)(uint32_t)_mm_movemask_epi8(a) << (16 * i);
    }
    return bits;
#else
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++) {
        uint64_t v = crackle_load64(p + 8 * i) & 0x0101010101010101u;
        bits |= (v * 0x0102040810204080u >> 56) << (8 * i);
    }
    return bits;
#endif
}

CRACKLE_KERNEL bool K(cracks_to_bits)(struct crackle_workspace *ws)
{
    const struct crackle_slice *slice = &ws->slice;
    const uint32_t sx = slice->sx, sy = slice->sy, words = slice->words;
    const size_t pitch = (size_t)sx + 1, plane = ws->walk.plane;
    const uint64_t last = K(last_mask)(sx);
    const uint32_t tail = (sx - 1) % 64 + 1;
    uint8_t *map = ws->cracks.data;
    uint64_t illegal = map[2 * plane];

    for (uint32_t y = 0; y < sy; y++) {
        uint8_t *left = map + y * pitch, *above = left + plane;
        uint64_t *l = slice->left + (size_t)y * words;
        uint64_t *a = slice->above + (size_t)y * words;
        illegal |= left[0] | left[sx] | above[sx];
        for (uint32_t w = 0; w < words; w++) {
            l[w] = K(take_64)(left + 64 * w);
            a[w] = K(take_64)(above + 64 * w);
            size_t n = w + 1 < words ? 64 : tail;
            if (n == 64) {
                memset(left + 64 * w, 0, 64);
                memset(above + 64 * w, 0, 64);
            } else {
                memset(left + 64 * w, 0, n);
                memset(above + 64 * w, 0, n);
            }
        }
        l[words - 1] &= last;
        a[words - 1] &= last;
    }
    for (uint32_t w = 0; w < words; w++)
        illegal |= slice->above[w];
    const uint8_t *below = map + sy * pitch;
    for (size_t x = 0; x < pitch; x++)
        illegal |= below[x] | below[plane + x];
    if (illegal)
        memset(map, 0, 2 * plane + 2);
    return !illegal;
}
