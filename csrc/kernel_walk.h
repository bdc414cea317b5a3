/* From moves to crack bitmaps. Part of kernels.h. */

/* The bits at even places of 'v', close together. */
CRACKLE_HELPER uint32_t K(even_bits)(uint64_t v)
{
#if CRACKLE_LEVEL >= 2
    return (uint32_t)_pext_u64(v, 0x5555555555555555u);
#else
    v &= 0x5555555555555555u;
    v = (v | v >> 1) & 0x3333333333333333u;
    v = (v | v >> 2) & 0x0F0F0F0F0F0F0F0Fu;
    v = (v | v >> 4) & 0x00FF00FF00FF00FFu;
    v = (v | v >> 8) & 0x0000FFFF0000FFFFu;
    return (uint32_t)(v | v >> 16);
#endif
}

/* Where the cracks of the 4 moves in 'b' are, from the vertex '*at' on. */
CRACKLE_HELPER void K(mark_4)(const struct crackle_walk_tables *tables,
                              unsigned b, uint32_t *at, uint32_t *mark)
{
#if CRACKLE_LEVEL >= 1
    __m128i v = _mm_loadu_si128((const __m128i *)tables->mark[b]);
    v = _mm_add_epi32(v, _mm_set1_epi32((int)*at));
    _mm_storeu_si128((__m128i *)mark, v);
#else
    for (int j = 0; j < 4; j++)
        mark[j] = tables->mark[b][j] + *at;
#endif
    *at += tables->net[b];
}

/* Where the cracks of 8 moves are drawn: 'mark' says it relative to an
 * origin, which is the next of 'origins' behind each of the symbols that bits
 * of 'symbols' complete. 'pair' is the byte pair of what is idle. */
CRACKLE_HELPER void K(draw_8)(const struct crackle_walk_tables *tables,
                              const uint32_t *mark, const uint32_t *origins,
                              unsigned symbols, unsigned idle,
                              uint32_t off_map, uint8_t *map)
{
    uint32_t index[8];
    uint64_t lanes = crackle_lanes[symbols << 1 & 255];
#if CRACKLE_LEVEL >= 2
    __m256i lane = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)lanes));
    __m256i at = _mm256_permutevar8x32_epi32(
        _mm256_loadu_si256((const __m256i *)origins), lane);
    at = _mm256_add_epi32(at, _mm256_loadu_si256((const __m256i *)mark));
    at = _mm256_min_epu32(at, _mm256_set1_epi32((int)off_map));
    __m256i pairs = _mm256_inserti128_si256(
        _mm256_castsi128_si256(
            _mm_loadu_si128((const __m128i *)tables->pair[idle & 255])),
        _mm_loadu_si128((const __m128i *)tables->pair[idle >> 8 & 255]), 1);
    at = _mm256_blendv_epi8(at, _mm256_set1_epi32((int)(off_map + 1)), pairs);
    _mm256_storeu_si256((__m256i *)index, at);
    CRACKLE_ONE_BY_ONE;
#else
    const uint32_t *pair[2] = {tables->pair[idle & 255],
                               tables->pair[idle >> 8 & 255]};
    for (int i = 0; i < 8; i++) {
        uint32_t at = mark[i] + origins[lanes >> (8 * i) & 255];
        at = at < off_map ? at : off_map;
        index[i] = pair[i / 4][i % 4] ? off_map + 1 : at;
    }
#endif
    for (int i = 0; i < 8; i++)
        map[index[i]] = 0xFF;
}

/* Words of 32 codepoints that are drawn at a time. */
#define CRACKLE_WALK_WORDS 32

/*
 * Draw the moves into the byte map of cracks.
 *
 * A block of codepoints at a time, in passes that have no branch on what the
 * moves are: where each one's crack is, had there been no symbols, from a
 * table, four moves a look-up; a list of the symbols; following them one by
 * one, which gives the origin of the moves behind each; and drawing.
 * Codepoints that belong to symbols, and cracks off the map, go to two bytes
 * behind the map, so that no store leaves it whatever the stream says. A
 * walk that leaves the image draws an illegal crack with its first step
 * outside, which cracks_to_bits sees: that is what the spare column and row
 * are for.
 */
CRACKLE_KERNEL uint64_t K(walk)(struct crackle_workspace *ws,
                                const struct crackle_moves *moves)
{
    enum { CODES = 32 * CRACKLE_WALK_WORDS };
    const struct crackle_walk_tables *tables = &ws->walk;
    uint8_t *map = ws->cracks.data;
    const uint32_t off_map = 2 * tables->plane;
    uint32_t *stack = moves->stack;
    int64_t depth = (int64_t)moves->num_starts - 1;
    uint64_t num_words = (moves->num_codes + 31) / 32;
    uint64_t end = CRACKLE_WALK_ENDLESS;
    uint32_t mark[CODES];
    uint32_t symbol[CODES / 2 + 8]; /* twice the codepoint in the block */
    uint32_t origin[CODES / 2 + 8];
    uint32_t at = 0, base = stack[depth], top = stack[depth - 1];

    for (uint64_t begin = 0; begin < num_words; begin += CRACKLE_WALK_WORDS) {
        const uint64_t *words = moves->words + begin;
        const uint64_t *marks = moves->marks + begin;
        uint32_t count = num_words - begin < CRACKLE_WALK_WORDS
                             ? (uint32_t)(num_words - begin)
                             : CRACKLE_WALK_WORDS;
        uint32_t num_symbols = 0;
        for (size_t w = 0; w < count; w++) {
            uint64_t d = words[w], s = marks[w];
            for (size_t i = 0; i < 8; i++)
                K(mark_4)(tables, d >> (8 * i) & 255, &at,
                          mark + 32 * w + 4 * i);
            uint32_t *list = symbol + num_symbols;
            num_symbols += crackle_popcount64(s);
            do {
                for (int i = 0; i < 8; i++) {
                    *list++ = 64 * (uint32_t)w +
                              crackle_ctz64(s | (uint64_t)1 << 63);
                    s &= s - 1;
                    CRACKLE_ONE_BY_ONE;
                }
            } while (CRACKLE_UNLIKELY(s));
        }

        uint32_t last = count;
        uint64_t last_idle = 0;
        origin[0] = base;
        for (uint32_t i = 0; i < num_symbols; i++) {
            unsigned k = symbol[i] / 2;
            unsigned direction = words[k / 32] >> symbol[i] % 64 & 3;
            uint32_t here = mark[k] + tables->land[direction];
            /* up and left close, right and down branch */
            uint32_t closes = 0u - ((direction ^ direction >> 1 ^ 1) & 1);
            stack[depth - 1] = top;
            uint32_t below = stack[depth - 2], vertex = here + base;
            base ^= (base ^ (top - here)) & closes;
            top = vertex ^ ((vertex ^ below) & closes);
            depth += 1 + 2 * (int64_t)(int32_t)closes;
            origin[i + 1] = base;
            if (CRACKLE_UNLIKELY(depth < 0)) {
                end = 32 * begin + k;
                last = k / 32 + 1;
                /* All codepoints behind k; two shifts, as there may be
                 * none. */
                last_idle = ~(uint64_t)0 << 2 * (k % 32) << 2;
                break;
            }
        }

        const uint32_t *origins = origin;
        for (size_t w = 0; w < last; w++) {
            /* Both codepoints of a symbol, both bits of each. */
            uint64_t s = marks[w], idle = s | s >> 2 | marks[w + 1] << 62;
            idle |= idle << 1;
            if (CRACKLE_UNLIKELY(w + 1 == last))
                idle |= last_idle;
            uint32_t symbols = K(even_bits)(s);
            for (size_t i = 0; i < 4; i++) {
                unsigned eight = symbols >> (8 * i) & 255;
                K(draw_8)(tables, mark + 32 * w + 8 * i, origins, eight,
                          idle >> (16 * i) & 0xFFFF, off_map, map);
                origins += crackle_popcount64(eight);
            }
        }
        if (end != CRACKLE_WALK_ENDLESS)
            break;
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
    for (size_t i = 0; i < 4; i++) {
        __m128i a = _mm_loadu_si128((const __m128i *)(p + 16 * i));
        bits |= (uint64_t)(uint32_t)_mm_movemask_epi8(a) << (16 * i);
    }
    return bits;
#else
    uint64_t bits = 0;
    for (size_t i = 0; i < 8; i++) {
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
        for (size_t w = 0; w < words; w++) {
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
