/*
 * Choosing pins for the labels of a flat stream: few vertical lines that pass
 * through all components of a label.
 *
 * How far the label goes on below each pixel is kept in a plane while the
 * slices are read from the last to the first, so each component's deepest
 * column is known. Then, from the first slice on, a component that no pin
 * names yet gets one there: the greedy cover of intervals, which is best
 * where components follow each other one by one. Where it does not pay the
 * component is named alone. At last, pins are taken back whose components
 * the others name as well. The second option does the same upside down, too,
 * and takes for each label the better of the two.
 *
 * All from runs, read out of the stream; the array is not needed.
 */
#include "cover.h"

#include <stdlib.h>

/* A component's pixel whose column of the label is longest. */
struct reach {
    uint32_t depth, pixel;
};

struct sweep {
    const struct crackle_stream *flat;
    struct crackle_workspace *ws;
    struct cover_costs costs;
    uint64_t skip;                 /* label that needs no pins, if given */
    struct crackle_buffer plane;   /* uint32 by pixel */
    struct crackle_buffer runs[2]; /* of this slice and the one before */
    uint32_t num_runs[2];
    struct crackle_buffer down, up; /* struct reach by component */
    struct cover covers[2];
    struct crackle_error *error;
};

/* A run of the last slice that was read. */
struct seen_run {
    uint32_t start, label;
};

static void cover_free(struct cover *cover)
{
    free(cover->pins.data);
    free(cover->hits.data);
    free(cover->count.data);
    free(cover->active.data);
}

static void sweep_free(struct sweep *s)
{
    free(s->plane.data);
    free(s->runs[0].data);
    free(s->runs[1].data);
    free(s->down.data);
    free(s->up.data);
    cover_free(&s->covers[0]);
    cover_free(&s->covers[1]);
}

static void *zeroed(struct crackle_buffer *buffer, size_t size)
{
    void *data = crackle_reserve(buffer, size + 1);
    if (data)
        memset(data, 0, size);
    return data;
}

/* Compare the runs of slice z, just read, with those of the slice before it
 * in the sweep; 'first' if there is none. */
static int reach_slice(struct sweep *s, uint32_t z, bool first,
                       struct reach *best)
{
    const struct crackle_slice *slice = &s->ws->slice;
    const uint32_t n = slice->num_runs, pixels = slice->sx * slice->sy;
    const uint64_t component = s->flat->first_component[z];
    struct seen_run *here = crackle_reserve(&s->runs[z & 1],
                                            ((size_t)n + 1) * sizeof *here);
    if (!here)
        return CRACKLE_NO_MEMORY;
    for (uint32_t i = 0; i < n; i++) {
        here[i].start = slice->run_start[i];
        here[i].label = crackle_key(s->flat,
                                    component + slice->run_component[i]);
    }
    here[n].start = pixels;
    s->num_runs[z & 1] = n;
    for (uint32_t c = 0; c < slice->num_components; c++) {
        best[component + c].depth = 0;
        best[component + c].pixel = slice->run_start[slice->first_run[c]];
    }
    if (first)
        return CRACKLE_OK;
    const struct seen_run *next = s->runs[~z & 1].data;
    uint32_t *plane = s->plane.data;
    for (uint32_t i = 0, at = 0; i < n; i++) {
        struct reach *b = &best[component + slice->run_component[i]];
        const uint32_t run_end = here[i + 1].start, label = here[i].label;
        uint32_t deepest = b->depth, pixel = b->pixel;
        while (at < run_end) {
            const uint32_t next_end = next[1].start;
            const uint32_t end = run_end < next_end ? run_end : next_end;
            const uint32_t goes_on = 0u - (next->label == label);
            next += end == next_end;
            for (; at < end; at++) {
                uint32_t depth = (plane[at] + 1) & goes_on;
                plane[at] = depth;
                pixel = depth > deepest ? at : pixel;
                deepest = depth > deepest ? depth : deepest;
            }
        }
        b->depth = deepest;
        b->pixel = pixel;
    }
    return CRACKLE_OK;
}

static int add_pin(struct cover *cover, struct cover_pin pin)
{
    struct cover_pin *pins = crackle_reserve_keep(
        &cover->pins, (cover->num_pins + 1) * sizeof *pins);
    uint32_t *active = crackle_reserve_keep(
        &cover->active, (cover->num_active + 1) * sizeof *active);
    uint32_t *hits = crackle_reserve_keep(
        &cover->hits,
        (size_t)(cover->num_hits + pin.depth + 1) * sizeof *hits);
    if (!pins || !active || !hits || cover->num_pins == UINT32_MAX)
        return CRACKLE_NO_MEMORY;
    pin.hits = cover->num_hits;
    cover->num_hits += (uint64_t)pin.depth + 1;
    active[cover->num_active++] = (uint32_t)cover->num_pins;
    pins[cover->num_pins++] = pin;
    return CRACKLE_OK;
}

/* Cover slice z, just read: with the pins that reach it, and new ones, which
 * go on downward, or upward. */
static int cover_slice(struct sweep *s, uint32_t z, bool upward,
                       struct cover *cover)
{
    const struct crackle_slice *slice = &s->ws->slice;
    const uint32_t base = (uint32_t)s->flat->first_component[z];
    const struct reach *best = upward ? s->up.data : s->down.data;
    uint16_t *count = cover->count.data;
    for (uint32_t c = base; c < base + slice->num_components; c++) {
        if (c == base) /* those that were begun before */
            for (size_t i = 0; i < cover->num_active;) {
                uint32_t *active = cover->active.data;
                const struct cover_pin *pin =
                    (struct cover_pin *)cover->pins.data + active[i];
                uint32_t id = base + crackle_component_at(slice, pin->pixel);
                uint32_t *hits = cover->hits.data;
                hits[pin->hits + (z - pin->z)] = id;
                if (count[id] < UINT16_MAX)
                    count[id]++;
                if (z == (upward ? pin->z : pin->z + pin->depth))
                    active[i] = active[--cover->num_active];
                else
                    i++;
            }
        const uint32_t label = crackle_key(s->flat, c);
        if (count[c] || label == s->skip)
            continue;
        const uint32_t depth = best[c].depth;
        if (((uint64_t)depth + 1) * s->costs.id <=
            s->costs.index + s->costs.depth)
            continue;
        struct cover_pin pin = {best[c].pixel, upward ? z - depth : z, depth,
                                label, 0};
        int status = add_pin(cover, pin);
        if (status)
            return status;
        uint32_t *hits = cover->hits.data;
        hits[cover->num_hits - 1 - (upward ? 0 : depth)] = c;
        count[c] = 1;
    }
    return CRACKLE_OK;
}

/* Take back pins that name few components alone, the short ones first. */
static int cover_prune(const struct sweep *s, struct cover *cover)
{
    const size_t n = cover->num_pins;
    const uint32_t *hits = cover->hits.data;
    uint16_t *count = cover->count.data;
    struct cover_pin *pins = cover->pins.data;
    struct crackle_item *items = malloc((2 * n + 1) * sizeof *items);
    if (!items)
        return CRACKLE_NO_MEMORY;
    for (size_t i = 0; i < n; i++) {
        items[i].key = pins[i].depth;
        items[i].value = (uint32_t)i;
    }
    crackle_sort(items, items + n, n);
    for (size_t i = 0; i < n; i++) {
        struct cover_pin *pin = &pins[items[i].value];
        uint64_t alone = 0;
        bool full = false; /* counts that no longer tell */
        for (uint64_t h = pin->hits; h <= pin->hits + pin->depth; h++) {
            alone += count[hits[h]] == 1;
            full |= count[hits[h]] == UINT16_MAX;
        }
        if (full || alone * s->costs.id > s->costs.index + s->costs.depth)
            continue;
        for (uint64_t h = pin->hits; h <= pin->hits + pin->depth; h++)
            count[hits[h]]--;
        pin->label = CRACKLE_DROPPED;
    }
    free(items);
    return CRACKLE_OK;
}

/* What each label costs with a cover. */
static void cover_costs(const struct sweep *s, const struct cover *cover,
                        uint64_t *cost)
{
    const struct cover_pin *pins = cover->pins.data;
    const uint16_t *count = cover->count.data;
    const uint64_t n = s->flat->first_component[s->flat->header.sz];
    for (size_t i = 0; i < cover->num_pins; i++)
        if (pins[i].label != CRACKLE_DROPPED)
            cost[pins[i].label] += s->costs.index + s->costs.depth;
    for (uint64_t c = 0; c < n; c++)
        if (!count[c])
            cost[crackle_key(s->flat, c)] += s->costs.id;
}

/* Choose a cover for each label, and the background. */
static int choose(const struct sweep *s, int effort, uint8_t *by_label,
                  struct cover_choice *choice)
{
    const size_t labels = (size_t)s->flat->num_unique;
    uint64_t *cost = calloc(2 * labels + 1, sizeof *cost);
    if (!cost)
        return CRACKLE_NO_MEMORY;
    for (size_t i = 0; i < (size_t)effort; i++) {
        cover_costs(s, &s->covers[i], cost + i * labels);
        choice->covers[i] = &s->covers[i];
    }
    uint64_t most = 0;
    choice->background = 0;
    for (size_t k = 0; k < labels; k++) {
        uint64_t best = cost[k];
        by_label[k] = effort > 1 && cost[labels + k] < best;
        if (by_label[k])
            best = cost[labels + k];
        if (best > most) {
            most = best;
            choice->background = (uint32_t)k;
        }
    }
    if (s->skip < labels)
        choice->background = (uint32_t)s->skip;
    choice->by_label = by_label;
    free(cost);
    return CRACKLE_OK;
}

/* Read slice z. */
static int read_slice(struct sweep *s, uint32_t z)
{
    return crackle_components_read(s->flat, s->ws, z, s->error);
}

static int sweeps(struct sweep *s, int effort)
{
    const uint32_t sz = s->flat->header.sz;
    int status = CRACKLE_OK;
    for (uint32_t z = sz; z-- > 0 && !status;) {
        status = read_slice(s, z);
        if (!status)
            status = reach_slice(s, z, z + 1 == sz, s->down.data);
    }
    crackle_moves_ahead(s->ws, 0, sz, NULL);
    if (!status)
        memset(s->plane.data, 0, s->plane.size);
    for (uint32_t z = 0; z < sz && !status; z++) {
        status = read_slice(s, z);
        if (!status)
            status = cover_slice(s, z, false, &s->covers[0]);
        if (!status && effort > 1)
            status = reach_slice(s, z, z == 0, s->up.data);
    }
    crackle_moves_ahead(s->ws, 0, 0, NULL);
    for (uint32_t z = sz; effort > 1 && z-- > 0 && !status;) {
        status = read_slice(s, z);
        if (!status)
            status = cover_slice(s, z, true, &s->covers[1]);
    }
    for (int i = 0; i < effort && !status; i++)
        status = cover_prune(s, &s->covers[i]);
    return status;
}

int crackle_pin(const struct crackle_stream *flat,
                struct crackle_workspace *ws, int effort,
                const uint64_t *background, uint8_t **stream, size_t *size,
                struct crackle_error *error)
{
    const struct crackle_header *header = &flat->header;
    *stream = NULL;
    *size = 0;
    if (effort < 1 || effort > 2)
        return crackle_fail(error, CRACKLE_BAD_ARGUMENT, CRACKLE_SECTION_NONE,
                            -1, "the effort is neither 1 nor 2");
    if (header->version != 1 || header->label_format != CRACKLE_LABELS_FLAT ||
        header->sz < 2 || header->permissible || header->is_signed ||
        !flat->first_component || flat->num_unique == 0 ||
        flat->num_unique >= UINT32_MAX ||
        flat->first_component[header->sz] >= UINT32_MAX)
        return CRACKLE_OK;

    int status = crackle_walk_prepare(ws, header->sx, header->sy, error);
    if (status)
        return status;
    const size_t n = (size_t)flat->first_component[header->sz];
    const uint64_t pixels = (uint64_t)header->sx * header->sy;
    struct sweep s = {.flat = flat, .ws = ws, .skip = UINT64_MAX};
    s.error = error;
    s.costs.index = crackle_width(pixels * header->sz);
    s.costs.depth = crackle_width(header->sz - 1 < 256 ? 1 : 256);
    s.costs.id = crackle_width(n - 1);
    for (uint64_t k = 0; background && k < flat->num_unique; k++)
        if (crackle_load(flat->unique + k * header->stored_width,
                         header->stored_width) == *background)
            s.skip = k;
    uint8_t *by_label = calloc((size_t)flat->num_unique, 1);
    status = CRACKLE_NO_MEMORY;
    if (!by_label || !zeroed(&s.plane, (size_t)pixels * 4) ||
        !crackle_reserve(&s.down, n * sizeof(struct reach)) ||
        !zeroed(&s.covers[0].count, n * 2) ||
        (effort > 1 && (!crackle_reserve(&s.up, n * sizeof(struct reach)) ||
                        !zeroed(&s.covers[1].count, n * 2))))
        goto done;
    for (uint64_t c = 0; c < n; c++)
        if (crackle_key(flat, c) >= flat->num_unique) {
            status = crackle_fail(error, CRACKLE_CORRUPT,
                                  CRACKLE_SECTION_LABELS, -1,
                                  "a component's key is not in the table of "
                                  "labels");
            goto done;
        }
    status = sweeps(&s, effort);
    struct cover_choice choice = {{NULL, NULL}, NULL, 0};
    if (!status)
        status = choose(&s, effort, by_label, &choice);
    if (!status)
        status = crackle_pins_write(flat, &choice, stream, size);
done:
    free(by_label);
    sweep_free(&s);
    return status == CRACKLE_NO_MEMORY ? CRACKLE_NOMEM(error) : status;
}
