/* Kernels that touch pixels. Part of kernels.h, which includes this once
 * for each element type T of width 1 << T_LOG2. */

#define KT(name) CRACKLE_PASTE(CRACKLE_PASTE(name, T_LOG2), CRACKLE_SUFFIX)
#if CRACKLE_LEVEL >= 2
#define KT_REGISTER __m256i
#define KT_LOW CRACKLE_PASTE(_mm256_unpacklo, T_SUFFIX)
#define KT_HIGH CRACKLE_PASTE(_mm256_unpackhi, T_SUFFIX)
#else
#define KT_REGISTER __m128i
#define KT_LOW CRACKLE_PASTE(_mm_unpacklo, T_SUFFIX)
#define KT_HIGH CRACKLE_PASTE(_mm_unpackhi, T_SUFFIX)
#endif
#define T_CHUNK (16 / sizeof(T)) /* elements of a 16-byte store */

#if CRACKLE_LEVEL >= 1
/* Fill 8 pixels from the left cracks 'b' and the values of the runs from that
 * of the pixel before on. Returns where the last pixel's run is. */
CRACKLE_HELPER const T *KT(expand_8)(unsigned b, const T *values, T *out)
{
    /* In pieces of a register. The lanes of a piece are relative to the run
     * of its first pixel. */
    enum { SIZE = CRACKLE_LEVEL >= 2 && T_LOG2 >= 2 ? 32 : 16 };
    enum { PIECE = SIZE / sizeof(T) < 8 ? SIZE / sizeof(T) : 8 };
    for (unsigned i = 0; i < 8; i += PIECE) {
        const unsigned n = b >> i & ((1u << PIECE) - 1);
        const T *from = values + (n & 1);
        const uint64_t lanes = crackle_lanes[n];
        values += crackle_popcount64(n);
#if T_LOG2 == 3 && CRACKLE_LEVEL < 2
        out[i] = from[0];
        out[i + 1] = from[lanes >> 8 & 255];
#else
        __m128i k = _mm_cvtsi64_si128((long long)lanes);
#if T_LOG2 == 0
        __m128i v = _mm_loadl_epi64((const __m128i *)from);
        _mm_storel_epi64((__m128i *)out, _mm_shuffle_epi8(v, k));
#elif CRACKLE_LEVEL >= 2 && T_LOG2 >= 2
        __m256i v = _mm256_loadu_si256((const __m256i *)from);
#if T_LOG2 == 2
        __m256i lane = _mm256_cvtepu8_epi32(k);
#else
        __m256i lane = _mm256_cvtepu8_epi64(k);
        lane = _mm256_add_epi32(lane, lane);
        lane = _mm256_or_si256(lane, _mm256_slli_epi64(lane, 32));
        lane = _mm256_or_si256(lane, _mm256_set1_epi64x(1LL << 32));
#endif
        _mm256_storeu_si256((__m256i *)(out + i),
                            _mm256_permutevar8x32_epi32(v, lane));
#else
        __m128i v = _mm_loadu_si128((const __m128i *)from);
#if T_LOG2 == 1
        k = _mm_unpacklo_epi8(k, k);
        k = _mm_add_epi8(_mm_slli_epi16(k, 1), _mm_set1_epi16(0x0100));
#else
        k = _mm_unpacklo_epi8(k, k);
        k = _mm_unpacklo_epi16(k, k);
        k = _mm_add_epi8(_mm_slli_epi32(k, 2), _mm_set1_epi32(0x03020100));
#endif
        _mm_storeu_si128((__m128i *)(out + i), _mm_shuffle_epi8(v, k));
#endif
#endif
    }
    return values;
}
#endif

/* Fill one row of sx pixels from its left cracks and the values of its runs,
 * which have 8 readable ones behind. 'starts' has room for sx + 8. */
CRACKLE_HELPER void KT(expand_row)(const uint64_t *left, uint32_t sx,
                                   const T *values, uint32_t *starts, T *out)
{
#if CRACKLE_LEVEL >= 1
    (void)starts;
    const uint8_t *bits = (const uint8_t *)left;
    const uint32_t eights = sx / 8;
    for (uint32_t i = 0; i < eights; i++)
        values = KT(expand_8)(bits[i], values, out + 8 * (size_t)i);
    if (sx % 8) {
        T tail[8];
        KT(expand_8)(bits[eights], values, tail);
        memcpy(out + 8 * (size_t)eights, tail, sx % 8 * sizeof(T));
    }
#else
    /* Whole chunks from each run's start: the next run overwrites what goes
     * over. Near the row's end element by element. */
    uint32_t n = K(run_starts)(left, (sx + 63) / 64, 0, starts);
    starts[n] = sx;
    const uint32_t chunk_size = (uint32_t)T_CHUNK;
    const uint32_t safe = sx > chunk_size ? sx - chunk_size : 0;
    for (uint32_t i = 0; i < n; i++) {
        T chunk[T_CHUNK];
        for (unsigned j = 0; j < T_CHUNK; j++)
            chunk[j] = values[i];
        uint32_t x = starts[i], end = starts[i + 1];
        for (; x < end && x <= safe && safe; x += chunk_size)
            memcpy(out + x, chunk, sizeof chunk);
        for (; x < end; x++)
            out[x] = values[i];
    }
#endif
}

CRACKLE_KERNEL void KT(render)(struct crackle_workspace *ws,
                               const void *values, void *out)
{
    const struct crackle_slice *slice = &ws->slice;
    const uint32_t sx = slice->sx;
    const uint32_t words = slice->words;
    const uint32_t most = crackle_block_rows(sx, slice->sy);
    uint32_t *starts = ws->row.data;
    T *by_run = (T *)(starts + CRACKLE_BLOCK_STARTS(sx));
    for (uint32_t y = 0; y < slice->sy; y += most) {
        uint32_t rows = most < slice->sy - y ? most : slice->sy - y;
        const uint32_t *run = slice->word_run + (size_t)y * words;
        const uint32_t first = run[0], n = run[(size_t)rows * words] - first;
        const uint32_t *component = slice->run_component + first;
        for (uint32_t i = 0; i < n; i++)
            by_run[i] = ((const T *)values)[component[i]];
        for (uint32_t i = 0; i < rows; i++, run += words) {
            T *row = (T *)out + (size_t)(y + i) * sx;
            const T *values_of_row = by_run + run[0] - first;
#if T_LOG2 == 0
            /* Where a label is: it is in few rows. */
            uint64_t any = 0;
            for (uint32_t r = 0; r < run[words] - run[0]; r += 8)
                any |= crackle_load64((const uint8_t *)values_of_row + r);
            if (!any) {
                memset(row, 0, sx);
                continue;
            }
#endif
            KT(expand_row)(slice->left + (size_t)(y + i) * words, sx,
                           values_of_row, starts, row);
        }
    }
}

#if CRACKLE_LEVEL >= 1
/* A block that is transposed at once: N elements are 16 bytes. AVX2 does two
 * squares, one below the other, and so writes 32 bytes. */
#define T_COLS ((uint32_t)(16 / sizeof(T)))
#define T_ROWS ((CRACKLE_LEVEL >= 2 ? 2 : 1) * T_COLS)

/* One perfect shuffle of 'n' registers, of what lies in their elements. */
CRACKLE_HELPER void KT(shuffle)(const KT_REGISTER *from, KT_REGISTER *to)
{
    for (size_t i = 0; i < T_COLS / 2; i++) {
        to[2 * i] = KT_LOW(from[i], from[i + T_COLS / 2]);
        to[2 * i + 1] = KT_HIGH(from[i], from[i + T_COLS / 2]);
    }
}

/* out[c][r] = in[r][c] by as many shuffles as a row number has bits. */
CRACKLE_HELPER void KT(transpose_block)(const T *in, size_t in_pitch, T *out,
                                        size_t out_pitch)
{
    KT_REGISTER a[16 / sizeof(T)], b[16 / sizeof(T)];
    for (unsigned i = 0; i < T_COLS; i++) {
        const __m128i *row = (const __m128i *)(in + i * in_pitch);
#if CRACKLE_LEVEL >= 2
        const __m128i *below = (const __m128i *)(in + (T_COLS + i) * in_pitch);
        a[i] = _mm256_inserti128_si256(
            _mm256_castsi128_si256(_mm_loadu_si128(row)),
            _mm_loadu_si128(below), 1);
#else
        a[i] = _mm_loadu_si128(row);
#endif
    }
    KT(shuffle)(a, b);
#if T_LOG2 <= 2
    KT(shuffle)(b, a);
#endif
#if T_LOG2 <= 1
    KT(shuffle)(a, b);
#endif
#if T_LOG2 == 0
    KT(shuffle)(b, a);
#endif
    const KT_REGISTER *result = T_LOG2 % 2 ? b : a;
    for (unsigned i = 0; i < T_COLS; i++)
#if CRACKLE_LEVEL >= 2
        _mm256_storeu_si256((__m256i *)(out + i * out_pitch), result[i]);
#else
        _mm_storeu_si128((__m128i *)(out + i * out_pitch), result[i]);
#endif
}
#endif

/* out[c][r] = in[r][c]. With 'by_rows' whole rows of 'in' are read one after
 * the other, else whole rows of 'out' written: that of the two which lies far
 * from its next is to be touched once only. */
CRACKLE_HELPER void KT(transpose)(const T *in, size_t in_pitch, uint32_t rows,
                                  uint32_t cols, T *out, size_t out_pitch,
                                  bool by_rows)
{
#if CRACKLE_LEVEL >= 1
    if (rows >= T_ROWS && cols >= T_COLS) {
        /* The last block goes back over some of the one before. */
        const uint32_t r_blocks = (rows + T_ROWS - 1) / T_ROWS;
        const uint32_t c_blocks = (cols + T_COLS - 1) / T_COLS;
        const uint32_t outer = by_rows ? r_blocks : c_blocks;
        const uint32_t inner = by_rows ? c_blocks : r_blocks;
        /* Of an array too large for the caches, ask for the lines ahead. */
        const T *lines = by_rows ? in : out;
        const size_t pitch = by_rows ? in_pitch : out_pitch;
        const uint32_t ahead = 3 * (by_rows ? T_ROWS : T_COLS);
        const uint32_t num_lines = by_rows ? rows : cols;
        const bool far = num_lines * pitch * sizeof(T) >= 16u << 20;
        for (uint32_t i = 0; i < outer; i++) {
            const uint32_t next = i * (by_rows ? T_ROWS : T_COLS) + ahead;
            for (uint32_t k = next; far && k < next + ahead / 3; k++)
                CRACKLE_PREFETCH(lines + (k < num_lines ? k * pitch : 0),
                                 !by_rows);
            for (uint32_t j = 0; j < inner; j++) {
                uint32_t r = (by_rows ? i : j) * T_ROWS;
                uint32_t c = (by_rows ? j : i) * T_COLS;
                r = r < rows - T_ROWS ? r : rows - T_ROWS;
                c = c < cols - T_COLS ? c : cols - T_COLS;
                KT(transpose_block)(in + r * in_pitch + c, in_pitch,
                                    out + c * out_pitch + r, out_pitch);
            }
        }
        return;
    }
#endif
    if (by_rows) {
        for (uint32_t r = 0; r < rows; r++)
            for (uint32_t c = 0; c < cols; c++)
                out[c * out_pitch + r] = in[r * in_pitch + c];
    } else {
        for (uint32_t c = 0; c < cols; c++)
            for (uint32_t r = 0; r < rows; r++)
                out[c * out_pitch + r] = in[r * in_pitch + c];
    }
}

CRACKLE_KERNEL void KT(render_block)(struct crackle_workspace *ws,
                                     uint32_t depth, void *out,
                                     uint64_t stride)
{
    const uint32_t sx = ws->slice.sx, sy = ws->slice.sy;
    const uint32_t words = ws->slice.words;
    const uint8_t *block = ws->block.data;
    uint32_t *starts = ws->row.data;
    T *tile = ws->tile.data;
    const size_t pitch = (size_t)sx + 8;
    for (uint32_t y = 0; y < sy; y++) {
        for (uint32_t k = 0; k < depth; k++) {
            const struct crackle_saved *s = &ws->saved[k];
            const uint32_t *run = (const uint32_t *)(block + s->word_run);
            const uint64_t *left = (const uint64_t *)(block + s->left);
            const T *values = (const T *)(block + s->values);
            const size_t row = (size_t)y * words;
            KT(expand_row)(left + row, sx, values + run[row], starts,
                           tile + k * pitch);
        }
        KT(transpose)(tile, pitch, depth, sx, (T *)out + (size_t)y * stride,
                      (size_t)(sy * stride), false);
    }
}

/* Bit i: a[i] differs from b[i], of 64. */
CRACKLE_HELPER uint64_t KT(differ_64)(const T *a, const T *b)
{
#if CRACKLE_LEVEL >= 2
    uint64_t equal = 0;
    for (size_t h = 0; h < 2; h++) {
        __m256i c[sizeof(T)];
        for (size_t i = 0; i < sizeof(T); i++) {
            const size_t at = 32 * h + 32 / sizeof(T) * i;
            __m256i u = _mm256_loadu_si256((const __m256i *)(a + at));
            __m256i v = _mm256_loadu_si256((const __m256i *)(b + at));
#if T_LOG2 == 0
            c[i] = _mm256_cmpeq_epi8(u, v);
#elif T_LOG2 == 1
            c[i] = _mm256_cmpeq_epi16(u, v);
#elif T_LOG2 == 2
            c[i] = _mm256_cmpeq_epi32(u, v);
#else
            c[i] = _mm256_cmpeq_epi64(u, v);
#endif
        }
        /* Narrow the masks to bytes; packing works within 128-bit lanes. */
#if T_LOG2 == 0
        __m256i bytes = c[0];
#elif T_LOG2 == 1
        __m256i bytes =
            _mm256_permute4x64_epi64(_mm256_packs_epi16(c[0], c[1]), 0xD8);
#elif T_LOG2 == 2
        __m256i bytes = _mm256_permutevar8x32_epi32(
            _mm256_packs_epi16(_mm256_packs_epi32(c[0], c[1]),
                               _mm256_packs_epi32(c[2], c[3])),
            _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
#else
        __m256i d[4];
        for (size_t i = 0; i < 4; i++)
            d[i] = _mm256_permute4x64_epi64(
                _mm256_castps_si256(_mm256_shuffle_ps(
                    _mm256_castsi256_ps(c[2 * i]),
                    _mm256_castsi256_ps(c[2 * i + 1]), 0x88)),
                0xD8);
        __m256i bytes = _mm256_permutevar8x32_epi32(
            _mm256_packs_epi16(_mm256_packs_epi32(d[0], d[1]),
                               _mm256_packs_epi32(d[2], d[3])),
            _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
#endif
        equal |= (uint64_t)(uint32_t)_mm256_movemask_epi8(bytes) << (32 * h);
    }
    return ~equal;
#else
    uint8_t bytes[64];
    for (int i = 0; i < 64; i++)
        bytes[i] = a[i] == b[i] ? 0 : 0xFF;
    return K(take_64)(bytes);
#endif
}

CRACKLE_KERNEL uint32_t KT(compare)(const void *first, size_t pitch,
                                    const void *first_above, uint32_t rows,
                                    uint32_t sx, bool before, bool after,
                                    uint64_t *left, uint64_t *above)
{
    const T *row = first, *row_above = first_above;
    const uint32_t words = (uint32_t)(((uint64_t)sx + 63) / 64);
    const uint64_t last = K(last_mask)(sx);
    uint32_t equal = 0;
    for (uint32_t y = 0; y < rows; y++) {
        for (uint32_t w = 0; w < words; w++) {
            const T *here = row + 64 * (size_t)w;
            const T *up = row_above ? row_above + 64 * (size_t)w : NULL;
            uint32_t n = sx - 64 * w < 64 ? sx - 64 * w : 64;
            T here_copy[65], up_copy[64];
            if (CRACKLE_UNLIKELY((w == 0 && !before) || (n < 64 && !after))) {
                memset(here_copy, 0, sizeof here_copy);
                here_copy[0] = w || before ? here[-1] : (T)~here[0];
                memcpy(here_copy + 1, here, n * sizeof(T));
                here = here_copy + 1;
                if (up) {
                    memset(up_copy, 0, sizeof up_copy);
                    memcpy(up_copy, up, n * sizeof(T));
                    up = up_copy;
                }
            }
            left[w] = KT(differ_64)(here, here - 1);
            above[w] = up ? KT(differ_64)(here, up) : 0;
        }
        equal += (uint32_t)(~left[0] & 1);
        left[0] &= ~(uint64_t)1;
        left[words - 1] &= last;
        above[words - 1] &= last;
        left += words;
        above += words;
        row_above = row;
        row += pitch;
        before = true;
    }
    return equal;
}

CRACKLE_KERNEL void KT(gather_block)(const void *in, uint32_t sx,
                                     uint64_t x_stride, uint32_t depth,
                                     void *tile, uint32_t pitch)
{
    KT(transpose)(in, (size_t)x_stride, sx, depth, tile, pitch, true);
}

#undef KT
#undef T_CHUNK
#undef KT_REGISTER
#undef KT_LOW
#undef KT_HIGH
#undef T_COLS
#undef T_ROWS
