/* From crack bitmaps to runs, components and their checksum. Part of
 * kernels.h. */

/* Join two provisional components: the smaller root wins, so that roots met
 * in ascending order are in raster order of their first pixels. */
CRACKLE_HELPER uint32_t K(unite)(uint32_t *parent, uint32_t a, uint32_t b)
{
    while (parent[a] != a) {
        parent[a] = parent[parent[a]];
        a = parent[a];
    }
    while (parent[b] != b) {
        parent[b] = parent[parent[b]];
        b = parent[b];
    }
    if (a < b) {
        parent[b] = a;
        return a;
    }
    parent[a] = b;
    return b;
}

/*
 * Runs and components by union-find over runs, a row at a time.
 *
 * A pixel without a crack above joins its run with the one above it. It is
 * enough to look at pixels where such a stretch, or one of the two runs,
 * begins ("events"): most runs have just one. Their runs' indices are the
 * numbers of run starts before them.
 */
CRACKLE_KERNEL void K(find_runs)(struct crackle_workspace *ws)
{
    struct crackle_slice *slice = &ws->slice;
    const uint32_t sx = slice->sx, sy = slice->sy, words = slice->words;
    const uint64_t last = K(last_mask)(sx);
    uint32_t *parent = slice->parent, *row_run = slice->row_run;
    uint32_t *event_run = ws->row.data, *event_above = event_run + sx + 16;
    uint32_t provisional = 0, first = 0;
    const uint32_t *labels_above = slice->run_label;

    for (uint32_t y = 0; y < sy; y++) {
        const uint64_t *left = slice->left + (size_t)y * words;
        const uint64_t *above = slice->above + (size_t)y * words;
        uint32_t *labels = slice->run_label + first;
        uint32_t events = 0, runs = 0, runs_above = 0;
        row_run[y] = first;
        if (y == 0) {
            for (uint32_t w = 0; w < words; w++)
                runs += crackle_popcount64(left[w] | (w == 0));
        } else {
            const uint64_t *left_above = left - words;
            uint64_t carry = 0;
            for (uint32_t w = 0; w < words; w++) {
                uint64_t m = left[w] | (w == 0);
                uint64_t ma = left_above[w] | (w == 0);
                uint64_t open = ~above[w] & (w + 1 < words ? ~0ull : last);
                uint64_t e = open & (m | ma | ~(open << 1 | carry));
                uint32_t *er = event_run + events, *ea = event_above + events;
                carry = open >> 63;
                events += crackle_popcount64(e);
                do {
                    for (int i = 0; i < 4; i++) {
                        uint64_t upto = e ^ (e - 1);
                        er[i] = runs + crackle_popcount64(m & upto) - 1;
                        ea[i] = runs_above + crackle_popcount64(ma & upto) - 1;
                        e &= e - 1;
                    }
                    er += 4;
                    ea += 4;
                } while (CRACKLE_UNLIKELY(e));
                runs += crackle_popcount64(m);
                runs_above += crackle_popcount64(ma);
            }
        }
        uint32_t next = 0;
        for (uint32_t i = 0; i < events; i++) {
            uint32_t r = event_run[i], label = labels_above[event_above[i]];
            if (r >= next) {
                while (CRACKLE_UNLIKELY(next < r)) {
                    parent[provisional] = provisional;
                    labels[next++] = provisional++;
                }
                labels[r] = label;
                next = r + 1;
            } else if (labels[r] != label) {
                labels[r] = K(unite)(parent, labels[r], label);
            }
        }
        while (next < runs) {
            parent[provisional] = provisional;
            labels[next++] = provisional++;
        }
        labels_above = labels;
        first += runs;
    }
    row_run[sy] = first;
    slice->num_runs = first;
    slice->num_provisional = provisional;

    uint32_t components = 0;
    for (uint32_t p = 0; p < provisional; p++) {
        uint32_t root = parent[p];
        slice->component[p] =
            root == p ? components++ : slice->component[root];
    }
    slice->num_components = components;
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

CRACKLE_HELPER uint32_t K(crc_of_runs)(struct crackle_workspace *ws,
                                       const uint32_t *powers,
                                       uint32_t *first_pixel)
{
    const struct crackle_slice *slice = &ws->slice;
    const uint32_t sx = slice->sx, sy = slice->sy;
    const uint32_t *component = slice->component;
    const uint32_t row_power = powers[sx + 1];
    uint32_t *starts = ws->row.data;
    uint32_t crc = 0xFFFFFFFF, seen = 0;

    for (uint32_t y = 0; y < sy; y++) {
        const uint32_t *labels = slice->run_label + slice->row_run[y];
        uint32_t n = K(run_starts)(slice->left + (size_t)y * slice->words,
                                   slice->words, starts);
        uint32_t previous = 0;
        uint64_t sum = 0;
#if CRACKLE_LEVEL < 1
        uint32_t by_bit[32] = {0};
        uint32_t most = slice->num_components - 1;
        int bits = most > 0xFFFF ? 32 : most > 0xFF ? 16 : 8;
#endif
        for (uint32_t i = 0; i < n; i++) {
            uint32_t id = component[labels[i]];
            uint32_t power = powers[starts[i]], change = id ^ previous;
#if CRACKLE_LEVEL < 1
            for (int b = 0; b < bits; b++)
                by_bit[b] ^= power & (0u - (change >> b & 1));
#else
            sum ^= K(clmul)(change, power);
#endif
            previous = id;
            if (first_pixel && id == seen)
                first_pixel[seen++] = starts[i] + y * sx;
        }
#if CRACKLE_LEVEL < 1
        for (int b = 0; b < bits; b++)
            sum ^= (uint64_t)by_bit[b] << b;
#endif
        crc = K(reduce)(sum ^ K(clmul)(crc, row_power));
    }
    return ~crc;
}

CRACKLE_KERNEL uint32_t K(component_crc)(struct crackle_workspace *ws,
                                         const uint32_t *powers,
                                         uint32_t *first_pixel)
{
    /* Two copies: the decoder's has no trace of first_pixel. */
    return first_pixel ? K(crc_of_runs)(ws, powers, first_pixel)
                       : K(crc_of_runs)(ws, powers, NULL);
}

/* The crc32c register after 'size' more bytes. */
CRACKLE_KERNEL uint32_t K(crc32c)(uint32_t crc, const uint8_t *data,
                                  size_t size)
{
    size_t i = 0;
#if CRACKLE_LEVEL >= 1
    uint64_t state = crc;
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
