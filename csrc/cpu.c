/* Which kernels this machine can run, and which are in use. */
#include "internal.h"

/* Which level is in use: -1 until the first question. Whoever asks first, all
 * find the same, so that no order is asked for. MSVC without its experimental
 * atomics says that it has none; its volatile int is never torn. */
#ifndef __STDC_NO_ATOMICS__
#include <stdatomic.h>
static _Atomic int level_in_use = -1;
static int level_get(void)
{
    return atomic_load_explicit(&level_in_use, memory_order_relaxed);
}
static void level_set(int level)
{
    atomic_store_explicit(&level_in_use, level, memory_order_relaxed);
}
#else
static volatile int level_in_use = -1;
static int level_get(void)
{
    return level_in_use;
}
static void level_set(int level)
{
    level_in_use = level;
}
#endif

static int detect(void)
{
#if CRACKLE_X86
    __builtin_cpu_init();
    /* AVX2 implies that the operating system saves the wide registers:
     * the builtin asks for both. */
    if (!__builtin_cpu_supports("sse4.2") ||
        !__builtin_cpu_supports("popcnt") || !__builtin_cpu_supports("pclmul"))
        return CRACKLE_CPU_PORTABLE;
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi") ||
        !__builtin_cpu_supports("bmi2"))
        return CRACKLE_CPU_SSE4;
    return CRACKLE_CPU_AVX2;
#else
    return CRACKLE_CPU_PORTABLE;
#endif
}

int crackle_cpu_detect(void)
{
    return detect();
}

int crackle_cpu_level(void)
{
    int level = level_get();
    if (level < 0) {
        level = detect();
        level_set(level);
    }
    return level;
}

int crackle_cpu_select(int level)
{
    int best = detect();
    level = level < 0 ? 0 : level > best ? best : level;
    level_set(level);
    return level;
}

const struct crackle_kernels *crackle_kernels(void)
{
#if CRACKLE_X86
    const int level = crackle_cpu_level();
    if (level == CRACKLE_CPU_AVX2)
        return &crackle_kernels_avx2;
    if (level == CRACKLE_CPU_SSE4)
        return &crackle_kernels_sse4;
#endif
    return &crackle_kernels_portable;
}
