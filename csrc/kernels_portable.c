/* The kernels for any machine. */
#define CRACKLE_LEVEL 0
#define CRACKLE_TARGET
#define CRACKLE_SUFFIX portable
#include "kernels.h"
