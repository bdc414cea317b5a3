/* Fuzz target: edits. What is written anew decodes to what the edit means. */
#include "common.h"

#include <stdlib.h>
#include <string.h>

/* New labels for groups: each once, and within the width. */
static uint64_t new_label(uint32_t group, unsigned width, bool is_signed,
                          uint8_t choice)
{
    uint64_t v = choice & 1 ? (uint64_t)group * 37 + choice : ~(uint64_t)group;
    const unsigned shift = 64 - 8 * width;
    v <<= shift;
    return is_signed ? (uint64_t)((int64_t)v >> shift) : v >> shift;
}

static void edit_recode(const struct fuzz_stream *s,
                        const struct fuzz_volume *v,
                        struct fuzz_choices *choices)
{
    const struct crackle_header *header = s->header;
    const uint8_t flags = fuzz_choose(choices), names = fuzz_choose(choices);
    const uint32_t split =
        (uint32_t)(fuzz_choose(choices) % ((uint64_t)header->sz + 1));
    struct fuzz_groups groups;
    fuzz_groups_make(choices, true, s, &groups);
    uint32_t most = groups.count; /* labels that a group may be given */

    struct crackle_params params;
    memset(&params, 0, sizeof params);
    params.sx = header->sx;
    params.sy = header->sy;
    params.sz = header->sz;
    params.is_signed = flags >> 1 & 1;
    params.fortran_order = flags >> 2 & 1;
    params.remapped = header->remapped;
    params.any_format = 1;
    /* The tables of higher orders take more memory than a fuzzer has. */
    const uint8_t order = fuzz_choose(choices) % 8;
    params.markov_order = order == 7 ? CRACKLE_MARKOV_AUTO : order;
    params.data_width = (uint8_t)(1u << (flags >> 3 & 3));
    while ((uint64_t)most + 1 > (uint64_t)1 << (8 * params.data_width - 1))
        params.data_width *= 2;

    uint64_t *labels = fuzz_new((most + 1) * sizeof *labels);
    for (uint32_t g = 0; g <= most; g++)
        labels[g] = new_label(g, params.data_width, params.is_signed, 0);
    if (names & 1 && ((uint64_t)most + 1) * 37 + 255 <
                         (uint64_t)1 << (8 * params.data_width - 1))
        for (uint32_t g = 0; g <= most; g++)
            labels[g] = new_label(g, params.data_width, params.is_signed,
                                  names);

    /* By component: as the entries of the components' keys have it, but with
     * 'odd' every fifth component is given a label of its own. */
    const uint64_t *first = crackle_first_components(s->stream);
    const uint64_t n = first ? first[header->sz] : 0;
    struct crackle_recode how = {labels, groups.of_entry, 0, 0};
    how.drop_borders = flags >> 5 & 1;
    how.by_component = n <= FUZZ_MOST_VOXELS && flags >> 6 & 1;
    const bool odd = how.by_component && names >> 1 & 1;
    uint32_t *of_component = NULL;
    if (how.by_component) {
        struct crackle_error error = {0, 0, 0, NULL};
        struct crackle_workspace *ws = crackle_workspace_new();
        of_component = fuzz_new((size_t)n * sizeof *of_component);
        const int status = crackle_keys(s->stream, ws, 0, header->sz,
                                        of_component, &error);
        fuzz_check_status(status, &error);
        FUZZ_CHECK(!v->label || status == CRACKLE_OK);
        for (uint64_t i = 0; i < n; i++)
            of_component[i] = status ? 0
                              : odd && i % 5 == 0
                                  ? most
                                  : groups.of_entry[of_component[i]];
        crackle_workspace_free(ws);
        how.group = of_component;
    }

    uint8_t *data;
    size_t size;
    const int status = fuzz_recode(&params, s, &how, split, flags & 1, &data,
                                   &size);
    FUZZ_CHECK((status == CRACKLE_OK) == (v->label != NULL));
    if (!status) {
        FUZZ_CHECK(data);
        struct fuzz_volume edited = *v;
        edited.label = fuzz_new((size_t)v->voxels * sizeof *edited.label);
        for (uint64_t i = 0; i < v->voxels; i++)
            edited.label[i] = labels[fuzz_group(&groups, v->label[i])];
        if (odd) {
            /* Which voxels a component has is known to no other call: only
             * that the stream is sound is checked. */
            struct fuzz_stream made;
            struct fuzz_volume back;
            FUZZ_CHECK(fuzz_open(data, size, &made));
            FUZZ_CHECK(fuzz_decode(&made, &back) == CRACKLE_OK);
            for (uint64_t i = 0; i < v->voxels; i++)
                FUZZ_CHECK(back.label[i] == edited.label[i] ||
                           back.label[i] == labels[most]);
            fuzz_volume_free(&back);
            fuzz_close(&made);
        } else {
            fuzz_check_stream(data, size, &edited, choices);
        }
        fuzz_free(edited.label);
        crackle_free(data);
    }
    fuzz_free(of_component);
    fuzz_free(labels);
    fuzz_groups_free(&groups);
}

static void edit_pin(const struct fuzz_stream *s, const struct fuzz_volume *v,
                     struct fuzz_choices *choices)
{
    const uint8_t choice = fuzz_choose(choices);
    uint64_t background = choice;
    if (s->entries && choice < 192)
        background = s->entry[choice % s->entries];
    struct crackle_workspace *ws = crackle_workspace_new();
    struct crackle_error error = {0, 0, 0, NULL};
    uint8_t *data = NULL;
    size_t size = 0;
    int status = crackle_pin(s->stream, ws, 1 + (choice & 1),
                             choice & 2 ? &background : NULL, &data, &size,
                             &error);
    fuzz_check_status(status, &error);
    FUZZ_CHECK(status != CRACKLE_BAD_ARGUMENT);
    FUZZ_CHECK(!status || !data);
    FUZZ_CHECK(!v->label || status == CRACKLE_OK);
    if (data && v->label) {
        fuzz_check_stream(data, size, v, choices);
        struct fuzz_stream pinned;
        FUZZ_CHECK(fuzz_open(data, size, &pinned));
        FUZZ_CHECK(pinned.header->label_format == CRACKLE_LABELS_PINS);
        uint8_t *again = NULL;
        FUZZ_CHECK(crackle_pin(pinned.stream, ws, 1, NULL, &again, &size,
                               &error) == CRACKLE_OK);
        FUZZ_CHECK(!again);
        fuzz_close(&pinned);
    }
    crackle_free(data);
    crackle_workspace_free(ws);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input;
    if (!fuzz_split(data, size, &input))
        return 0;
    fuzz_choose_cpu(&input.choices);
    struct fuzz_stream s;
    struct fuzz_volume v;
    if (!fuzz_open(input.data[0], input.size[0], &s))
        return 0;
    fuzz_decode(&s, &v);
    edit_pin(&s, &v, &input.choices);
    edit_recode(&s, &v, &input.choices);
    fuzz_volume_free(&v);
    fuzz_close(&s);
    return 0;
}
