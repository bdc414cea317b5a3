/* Arithmetic and tables behind the kernels. crc32c is bit-reflected: the
 * highest bit of a word is the coefficient of x^0. */
#ifndef CRACKLE_TABLES_H
#define CRACKLE_TABLES_H

#include "internal.h"

/* crackle_crc_table[k][b]: the crc32c register after byte b and k zero
 * bytes, from 0 (slicing by 8). */
extern const uint32_t crackle_crc_table[8][256];

/* crackle_lanes[b], byte j: how many of the bits 1 .. j of b are set. With
 * bit set where a run starts, that is the run of pixel j among those that
 * touch the 8 pixels. */
extern const uint64_t crackle_lanes[256];

/* The register after the 8 bytes of v, from 0: v * x^32 mod P. */
CRACKLE_INLINE uint32_t crackle_crc_word64(uint64_t v)
{
    const uint32_t (*t)[256] = crackle_crc_table;
    return t[7][v & 255] ^ t[6][v >> 8 & 255] ^ t[5][v >> 16 & 255] ^
           t[4][v >> 24 & 255] ^ t[3][v >> 32 & 255] ^ t[2][v >> 40 & 255] ^
           t[1][v >> 48 & 255] ^ t[0][v >> 56];
}

/* The register after the 4 bytes of v, from 0: v * x^32 mod P. */
CRACKLE_INLINE uint32_t crackle_crc_word32(uint32_t v)
{
    const uint32_t (*t)[256] = crackle_crc_table;
    return t[3][v & 255] ^ t[2][v >> 8 & 255] ^ t[1][v >> 16 & 255] ^
           t[0][v >> 24];
}

#endif /* CRACKLE_TABLES_H */
