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
    /* clang-format off */
    const __m256i byte = _mm256_setr_epi8(
        0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1,
        2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    /* clang-format on */
    const uint64_t planes[4] = {right, left, down, up};
    for (size_t half = 0; half < 2; half++) {
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
#elif CRACKLE_LEVEL == 1
    const __m128i which = _mm_set1_epi64x((long long)0x8040201008040201u);
    /* clang-format off */
    const __m128i byte = _mm_setr_epi8(
        0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    /* clang-format on */
    const uint64_t planes[4] = {right, left, down, up};
    for (size_t part = 0; part < 4; part++) {
        __m128i sum = _mm_setzero_si128();
        for (int i = 0; i < 4; i++) {
            __m128i v = _mm_cvtsi32_si128((int)(planes[i] >> (16 * part)));
            v = _mm_and_si128(_mm_shuffle_epi8(v, byte), which);
            v = _mm_cmpeq_epi8(v, which);
            sum = _mm_or_si128(
                sum, _mm_and_si128(v, _mm_set1_epi8((char)(1 << i))));
        }
        _mm_storeu_si128((__m128i *)(out + 16 * part), sum);
    }
#else
    for (int i = 0; i < 64; i += 8)
        crackle_store64(
            out + i, K(spread)(right >> i) | K(spread)(left >> i) << 1 |
                         K(spread)(down >> i) << 2 | K(spread)(up >> i) << 3);
#endif
}

/* Make ready to trace ws->slice: reserve, and fill 'trace'->adjacency, sx + 1
 * bytes a row of vertices. */
CRACKLE_KERNEL int K(trace_begin)(struct crackle_workspace *ws,
                                  struct crackle_trace *trace)
{
    const struct crackle_slice *slice = &ws->slice;
    const uint32_t sx = slice->sx, sy = slice->sy, words = slice->words;
    const size_t vertices = ((size_t)sx + 1) * ((size_t)sy + 1);
    size_t cracks = 0;
    for (size_t i = 0; i < (size_t)sy * words; i++)
        cracks += crackle_popcount64(slice->left[i]) +
                  crackle_popcount64(slice->above[i]);
    /* A crack is one move; it may be the first behind a branch symbol (2
     * codepoints), or behind a terminate symbol or a chain's start (2). */
    if (cracks > (UINT32_MAX - 64) / 5)
        return CRACKLE_UNSUPPORTED;
    uint8_t *out = crackle_reserve(&trace->adjacency, vertices + 128);
    if (!out || !crackle_reserve(&trace->codes, cracks * 5 + 64) ||
        !crackle_reserve(&trace->stack,
                         (cracks + 1) * sizeof(struct crackle_branch)))
        return CRACKLE_NO_MEMORY;
    trace->vertices = (uint32_t)vertices;
    trace->num_chains = 0;
    for (uint32_t y = 0; y <= sy; y++) {
        const uint64_t *above = slice->above + (size_t)y * words;
        const uint64_t *left = slice->left + (size_t)y * words;
        uint64_t before = 0;
        for (uint32_t w = 0; w < words; w++) {
            uint64_t h = y < sy ? above[w] : 0;
            uint64_t v = y < sy ? left[w] : 0;
            uint64_t up = y > 0 ? left[(int64_t)w - words] : 0;
            K(adjacency_64)(out + (size_t)64 * w, h, h << 1 | before, v, up);
            before = h >> 63;
        }
        if (sx % 64 == 0) /* the last vertex has a word of its own */
            out[sx] = (uint8_t)(before << 1);
        out += (size_t)sx + 1;
    }
    memset(out, 0xFF, 8); /* ends the search for a chain's start */
    return CRACKLE_OK;
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

/* Where tracing a slice stands: as little as a move needs, so that two
 * slices' fit the registers. */
struct K(tracer) {
    uint8_t *vertex;            /* in the adjacency */
    uint8_t *out;               /* behind the codepoints so far */
    struct crackle_branch *top; /* behind the open branches */
    uint32_t sides;             /* left at the vertex */
    uint16_t symbol;            /* that a branch here takes */
};
/* What only the ends of arms need. */
struct K(trace_ends) {
    struct crackle_trace *trace;
    uint8_t *adjacency, *codes;
    struct crackle_branch *stack;
    uint8_t *search, *start, *begin; /* of the chain; 'begin' NULL: none */
    bool first;                      /* no arm of the chain has ended */
};

/* What is done at a vertex, by the sides that are left there: right 1, left
 * 2, down 4, up 8, the lowest first. */
struct K(move) {
    int32_t step;
    uint16_t symbol;      /* of a branch behind this move */
    uint8_t code, facing; /* facing: all sides but the one we come from */
};
/* Branch symbols as two bytes: left, right behind a move down and where a
 * chain opens; up, down elsewhere. */
#define CRACKLE_BYTES(a, b)                                                   \
    (CRACKLE_BIG_ENDIAN ? (uint16_t)((a) << 8 | (b))                          \
                        : (uint16_t)((b) << 8 | (a)))
#define CRACKLE_BRANCH_DOWN CRACKLE_BYTES(3, 1)
#define CRACKLE_BRANCH CRACKLE_BYTES(0, 2)

/* End the arm that led to a vertex without a side left: back to the last
 * branch, or to the next chain's start. False if there is none. */
static CRACKLE_TARGET bool K(end_arm)(struct K(tracer) *t,
                                      struct K(trace_ends) *ends, int *status)
{
    struct crackle_trace *trace = ends->trace;
    uint8_t *const far = t->vertex, *const codes = ends->codes;
    unsigned sides = 0;
    bool around = false;
    if (ends->begin) {
        const bool alone = ends->first && t->top == ends->stack + 1 &&
                           codes + ends->stack[0].at == ends->begin;
        while (t->top != ends->stack) {
            t->top--;
            t->vertex = ends->adjacency + t->top->vertex;
            sides = *t->vertex;
            around = alone;
            if (sides || around)
                break;
            memset(codes + t->top->at, CRACKLE_DELETED, 2);
        }
        ends->first = false;
        t->sides = sides;
        if (around) {
            K(turn_around)(ends->begin, t->out);
            t->out -= 2;
            ends->start = far;
        }
        const uint8_t last = t->out[-1];
        t->symbol = CRACKLE_BRANCH;
        if (around && sides) {
            if (last == 2)
                t->symbol = CRACKLE_BRANCH_DOWN;
            return true;
        }
        t->out[0] = last == 0 ? 1 : 2;
        t->out[1] = last == 0 ? 3 : 0;
        t->out += 2;
        if (sides)
            return true;
        struct crackle_chain *chains = crackle_reserve_keep(
            &trace->chains, ((size_t)trace->num_chains + 1) * sizeof *chains);
        if (!chains) {
            *status = CRACKLE_NO_MEMORY;
            return false;
        }
        chains += trace->num_chains++;
        chains->start = (uint32_t)(ends->start - ends->adjacency);
        chains->begin = (uint32_t)(ends->begin - codes);
        chains->end = (uint32_t)(t->out - codes);
    }
    uint64_t eight;
    while (!(eight = crackle_load64(ends->search)))
        ends->search += 8;
    ends->search += crackle_ctz64(eight) / 8;
    if (ends->search >= ends->adjacency + trace->vertices)
        return false;
    ends->start = t->vertex = ends->search;
    ends->begin = t->out;
    ends->first = true;
    t->sides = *t->vertex;
    t->symbol = CRACKLE_BRANCH_DOWN;
    return true;
}

/* One move along the lowest side of a vertex that has sides left; a branch
 * symbol before it where there are more, without a branch instruction. */
CRACKLE_HELPER void K(trace_move)(struct K(tracer) *t,
                                  const struct K(trace_ends) *ends,
                                  const struct K(move) *moves)
{
    const struct K(move) *move = &moves[t->sides];
    const unsigned rest = t->sides & (t->sides - 1);
    const size_t branches = rest != 0;
    *t->vertex = (uint8_t)rest;
    t->top->vertex = (uint32_t)(t->vertex - ends->adjacency);
    CRACKLE_ONE_BY_ONE;
    t->top->at = (uint32_t)(t->out - ends->codes);
    memcpy(t->out, &t->symbol, 2);
    t->top += branches;
    t->out += 2 * branches;
    *t->out++ = move->code;
    t->symbol = move->symbol;
    t->vertex += move->step;
    t->sides = *t->vertex & move->facing;
    *t->vertex = (uint8_t)t->sides;
}

/* Move on until a vertex has a side left. False at the slice's end. */
CRACKLE_HELPER bool K(trace_on)(struct K(tracer) *t,
                                struct K(trace_ends) *ends, int *status)
{
    if (CRACKLE_LIKELY(t->sides))
        return true;
    /* A copy, so that 't' itself can stay in registers. */
    struct K(tracer) copy = *t;
    bool more = K(end_arm)(&copy, ends, status);
    *t = copy;
    return more;
}

/*
 * Trace all cracks to chains, as the reference does: from the first vertex in
 * raster order that has a side left, along the first side in the order right,
 * left, down, up; a branch symbol where there are more; at a dead end a
 * terminate symbol and back to the last branch. A branch that has no side
 * left when its turn comes is taken back. A branch that opens a chain, and
 * whose arm ends before any other branch, is undone by starting at that arm's
 * far end.
 *
 * Each move waits for two loads, one after the other. Two slices are traced
 * in turns, so that one works while the other waits.
 */
CRACKLE_KERNEL int K(trace)(struct crackle_trace *traces, uint32_t count,
                            uint32_t pitch)
{
    struct K(move) moves[16];
    static const uint8_t code[4] = {1, 3, 2, 0}, facing[4] = {2, 1, 8, 4};
    const int32_t step[4] = {1, -1, (int32_t)pitch, -(int32_t)pitch};
    for (unsigned sides = 1; sides < 16; sides++) {
        unsigned i = crackle_ctz64(sides);
        moves[sides].step = step[i];
        moves[sides].symbol = code[i] == 2 ? CRACKLE_BRANCH_DOWN
                                           : CRACKLE_BRANCH;
        moves[sides].code = code[i];
        moves[sides].facing = (uint8_t)~facing[i];
    }
    struct K(tracer) t[2];
    struct K(trace_ends) ends[2];
    bool more[2] = {false, false};
    int status = CRACKLE_OK;
    for (uint32_t i = 0; i < count; i++) {
        struct crackle_trace *trace = &traces[i];
        ends[i].trace = trace;
        ends[i].adjacency = ends[i].search = trace->adjacency.data;
        t[i].out = ends[i].codes = trace->codes.data;
        t[i].top = ends[i].stack = trace->stack.data;
        ends[i].begin = NULL;
        more[i] = K(end_arm)(&t[i], &ends[i], &status);
    }
    if (more[0] && more[1]) {
        struct K(tracer) a = t[0], b = t[1];
        do {
            K(trace_move)(&a, &ends[0], moves);
            K(trace_move)(&b, &ends[1], moves);
            more[0] = K(trace_on)(&a, &ends[0], &status);
            more[1] = K(trace_on)(&b, &ends[1], &status);
        } while (more[0] && more[1]);
        t[0] = a;
        t[1] = b;
    }
    for (int i = 0; i < 2 && !status; i++) {
        struct K(tracer) a = t[i];
        while (more[i]) {
            K(trace_move)(&a, &ends[i], moves);
            more[i] = K(trace_on)(&a, &ends[i], &status);
        }
    }
    return status;
}
