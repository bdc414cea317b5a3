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

int crackle_crc_powers(struct crackle_workspace *ws, uint32_t sx, uint32_t sy,
                       struct crackle_error *error)
{
    struct crackle_crc_powers *powers = &ws->crc_powers;
    const uint32_t rows = crackle_block_rows(sx, sy);
    const uint32_t pixels = rows * sx;
    if (powers->sx == sx && powers->rows == rows)
        return CRACKLE_OK;
    powers->sx = 0;
    uint32_t *factor = crackle_reserve(&powers->buffer,
                                       ((size_t)pixels + rows + 2) * 4);
    if (!factor)
        return CRACKLE_NOMEM(error);
    powers->state = factor + pixels + 1;
    /* x^-1 mod P: (P + 1) / x, whose reflected form is P shifted up with
     * the x^32 term coming in at the bottom. */
    uint32_t power = (uint32_t)0x82F63B78u << 1 | 1;
    uint32_t sum = 0, row = 0;
    factor[pixels] = 0;
    for (uint32_t j = 1; j <= pixels; j++) {
        sum ^= power;
        factor[pixels - j] = sum;
        if (j % sx == 0)
            powers->state[++row] = power;
        power = crackle_crc_word32(power);
    }
    powers->sx = sx;
    powers->rows = rows;
    return CRACKLE_OK;
}
