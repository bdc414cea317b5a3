/* The kernels for x86-64 with AVX2 and BMI. */
#include "internal.h"
#if CRACKLE_X86
#define CRACKLE_LEVEL 2
#define CRACKLE_TARGET __attribute__((target(CRACKLE_SSE4 ",avx2,bmi,bmi2")))
#define CRACKLE_SUFFIX avx2
#include "kernels.h"
#else
typedef int crackle_no_avx2_here;
#endif
