/* Scratch memory, and the slice that lies in it. */
#include "internal.h"

#include <stdlib.h>

static void *resize(struct crackle_buffer *buffer, size_t size)
{
    void *data = realloc(buffer->data, size);
    if (!data)
        return NULL;
    buffer->data = data;
    buffer->size = size;
    return data;
}

void *crackle_reserve_keep(struct crackle_buffer *buffer, size_t size)
{
    if (size <= buffer->size && buffer->data)
        return buffer->data;
    return resize(buffer, size + size / 4 + 64); /* more will come */
}

void *crackle_reserve(struct crackle_buffer *buffer, size_t size)
{
    if (size <= buffer->size && buffer->data)
        return buffer->data;
    free(buffer->data);
    buffer->data = NULL;
    buffer->size = 0;
    return resize(buffer, size + 64);
}

/* Every buffer of a workspace, to free or to count them. */
/* clang-format off */
#define CRACKLE_BUFFERS(ws)                                                   \
    {                                                                         \
        &(ws)->cracks, &(ws)->codes, &(ws)->marks, &(ws)->stack,              \
            &(ws)->left, &(ws)->above, &(ws)->word_run,                       \
            &(ws)->run_component, &(ws)->run_start, &(ws)->first_run,         \
            &(ws)->row, &(ws)->crc_powers.buffer,                             \
            &(ws)->values, &(ws)->block, &(ws)->tile, &(ws)->flags,           \
            &(ws)->sort, &(ws)->ahead.words,                                  \
            &(ws)->traces[0].adjacency, &(ws)->traces[0].stack,               \
            &(ws)->traces[0].codes, &(ws)->traces[0].chains,                  \
            &(ws)->traces[1].adjacency, &(ws)->traces[1].stack,               \
            &(ws)->traces[1].codes, &(ws)->traces[1].chains,                  \
            &(ws)->layers[0].rows, &(ws)->layers[0].starts,                   \
            &(ws)->layers[0].components, &(ws)->layers[0].values,             \
            &(ws)->layers[1].rows, &(ws)->layers[1].starts,                   \
            &(ws)->layers[1].components, &(ws)->layers[1].values,             \
            &(ws)->borders                                                    \
    }
/* clang-format on */
#define CRACKLE_NUM_BUFFERS 35

struct crackle_workspace *crackle_workspace_new(void)
{
    return calloc(1, sizeof(struct crackle_workspace));
}

void crackle_workspace_free(struct crackle_workspace *ws)
{
    if (!ws)
        return;
    struct crackle_buffer *buffers[] = CRACKLE_BUFFERS(ws);
    for (int i = 0; i < CRACKLE_NUM_BUFFERS; i++)
        free(buffers[i]->data);
    free(ws);
}

size_t crackle_workspace_bytes(const struct crackle_workspace *ws)
{
    const struct crackle_buffer *buffers[] = CRACKLE_BUFFERS(ws);
    size_t bytes = sizeof *ws;
    for (int i = 0; i < CRACKLE_NUM_BUFFERS; i++)
        bytes += buffers[i]->size;
    return bytes;
}

int crackle_slice_reserve(struct crackle_workspace *ws, uint32_t sx,
                          uint32_t sy, struct crackle_error *error)
{
    struct crackle_slice *slice = &ws->slice;
    size_t pixels = (size_t)sx * sy;
    uint32_t words = (uint32_t)(((uint64_t)sx + 63) / 64);
    size_t bitmap = (size_t)words * sy * 8;

    slice->sx = sx;
    slice->sy = sy;
    slice->words = words;
    slice->left = crackle_reserve(&ws->left, bitmap);
    slice->above = crackle_reserve(&ws->above, bitmap);
    slice->word_run = crackle_reserve(&ws->word_run, bitmap / 2 + 4);
    slice->run_component = crackle_reserve(&ws->run_component, pixels * 4 + 4);
    slice->run_start = crackle_reserve(&ws->run_start, pixels * 4 + 32);
    slice->first_run = crackle_reserve(&ws->first_run, pixels * 4 + 4);
    if (!slice->left || !slice->above || !slice->word_run ||
        !slice->run_component || !slice->run_start || !slice->first_run ||
        !crackle_reserve(&ws->row, CRACKLE_ROW_BYTES(sx)))
        return CRACKLE_NOMEM(error);
    return CRACKLE_OK;
}

void crackle_flip(struct crackle_slice *slice)
{
    const uint64_t last = slice->sx % 64 ? ((uint64_t)1 << slice->sx % 64) - 1
                                         : ~(uint64_t)0;
    for (uint32_t y = 0; y < slice->sy; y++) {
        uint64_t *left = slice->left + (size_t)y * slice->words;
        uint64_t *above = slice->above + (size_t)y * slice->words;
        for (uint32_t w = 0; w < slice->words; w++) {
            left[w] = ~left[w];
            above[w] = y ? ~above[w] : 0;
        }
        left[slice->words - 1] &= last;
        above[slice->words - 1] &= last;
        left[0] &= ~(uint64_t)1;
    }
}
