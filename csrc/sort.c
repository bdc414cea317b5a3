/* A stable radix sort, a byte of the key at a time. */
#include "internal.h"

void crackle_sort(struct crackle_item *items, struct crackle_item *scratch,
                  size_t count)
{
    struct crackle_item *from = items, *to = scratch;
    uint64_t differ = 0;
    bool sorted = true;
    for (size_t i = 1; i < count; i++) {
        differ |= items[i].key ^ items[0].key;
        sorted &= items[i - 1].key <= items[i].key;
    }
    if (sorted)
        return;
    for (unsigned shift = 0; shift < 64; shift += 8) {
        if (!(differ >> shift & 255))
            continue;
        size_t place[256] = {0}, sum = 0;
        for (size_t i = 0; i < count; i++)
            place[from[i].key >> shift & 255]++;
        for (unsigned b = 0; b < 256; b++) {
            size_t n = place[b];
            place[b] = sum;
            sum += n;
        }
        for (size_t i = 0; i < count; i++)
            to[place[from[i].key >> shift & 255]++] = from[i];
        struct crackle_item *swap = from;
        from = to;
        to = swap;
    }
    if (from != items)
        memcpy(items, from, count * sizeof *items);
}
