/* From crack bitmaps to runs, components and their checksum. Part of
 * kernels.h. */

/* A run and the one above it that it is connected with. */
struct K(link) {
    uint32_t run, above;
};

/* List the links of row y: one for each pixel without a crack above where
 * such a stretch, or one of the two runs, begins. Most runs have just one.
 * There is room for 4 more. With 'cracks', a constant, the pairs that have
 * one between them instead. */
CRACKLE_HELPER struct K(link) *K(list_links)(const struct crackle_slice *slice,
                                             uint32_t y, bool cracks,
                                             struct K(link) *links)
{
    const uint32_t words = slice->words;
    const size_t row = (size_t)y * words;
    const uint64_t *left = slice->left + row, *up = left - words;
    const uint64_t *above = slice->above + row;
    const uint32_t *run = slice->word_run + row, *run_up = run - words;
    const uint64_t last = K(last_mask)(slice->sx);
    uint64_t carry = 0, first = 1;
    for (uint32_t w = 0; w < words; w++) {
        const uint64_t m = left[w], m_up = up[w];
        const uint32_t r = run[w], r_up = run_up[w];
        uint64_t open = cracks ? above[w] : ~above[w];
        if (w + 1 == words)
            open &= last;
        uint64_t e = open & (m | m_up | first | ~(open << 1 | carry));
        carry = open >> 63;
        first = 0;
        if (!e)
            continue;
        struct K(link) *to = links;
        links += crackle_popcount64(e);
        /* Four at once: most words have no more, and take no branch that
         * depends on their bits. */
        do {
            for (int i = 0; i < 4; i++, to++) {
                const uint64_t upto = e ^ (e - 1);
                to->run = r + crackle_popcount64(m & upto);
                CRACKLE_ONE_BY_ONE;
                to->above = r_up + crackle_popcount64(m_up & upto);
                e &= e - 1;
            }
        } while (CRACKLE_UNLIKELY(e));
    }
    return links;
}

/*
 * Runs and components by union-find over runs.
 *
 * A run's parent is the run above of its first link; its further links unite
 * two trees; a run without a link is a root. Work goes in passes over blocks
 * of many rows, so that no loop is as short as a row: each end of a loop is
 * a branch missed.
 */
CRACKLE_KERNEL void K(find_runs)(struct crackle_workspace *ws)
{
    struct crackle_slice *slice = &ws->slice;
    const uint32_t sy = slice->sy, words = slice->words;
    const uint64_t *left = slice->left;
    uint32_t *word_run = slice->word_run, *parent = slice->run_component;
    uint32_t *first_run = slice->first_run;
    struct K(link) *links = ws->row.data, *end = links;

    uint32_t runs = 0;
    for (uint32_t y = 0; y < sy; y++) {
        for (uint32_t w = 0; w < words; w++) {
            *word_run++ = runs;
            runs += crackle_popcount64(*left++);
        }
        runs++;
    }
    *word_run = runs;
    for (uint32_t r = 0; r < runs; r++)
        parent[r] = r;

    for (uint32_t y = 1; y < sy; y++) {
        end = K(list_links)(slice, y, false, end);
        if (end - links < CRACKLE_LINKS && y + 1 < sy)
            continue;
        struct K(link) *join = links; /* the list of further links */
        uint32_t before = UINT32_MAX;
        for (const struct K(link) *link = links; link < end; link++) {
            const uint32_t run = link->run, above = link->above;
            uint32_t further = run == before;
            before = run;
            parent[further ? runs : run] = parent[above];
            join->run = run;
            CRACKLE_ONE_BY_ONE;
            join->above = above;
            join += further;
        }
        for (const struct K(link) *l = links; l < join; l++)
            if (parent[l->run] != parent[l->above])
                crackle_unite(parent, l->run, l->above);
        end = links;
    }

    /* From parents, which come first, to ids. */
    uint32_t components = 0;
    for (uint32_t r = 0; r < runs; r++) {
        uint32_t id = parent[parent[r]], root = parent[r] == r;
        parent[r] = id ^ ((id ^ components) & (0u - root));
        first_run[components] = r;
        components += root;
    }
    slice->num_runs = runs;
    slice->num_components = components;
}

/* Whether there is a border between two runs of equal value: beside each other
 * or one above the other. */
CRACKLE_KERNEL bool K(false_border)(struct crackle_workspace *ws,
                                    const uint32_t *value)
{
    const struct crackle_slice *slice = &ws->slice;
    const uint32_t *word_run = slice->word_run;
    struct K(link) *links = ws->row.data, *end = links;
    /* All neighbours in the list of runs, but for those in other rows. */
    uint32_t equal = 0, same = 0;
    for (uint32_t r = 1; r < slice->num_runs; r++)
        equal += value[r] == value[r - 1];
    for (uint32_t y = 1; y < slice->sy; y++) {
        const uint32_t first = word_run[(size_t)y * slice->words];
        equal -= value[first] == value[first - 1];
        end = K(list_links)(slice, y, true, end);
        if (end - links < CRACKLE_LINKS && y + 1 < slice->sy)
            continue;
        for (const struct K(link) *l = links; l < end; l++)
            same |= value[l->run] == value[l->above];
        end = links;
    }
    return (equal | same) != 0;
}

/* A carry-less product of two 32-bit words as the low half of a vector, and
 * its reduction to a crc32c register. Without the instructions a sum of
 * products is kept as one sum for each bit of the left factor. */
#if CRACKLE_LEVEL >= 1
CRACKLE_HELPER uint64_t K(clmul)(uint32_t a, uint32_t b)
{
    return (uint64_t)_mm_cvtsi128_si64(_mm_clmulepi64_si128(
        _mm_cvtsi32_si128((int)a), _mm_cvtsi32_si128((int)b), 0));
}
CRACKLE_HELPER uint32_t K(reduce)(uint64_t product)
{
    return (uint32_t)_mm_crc32_u64(0, product);
}
#else
CRACKLE_HELPER uint64_t K(clmul)(uint32_t a, uint32_t b)
{
    uint64_t product = 0;
    for (int i = 0; i < 32; i++)
        product ^= (uint64_t)(b & (0u - (a >> i & 1))) << i;
    return product;
}
CRACKLE_HELPER uint32_t K(reduce)(uint64_t product)
{
    return crackle_crc_word64(product);
}
#endif

/* The crc32c register after 'size' more bytes. */
CRACKLE_KERNEL uint32_t K(crc32c)(uint32_t crc, const uint8_t *data,
                                  size_t size)
{
    size_t i = 0;
#if CRACKLE_LEVEL >= 1
    uint64_t state = crc;
    /* The instruction takes three cycles, but three of them can be on their
     * way: blocks of 1024 bytes. What a register becomes by 1024 or 2048
     * zero bytes is its product with x^(8 * 1024 - 33) or x^(8 * 2048 - 33),
     * as in struct crackle_crc_powers. */
    for (; size - i >= 3072; i += 3072) {
        uint64_t second = 0, third = 0;
        for (size_t j = i; j < i + 1024; j += 8) {
            state = _mm_crc32_u64(state, crackle_load64(data + j));
            second = _mm_crc32_u64(second, crackle_load64(data + j + 1024));
            third = _mm_crc32_u64(third, crackle_load64(data + j + 2048));
        }
        state = K(reduce)(K(clmul)((uint32_t)state, 0xA51B6135u) ^
                          K(clmul)((uint32_t)second, 0x170076FAu)) ^
                third;
    }
    for (; i + 8 <= size; i += 8)
        state = _mm_crc32_u64(state, crackle_load64(data + i));
    crc = (uint32_t)state;
    for (; i < size; i++)
        crc = _mm_crc32_u8(crc, data[i]);
#else
    for (; i + 8 <= size; i += 8)
        crc = crackle_crc_word64(crackle_load64(data + i) ^ crc);
    for (; i < size; i++)
        crc = crc >> 8 ^ crackle_crc_table[0][(crc ^ data[i]) & 255];
#endif
    return crc;
}

#if CRACKLE_LEVEL >= 1
/* The sum of the products of each run's change of id with its power, which
 * stands at where it starts. */
CRACKLE_HELPER uint64_t K(fold_runs)(const uint32_t *id,
                                     const uint32_t *starts, uint32_t n,
                                     uint32_t begin, const uint32_t *power)
{
    uint32_t previous = 0;
    __m128i sum = _mm_setzero_si128();
    for (uint32_t i = 0; i < n; i++) {
        __m128i a = _mm_cvtsi32_si128((int)(id[i] ^ previous));
        __m128i b = _mm_cvtsi32_si128((int)power[starts[i] - begin]);
        sum = _mm_xor_si128(sum, _mm_clmulepi64_si128(a, b, 0));
        previous = id[i];
    }
    return (uint64_t)_mm_cvtsi128_si64(sum);
}
#else
CRACKLE_HELPER uint64_t K(fold_runs)(const uint32_t *id,
                                     const uint32_t *starts, uint32_t n,
                                     uint32_t begin, const uint32_t *power)
{
    uint32_t previous = 0, every = 0, by_bit[32] = {0};
    for (uint32_t i = 0; i < n; i++)
        every |= id[i];
    const int bits = every > 0xFFFF ? 32 : every > 0xFF ? 16 : 8;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t change = id[i] ^ previous, p = power[starts[i] - begin];
        for (int b = 0; b < bits; b++)
            by_bit[b] ^= p & (0u - (change >> b & 1));
        previous = id[i];
    }
    uint64_t sum = 0;
    for (int b = 0; b < bits; b++)
        sum ^= (uint64_t)by_bit[b] << b;
    return sum;
}

/* The register after the ids of 'pixels' pixels, written out in 'image'. */
CRACKLE_HELPER uint32_t K(crc_of_image)(uint32_t crc, const uint32_t *id,
                                        const uint32_t *starts, uint32_t n,
                                        uint32_t begin, uint32_t pixels,
                                        uint8_t *image)
{
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t end = i + 1 < n ? starts[i + 1] - begin : pixels;
        for (uint32_t x = starts[i] - begin; x < end; x++)
            crackle_store(image + 4 * (size_t)x, id[i], 4);
    }
    return K(crc32c)(crc, image, 4 * (size_t)pixels);
}
#endif

CRACKLE_KERNEL uint32_t K(blank_crc)(const struct crackle_workspace *ws)
{
    const struct crackle_crc_powers *powers = &ws->crc_powers;
    const uint32_t sy = ws->slice.sy;
    uint32_t crc = 0xFFFFFFFF;
    for (uint32_t y = 0; y < sy; y += powers->rows) {
        const uint32_t rows = powers->rows < sy - y ? powers->rows : sy - y;
        crc = K(reduce)(K(clmul)(crc, powers->state[rows]));
    }
    return ~crc;
}

CRACKLE_KERNEL uint32_t K(component_crc)(struct crackle_workspace *ws)
{
    const struct crackle_slice *slice = &ws->slice;
    const struct crackle_crc_powers *powers = &ws->crc_powers;
    const uint32_t sx = slice->sx, sy = slice->sy;
    const uint32_t *factor = powers->buffer.data;
    const uint32_t *id = slice->run_component;
    uint32_t *starts = slice->run_start;
    uint32_t crc = 0xFFFFFFFF;

    for (uint32_t y = 0; y < sy; y += powers->rows) {
        uint32_t rows = powers->rows < sy - y ? powers->rows : sy - y;
        const uint64_t *left = slice->left + (size_t)y * slice->words;
        uint32_t n = 0, pixels = rows * sx, begin = y * sx;
        for (uint32_t i = 0; i < rows; i++, left += slice->words)
            n += K(run_starts)(left, slice->words, begin + i * sx, starts + n);
#if CRACKLE_LEVEL < 1
        /* A run costs about as much there as two pixels here. */
        if (n > pixels / 2) {
            crc = K(crc_of_image)(crc, id, starts, n, begin, pixels,
                                  ws->row.data);
        } else
#endif
        {
            /* The table is for a whole block, and this may end before. */
            const uint32_t *power = factor + (size_t)powers->rows * sx -
                                    pixels;
            uint64_t product = K(fold_runs)(id, starts, n, begin, power);
            product ^= K(clmul)(crc, powers->state[rows]);
            crc = K(reduce)(product);
        }
        id += n;
        starts += n;
    }
    return ~crc;
}
