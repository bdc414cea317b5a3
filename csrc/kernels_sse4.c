/* The kernels for x86-64 with SSE4.2, POPCNT and PCLMUL. */
#include "internal.h"
#if CRACKLE_X86
#define CRACKLE_LEVEL 1
#define CRACKLE_TARGET __attribute__((target(CRACKLE_SSE4)))
#define CRACKLE_SUFFIX sse4
#include "kernels.h"
#else
typedef int crackle_no_sse4_here;
#endif
