/*
 * The kernels: everything that touches single pixels, runs or moves. A
 * template, included once for each CPU level with
 *
 *   CRACKLE_LEVEL   0 portable, 1 SSE4.2, 2 AVX2
 *   CRACKLE_TARGET  the function attribute that allows the level
 *   CRACKLE_SUFFIX  what the names end in
 */
#include "tables.h"

#if CRACKLE_X86
#include <immintrin.h>
#endif

#define CRACKLE_PASTE2(a, b) a##_##b
#define CRACKLE_PASTE(a, b) CRACKLE_PASTE2(a, b)
#define K(name) CRACKLE_PASTE(name, CRACKLE_SUFFIX)
#define CRACKLE_KERNEL static CRACKLE_TARGET
#if defined(__GNUC__) || defined(__clang__)
#define CRACKLE_HELPER                                                        \
    static inline __attribute__((always_inline)) CRACKLE_TARGET
#else
#define CRACKLE_HELPER static inline
#endif

/* The bits of a row's last word that are pixels. */
CRACKLE_HELPER uint64_t K(last_mask)(uint32_t sx)
{
    return sx % 64 ? ((uint64_t)1 << sx % 64) - 1 : ~(uint64_t)0;
}

/* Where the runs of a row begin, 'base' for its first pixel, ascending, to
 * 'out', which has room for 8 more than there are. Returns their number. */
CRACKLE_HELPER uint32_t K(run_starts)(const uint64_t *left, uint32_t words,
                                      uint32_t base, uint32_t *out)
{
    uint32_t n = 0;
    for (uint32_t w = 0; w < words; w++) {
        uint64_t m = left[w] | (w == 0);
        uint32_t *p = out + n;
        const uint32_t count = crackle_popcount64(m);
        n += count;
#if CRACKLE_LEVEL >= 2
        if (count > 8) {
            for (uint32_t i = 0; i < 64; i += 8, m >>= 8) {
                uint64_t bytes = _pdep_u64(m, 0x0101010101010101u) * 255;
                __m128i at = _mm_cvtsi64_si128(
                    (long long)_pext_u64(0x0706050403020100u, bytes));
                _mm256_storeu_si256(
                    (__m256i *)p,
                    _mm256_add_epi32(_mm256_cvtepu8_epi32(at),
                                     _mm256_set1_epi32((int)(base + i))));
                p += crackle_popcount64(m & 255);
            }
            base += 64;
            continue;
        }
#endif
        do {
            for (int i = 0; i < 4; i++) {
                *p++ = base + crackle_ctz64(m | (uint64_t)1 << 63);
                m &= m - 1;
                CRACKLE_ONE_BY_ONE;
            }
        } while (CRACKLE_UNLIKELY(m));
        base += 64;
    }
    return n;
}

#include "kernel_walk.h"
#include "kernel_runs.h"
#include "kernel_trace.h"

#define T uint8_t
#define T_LOG2 0
#define T_SUFFIX epi8
#include "kernel_pixels.h"
#undef T
#undef T_LOG2
#undef T_SUFFIX
#define T uint16_t
#define T_LOG2 1
#define T_SUFFIX epi16
#include "kernel_pixels.h"
#undef T
#undef T_LOG2
#undef T_SUFFIX
#define T uint32_t
#define T_LOG2 2
#define T_SUFFIX epi32
#include "kernel_pixels.h"
#undef T
#undef T_LOG2
#undef T_SUFFIX
#define T uint64_t
#define T_LOG2 3
#define T_SUFFIX epi64
#include "kernel_pixels.h"
#undef T
#undef T_LOG2
#undef T_SUFFIX

const struct crackle_kernels CRACKLE_PASTE(crackle_kernels, CRACKLE_SUFFIX) = {
    .walk = K(walk),
    .cracks_to_bits = K(cracks_to_bits),
    .find_runs = K(find_runs),
    .false_border = K(false_border),
    .crc = K(component_crc),
    .blank_crc = K(blank_crc),
    .render = {K(render_0), K(render_1), K(render_2), K(render_3)},
    .render_block = {K(render_block_0), K(render_block_1), K(render_block_2),
                     K(render_block_3)},
    .compare = {K(compare_0), K(compare_1), K(compare_2), K(compare_3)},
    .gather_block = {K(gather_block_0), K(gather_block_1), K(gather_block_2),
                     K(gather_block_3)},
    .trace_begin = K(trace_begin),
    .trace = K(trace),
    .crc32c = K(crc32c),
};
