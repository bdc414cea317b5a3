/* The ground: what compilers differ in, errors, bytes. */
#ifndef CRACKLE_BASE_H
#define CRACKLE_BASE_H

#include "crackle.h"

#include <stdbool.h>
#include <string.h>

#if defined(__GNUC__) || defined(__clang__)
#define CRACKLE_INLINE static inline __attribute__((always_inline))
#define CRACKLE_LIKELY(x) __builtin_expect(!!(x), 1)
#define CRACKLE_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define crackle_popcount64(x) ((uint32_t)__builtin_popcountll(x))
#define crackle_ctz64(x) ((uint32_t)__builtin_ctzll(x))
#define crackle_clz64(x) ((uint32_t)__builtin_clzll(x))
#else
#ifdef _MSC_VER
#define CRACKLE_INLINE static __forceinline
#else
#define CRACKLE_INLINE static inline
#endif
#define CRACKLE_LIKELY(x) (x)
#define CRACKLE_UNLIKELY(x) (x)
/* Not __popcnt64, which is one instruction that not every machine has. */
CRACKLE_INLINE uint32_t crackle_popcount64(uint64_t x)
{
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0Fu;
    return (uint32_t)(x * 0x0101010101010101u >> 56);
}
/* Of x other than 0, as the builtins. */
CRACKLE_INLINE uint32_t crackle_ctz64(uint64_t x)
{
    return crackle_popcount64(~x & (x - 1));
}
CRACKLE_INLINE uint32_t crackle_clz64(uint64_t x)
{
    for (unsigned i = 1; i < 64; i *= 2)
        x |= x >> i;
    return crackle_popcount64(~x);
}
#endif

/* Between stores that gcc would collect in a vector first, at a loss; and to
 * ask for a cache line before it is needed. */
#if defined(__GNUC__) || defined(__clang__)
#define CRACKLE_ONE_BY_ONE __asm__ volatile("" ::: "memory")
/* clang takes a constant only. */
#define CRACKLE_PREFETCH(p, to_write)                                         \
    ((to_write) ? __builtin_prefetch(p, 1) : __builtin_prefetch(p, 0))
#else
#define CRACKLE_ONE_BY_ONE (void)0
#define CRACKLE_PREFETCH(p, to_write) (void)(p)
#endif

/* Not clang in the manner of MSVC either: what __builtin_cpu_supports reads is
 * in a library that it does not link. */
#if (defined(__GNUC__) || defined(__clang__)) && defined(__x86_64__) &&       \
    !defined(_MSC_VER)
#define CRACKLE_X86 1
#else
#define CRACKLE_X86 0
#endif

/* What the SSE4 kernels need, for __attribute__((target)). To clang the crc32
 * instruction is a feature of its own; before, and to gcc, a part of SSE4.2.
 */
#if defined(__clang__) && __clang_major__ >= 16
#define CRACKLE_SSE4 "sse4.2,crc32,popcnt,pclmul"
#else
#define CRACKLE_SSE4 "sse4.2,popcnt,pclmul"
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define CRACKLE_BIG_ENDIAN 1
#else
#define CRACKLE_BIG_ENDIAN 0
#endif

/* ---- errors ---- */

CRACKLE_INLINE int crackle_fail(struct crackle_error *error, int status,
                                int section, int64_t slice, const char *what)
{
    if (error) {
        error->status = status;
        error->section = section;
        error->slice = slice;
        error->what = what;
    }
    return status;
}

#define CRACKLE_NOMEM(error)                                                  \
    crackle_fail(error, CRACKLE_NO_MEMORY, CRACKLE_SECTION_NONE, -1,          \
                 "out of memory")

/* ---- little-endian loads and stores ---- */

CRACKLE_INLINE uint64_t crackle_swap64(uint64_t v)
{
    v = ((v & 0x00FF00FF00FF00FFu) << 8) | ((v >> 8) & 0x00FF00FF00FF00FFu);
    v = ((v & 0x0000FFFF0000FFFFu) << 16) | ((v >> 16) & 0x0000FFFF0000FFFFu);
    return (v << 32) | (v >> 32);
}

CRACKLE_INLINE uint64_t crackle_load64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return CRACKLE_BIG_ENDIAN ? crackle_swap64(v) : v;
}

CRACKLE_INLINE void crackle_store64(uint8_t *p, uint64_t v)
{
    if (CRACKLE_BIG_ENDIAN)
        v = crackle_swap64(v);
    memcpy(p, &v, 8);
}

CRACKLE_INLINE uint32_t crackle_load32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
           (uint32_t)p[3] << 24;
}

/* Load and store an unsigned integer of 'width' bytes: 1, 2, 4 or 8. */
CRACKLE_INLINE uint64_t crackle_load(const uint8_t *p, unsigned width)
{
    switch (width) {
    case 1:
        return p[0];
    case 2:
        return (uint64_t)p[0] | (uint64_t)p[1] << 8;
    case 4:
        return crackle_load32(p);
    default:
        return crackle_load64(p);
    }
}

CRACKLE_INLINE uint8_t *crackle_store(uint8_t *p, uint64_t v, unsigned width)
{
    for (unsigned i = 0; i < width; i++)
        p[i] = (uint8_t)(v >> (8 * i));
    return p + width;
}

/* The smallest of 1, 2, 4, 8 bytes that holds v, and its log2. */
CRACKLE_INLINE unsigned crackle_width(uint64_t v)
{
    return v <= UINT8_MAX ? 1 : v <= UINT16_MAX ? 2 : v <= UINT32_MAX ? 4 : 8;
}

CRACKLE_INLINE unsigned crackle_width_log2(unsigned width)
{
    return width == 1 ? 0 : width == 2 ? 1 : width == 4 ? 2 : 3;
}

CRACKLE_INLINE uint64_t crackle_sign_extend(uint64_t v, unsigned width)
{
    unsigned shift = 64 - 8 * width;
    return (uint64_t)((int64_t)(v << shift) >> shift);
}

/* ---- a bounded reader ---- */

struct crackle_reader {
    const uint8_t *at, *end;
};

CRACKLE_INLINE size_t crackle_left(const struct crackle_reader *r)
{
    return (size_t)(r->end - r->at);
}

/* Take the next 'size' bytes, or NULL if there are fewer. */
CRACKLE_INLINE const uint8_t *crackle_take(struct crackle_reader *r,
                                           uint64_t size)
{
    if (size > crackle_left(r))
        return NULL;
    const uint8_t *p = r->at;
    r->at += size;
    return p;
}

/* Take 'count' items of 'width' bytes (1 to 8). */
CRACKLE_INLINE const uint8_t *
crackle_take_items(struct crackle_reader *r, uint64_t count, unsigned width)
{
    if (count > crackle_left(r) / width)
        return NULL;
    return crackle_take(r, count * width);
}

#endif /* CRACKLE_BASE_H */
