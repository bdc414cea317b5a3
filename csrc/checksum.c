/* Checksums: crc32c and the header's crc8. */
#include "tables.h"

uint32_t crackle_crc32c(uint32_t crc, const void *data, size_t size)
{
    return ~crackle_kernels()->crc32c(~crc, data, size);
}

/* Reflected polynomial 0xE7, initial value 0xFF, no final xor. */
uint8_t crackle_crc8(const void *data, size_t size)
{
    const uint8_t *p = data;
    uint8_t crc = 0xFF;
    for (size_t i = 0; i < size; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (uint8_t)((crc >> 1) ^ (crc & 1 ? 0xE7 : 0));
    }
    return crc;
}

/*
 * powers[x], x in [0, sx]: the factor by which a change of the component id
 * at pixel x of a row enters the crc32c register at the row's end,
 *
 *     sum over j = 1 .. sx - x of x^(32 j - 33)  mod P
 *
 * and powers[sx + 1]: x^(32 sx - 33), by which the register at the row's
 * start does. The missing x^33 comes back when a 64-bit carry-less product
 * is reduced by one crc step: x^32 from the step, x from the product of two
 * reflected words being one bit short.
 */
const uint32_t *crackle_crc_powers(struct crackle_workspace *ws, uint32_t sx)
{
    uint32_t *powers = ws->crc_powers.data;
    if (powers && ws->crc_powers_sx == sx)
        return powers;
    powers = crackle_reserve(&ws->crc_powers, ((size_t)sx + 2) * 4);
    if (!powers)
        return NULL;
    /* x^-1 mod P: (P + 1) / x, whose reflected form is P shifted up with
     * the x^32 term coming in at the bottom. */
    uint32_t power = (uint32_t)0x82F63B78u << 1 | 1;
    uint32_t sum = 0;
    powers[sx] = 0;
    for (uint32_t j = 1; j <= sx; j++) {
        sum ^= power;
        powers[sx - j] = sum;
        powers[sx + 1] = power;
        power = crackle_crc_word32(power);
    }
    ws->crc_powers_sx = sx;
    return powers;
}
