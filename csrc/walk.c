/* The walk in large slices. */
#include "internal.h"

uint64_t crackle_walk_bits(struct crackle_workspace *ws,
                           const struct crackle_moves *moves, bool *inside)
{
    const struct crackle_slice *slice = &ws->slice;
    const uint32_t sx = slice->sx, sy = slice->sy, pitch = sx + 1;
    const size_t words = slice->words;
    /* Chains yet to begin, and above them the branches of this one: to close
     * a branch and to begin the next chain is the same. */
    uint32_t *stack = moves->stack;
    uint64_t depth = moves->num_starts - 1;
    uint32_t x = stack[depth] % pitch, y = stack[depth] / pitch;
    *inside = true;
    for (uint64_t k = 0; k < moves->num_codes; k++) {
        const unsigned at = 2 * (k % 32);
        const unsigned direction = moves->words[k / 32] >> at & 3;
        const uint64_t mark = moves->marks[k / 32] >> at;
        if (mark & 1) {
            if (direction == 1 || direction == 2) { /* right, down: branch */
                stack[depth++] = x + pitch * y;
                continue;
            }
            if (depth == 0)
                return k;
            depth--;
            x = stack[depth] % pitch;
            y = stack[depth] / pitch;
            continue;
        }
        /* The first codepoint of a symbol is no move. */
        const uint64_t next = at < 62 ? mark >> 2 : moves->marks[k / 32 + 1];
        if (next & 1)
            continue;
        /* The pixel below the crack, or right of it. */
        const bool upright = !(direction & 1);
        const uint32_t px = x - (direction == 3), py = y - (direction == 0);
        if (px >= sx || py >= sy || (upright ? px : py) == 0) {
            *inside = false;
            return CRACKLE_WALK_ENDLESS;
        }
        uint64_t *bitmap = upright ? slice->left : slice->above;
        bitmap[py * words + px / 64] |= (uint64_t)1 << px % 64;
        x += (direction == 1) - (uint32_t)(direction == 3);
        y += (direction == 2) - (uint32_t)(direction == 0);
    }
    return CRACKLE_WALK_ENDLESS;
}
