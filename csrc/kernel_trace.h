/* From crack bitmaps to chains of moves. Part of kernels.h. */

/* A byte for each of 8 bits: 1 or 0. */
CRACKLE_HELPER uint64_t K(spread)(uint64_t bits)
{
    uint64_t v = (bits & 255) * 0x0101010101010101u & 0x8040201008040201u;
    return (v + 0x7F7F7F7F7F7F7F7Fu) >> 7 & 0x0101010101010101u;
}

/* The sides that meet at 64 vertices: right 1, left 2, down 4, up 8. */
CRACKLE_HELPER void K(adjacency_64)(uint8_t *out, uint64_t right,
                                    uint64_t left, uint64_t down, uint64_t up)
{
#if CRACKLE_LEVEL >= 2
    const __m256i which = _mm256_set1_epi64x((long long)0x8040201008040201u);
    const __m256i byte = _mm256_setr_epi8(
        0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2,
        2, 3, 3, 3, 3, 3, 3, 3, 3);
    const uint64_t planes[4] = {right, left, down, up};
    for (int half = 0; half < 2; half++) {
        __m256i sum = _mm256_setzero_si256();
        for (int i = 0; i < 4; i++) {
            __m256i v = _mm256_set1_epi32((int)(planes[i] >> (32 * half)));
            v = _mm256_and_si256(_mm256_shuffle_epi8(v, byte), which);
            v = _mm256_cmpeq_epi8(v, which);
            sum = _mm256_or_si256(
                sum, _mm256_and_si256(v, _mm256_set1_epi8((char)(1 << i))));
        }
        _mm256_storeu_si256((__m256i *)(out + 32 * half), sum);
    }
#else
    for (int i = 0; i < 64; i += 8)
        crackle_store64(out + i, K(spread)(right >> i) |
                                     K(spread)(left >> i) << 1 |
                                     K(spread)(down >> i) << 2 |
                                     K(spread)(up >> i) << 3);
#endif
}

/* Fill ws->adjacency, sx + 1 bytes a row of vertices, 64 spare ones behind,
 * from the slice's bitmaps. */
CRACKLE_HELPER void K(adjacency)(struct crackle_workspace *ws)
{
    const struct crackle_slice *slice = &ws->slice;
    const uint32_t sx = slice->sx, sy = slice->sy, words = slice->words;
    uint8_t *out = ws->adjacency.data;
    for (uint32_t y = 0; y <= sy; y++) {
        const uint64_t *above = slice->above + (size_t)y * words;
        const uint64_t *left = slice->left + (size_t)y * words;
        uint64_t before = 0;
        for (uint32_t w = 0; w <= sx / 64; w++) {
            bool in = w < words;
            uint64_t h = in && y < sy ? above[w] : 0;
            uint64_t v = in && y < sy ? left[w] : 0;
            uint64_t up = in && y > 0 ? left[(int64_t)w - words] : 0;
            K(adjacency_64)(out + 64 * w, h, h << 1 | before, v, up);
            before = h >> 63;
        }
        out += (size_t)sx + 1;
    }
}

/* A branch symbol and its arm, from 'begin' to 'end': the arm backwards. */
CRACKLE_HELPER void K(turn_around)(uint8_t *begin, uint8_t *end)
{
    uint8_t *a = begin + 2, *b = end - 1;
    for (; a < b; a++, b--) {
        uint8_t c = *a;
        *a = *b ^ 2;
        *b = c ^ 2;
    }
    if (a == b)
        *a ^= 2;
    memmove(begin, begin + 2, (size_t)(end - begin - 2));
}

/*
 * Trace all cracks of the slice's bitmaps to chains, as the reference does:
 * from the first vertex in raster order that has a side left, along the
 * first side in the order right, left, down, up; a branch symbol where there
 * are more; at a dead end a terminate symbol and back to the last branch.
 * A branch that has no side left when its turn comes is taken back. A branch
 * that opens a chain, and whose arm ends before any other branch, is undone
 * by starting at that arm's far end.
 */
CRACKLE_KERNEL int K(trace)(struct crackle_workspace *ws,
                            struct crackle_trace *trace)
{
    const struct crackle_slice *slice = &ws->slice;
    const uint32_t pitch = slice->sx + 1;
    const size_t vertices = (size_t)pitch * (slice->sy + 1);
    const size_t num_words = (size_t)slice->sy * slice->words;
    uint64_t cracks = 0;
    for (size_t i = 0; i < num_words; i++)
        cracks += crackle_popcount64(slice->left[i]) +
                  crackle_popcount64(slice->above[i]);
    /* A crack is one move; it may be the first behind a branch symbol (2
     * codepoints), or behind a terminate symbol or a chain's start (2). */
    if (cracks * 5 + 64 > UINT32_MAX)
        return CRACKLE_UNSUPPORTED;
    uint8_t *adjacency = crackle_reserve(&ws->adjacency, vertices + 128);
    uint8_t *codes = crackle_reserve(&ws->trace, cracks * 5 + 64);
    struct crackle_branch *stack = crackle_reserve(&ws->stack, 1024);
    if (!adjacency || !codes || !stack)
        return CRACKLE_NO_MEMORY;
    K(adjacency)(ws);
    memset(adjacency + vertices, 0xFF, 8); /* ends the search */
    /* by bit of the side: right, left, down, up */
    const uint32_t step[9] = {0, 1, 0u - 1, 0, pitch, 0, 0, 0, 0u - pitch};
    static const uint8_t code[9] = {0, 1, 3, 0, 2, 0, 0, 0, 0};
    static const uint8_t facing[9] = {0, 2, 1, 0, 8, 0, 0, 0, 4};

    size_t stack_room = ws->stack.size / sizeof *stack;
    size_t chain_room = ws->chains.size / sizeof(struct crackle_chain);
    struct crackle_chain *chains = ws->chains.data;
    uint32_t num_chains = 0;
    uint8_t *out = codes;
    size_t search = 0;

    while (cracks) {
        uint64_t eight;
        while (!(eight = crackle_load64(adjacency + search)))
            search += 8;
        search += crackle_ctz64(eight) / 8;
        uint32_t start = (uint32_t)search, vertex = start;
        uint8_t *begin = out;
        size_t depth = 0;
        bool leading = false; /* the chain's first branch is still alone */
        for (;;) {
            unsigned sides = adjacency[vertex];
            if (!sides) {
                uint32_t far = vertex;
                bool around = false;
                while (depth) {
                    depth--;
                    vertex = stack[depth].vertex;
                    sides = adjacency[vertex];
                    around = leading && depth == 0;
                    if (sides || around)
                        break;
                    memset(codes + stack[depth].at, CRACKLE_DELETED, 2);
                }
                if (around) {
                    K(turn_around)(begin, out);
                    out -= 2;
                    start = far;
                }
                if (!sides)
                    break;
                if (!around) {
                    bool up = out[-1] == 0;
                    out[0] = up ? 1 : 2;
                    out[1] = up ? 3 : 0;
                    out += 2;
                }
                leading = false;
            }
            unsigned side = sides & (0u - sides), rest = sides ^ side;
            adjacency[vertex] = (uint8_t)rest;
            if (rest) {
                if (CRACKLE_UNLIKELY(depth == stack_room)) {
                    stack = crackle_reserve_keep(
                        &ws->stack, (depth + 1) * 2 * sizeof *stack);
                    if (!stack)
                        return CRACKLE_NO_MEMORY;
                    stack_room = ws->stack.size / sizeof *stack;
                }
                stack[depth].vertex = vertex;
                stack[depth++].at = (uint32_t)(out - codes);
                bool opens = out == begin;
                leading = opens;
                bool down = opens || out[-1] == 2;
                out[0] = down ? 3 : 0;
                out[1] = down ? 1 : 2;
                out += 2;
            }
            *out++ = code[side];
            vertex += step[side];
            adjacency[vertex] &= (uint8_t)~facing[side];
            cracks--;
        }
        bool up = out[-1] == 0;
        out[0] = up ? 1 : 2;
        out[1] = up ? 3 : 0;
        out += 2;
        if (CRACKLE_UNLIKELY(num_chains == chain_room)) {
            chains = crackle_reserve_keep(
                &ws->chains, ((size_t)num_chains + 64) * 2 * sizeof *chains);
            if (!chains)
                return CRACKLE_NO_MEMORY;
            chain_room = ws->chains.size / sizeof *chains;
        }
        chains[num_chains].start = start;
        chains[num_chains].begin = (uint32_t)(begin - codes);
        chains[num_chains++].end = (uint32_t)(out - codes);
    }
    trace->codes = codes;
    trace->chains = chains;
    trace->num_chains = num_chains;
    return CRACKLE_OK;
}
