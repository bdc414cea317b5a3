/*
 * Memory that runs out, wherever it may. Each call of the library is made
 * again and again, each time with another one of its allocations failing, and
 * then with all that follow: it must say so, or do without and give the same.
 * AddressSanitizer sees what is lost or used all the same.
 *
 *     memory STREAM...
 *
 * Linked with --wrap for malloc, calloc and realloc.
 */
#include "common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- allocations ---- */

/* How many there were since the call began, and which of them fails: that one,
 * or with 'for_good' all that follow, too. */
static bool counting, for_good;
static uint64_t allocations, failing;

/* The linker's names.
 * NOLINTBEGIN(bugprone-*,cert-*,misc-*) */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *pointer, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *pointer, size_t size);

static bool fails(void)
{
    if (!counting)
        return false;
    const uint64_t which = allocations++;
    return which == failing || (for_good && which > failing);
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *pointer, size_t size)
{
    return fails() ? NULL : __real_realloc(pointer, size);
}
/* NOLINTEND(bugprone-*,cert-*,misc-*) */

/* Memory of this file's own, which never fails. */
static void *own(size_t size)
{
    counting = false;
    void *p = fuzz_new(size);
    counting = true;
    return p;
}

/* ---- what is called ---- */

/* A stream, what it decodes to, and all entries of its table of labels, each
 * a group of its own. */
struct subject {
    const uint8_t *data;
    size_t size;
    struct fuzz_stream s;
    const struct crackle_header *header;
    uint8_t *array;
    size_t array_size;
    uint32_t *group;
    uint64_t components;
};

/* One call: its status, and in '*crc' what came of it. */
struct call {
    const struct subject *on;
    struct crackle_workspace *ws, *other;
    struct crackle_error error;
    uint32_t crc;
};

static void add(struct call *c, const void *data, size_t size)
{
    c->crc = crackle_crc32c(c->crc, data, size);
}

/* What the library made, taken over. */
static int taken(struct call *c, int status, void *made, size_t size)
{
    FUZZ_CHECK(!status || !made);
    if (made)
        add(c, made, size);
    crackle_free(made);
    return status;
}

static int call_open(struct call *c)
{
    struct crackle_stream *stream;
    int status = crackle_open(c->on->data, c->on->size, &stream, NULL,
                              &c->error);
    FUZZ_CHECK((status == CRACKLE_OK) == (stream != NULL));
    crackle_close(stream);
    return status;
}

static int decode(struct call *c, const uint64_t *label, int c_order)
{
    const struct subject *on = c->on;
    const size_t size = label ? (size_t)on->s.voxels : on->array_size;
    uint8_t *out = own(size);
    int status = crackle_decode(on->s.stream, c->ws, 0, on->header->sz, label,
                                out, size, 0, on->header->sz, c_order,
                                &c->error);
    add(c, out, status ? 0 : size);
    fuzz_free(out);
    return status;
}

static int call_decode(struct call *c)
{
    return decode(c, NULL, 0);
}

static int call_decode_c_order(struct call *c)
{
    return decode(c, NULL, 1);
}

static int call_mask(struct call *c)
{
    return decode(c, c->on->s.entry, 0);
}

static int call_check(struct call *c)
{
    uint8_t *damaged = own(c->on->header->sz);
    int status = crackle_check_slices(c->on->s.stream, c->ws, 0,
                                      c->on->header->sz, damaged, &c->error);
    add(c, damaged, status ? 0 : c->on->header->sz);
    fuzz_free(damaged);
    return status;
}

static int call_labels(struct call *c)
{
    const struct subject *on = c->on;
    uint8_t *used = own((size_t)on->s.entries);
    uint8_t *flags = own(on->header->sz);
    uint64_t components;
    int exact;
    memset(used, 0, (size_t)on->s.entries);
    int status = crackle_labels_in(on->s.stream, 0, on->header->sz, used,
                                   &components, &exact, &c->error);
    if (!status)
        status = crackle_slices_with(on->s.stream, on->s.entry[0], 0,
                                     on->header->sz, flags, &exact, &c->error);
    add(c, used, status ? 0 : (size_t)on->s.entries);
    add(c, flags, status ? 0 : on->header->sz);
    fuzz_free(used);
    fuzz_free(flags);
    return status;
}

static int call_measure(struct call *c)
{
    const struct subject *on = c->on;
    const size_t n = (size_t)on->s.entries;
    uint64_t *counts = own(n * sizeof *counts);
    uint64_t *sums = own(3 * n * sizeof *sums);
    uint32_t *boxes = own(6 * n * sizeof *boxes);
    memset(counts, 0, n * sizeof *counts);
    memset(sums, 0, 3 * n * sizeof *sums);
    int status = crackle_measure(on->s.stream, c->ws, 0, on->header->sz, NULL,
                                 on->group, counts, boxes, sums, &c->error);
    add(c, counts, status ? 0 : n * sizeof *counts);
    add(c, sums, status ? 0 : 3 * n * sizeof *sums);
    fuzz_free(counts);
    fuzz_free(sums);
    fuzz_free(boxes);
    return status;
}

static int call_contacts(struct call *c)
{
    struct crackle_pair *pairs = NULL;
    size_t n = 0;
    int status = crackle_contacts(c->on->s.stream, c->ws, 0, c->on->header->sz,
                                  c->on->group, &pairs, &n, &c->error);
    return taken(c, status, pairs, n * sizeof *pairs);
}

static int call_overlay(struct call *c)
{
    const struct subject *on = c->on;
    struct crackle_pair *pairs = NULL;
    size_t n = 0;
    int status = crackle_overlay(on->s.stream, c->ws, on->group, on->s.stream,
                                 c->other, on->group, 0, on->header->sz, 0,
                                 &pairs, &n, &c->error);
    return taken(c, status, pairs, n * sizeof *pairs);
}

static int call_same_borders(struct call *c)
{
    const struct subject *on = c->on;
    int same = 0;
    int status = crackle_same_borders(on->s.stream, c->ws, on->group,
                                      on->s.stream, c->other, on->group, 0,
                                      on->header->sz, &same, &c->error);
    FUZZ_CHECK(status || same);
    return status;
}

static int call_surface(struct call *c)
{
    const struct subject *on = c->on;
    const size_t size = (size_t)on->s.entries * sizeof(uint64_t);
    uint64_t *cursor = own(size);
    memset(cursor, 0, size);
    int status = crackle_surface(on->s.stream, c->ws, 0, on->header->sz,
                                 on->group, cursor, NULL, 0, 2, &c->error);
    add(c, cursor, status ? 0 : size);
    fuzz_free(cursor);
    return status;
}

static int call_graph(struct call *c)
{
    const struct subject *on = c->on;
    uint8_t *out = own((size_t)on->s.voxels);
    int status = crackle_connectivity_graph(on->s.stream, c->ws, 0,
                                            on->header->sz, on->group, 6, out,
                                            (size_t)on->s.voxels, &c->error);
    add(c, out, status ? 0 : (size_t)on->s.voxels);
    fuzz_free(out);
    return status;
}

static int call_link(struct call *c)
{
    const struct subject *on = c->on;
    const size_t size = (size_t)on->components * sizeof(uint32_t);
    uint32_t *parent = own(size);
    for (uint32_t i = 0; i < on->components; i++)
        parent[i] = i;
    int status = crackle_link(on->s.stream, c->ws, 0, on->header->sz,
                              on->group, 26, parent, &c->error);
    add(c, parent, status ? 0 : size);
    fuzz_free(parent);
    return status;
}

static int call_keys(struct call *c)
{
    const struct subject *on = c->on;
    const size_t size = (size_t)on->components * sizeof(uint32_t);
    const uint32_t z = on->header->sz - 1, pixel = (uint32_t)on->s.pixels - 1;
    uint32_t *keys = own(size), key = 0;
    uint32_t *crcs = own(on->header->sz * sizeof *crcs);
    int status = crackle_keys(on->s.stream, c->ws, 0, on->header->sz, keys,
                              &c->error);
    if (!status)
        status = crackle_points(on->s.stream, c->ws, 1, &z, &pixel, &key,
                                &c->error);
    if (!status)
        status = crackle_component_checksums(on->s.stream, c->ws, 0,
                                             on->header->sz, crcs, &c->error);
    add(c, keys, status ? 0 : size);
    add(c, crcs, status ? 0 : on->header->sz * sizeof *crcs);
    fuzz_free(keys);
    fuzz_free(crcs);
    return status;
}

/* Code the array, or the stream anew, in two parts, and join them. */
static int encode(struct call *c, bool recode, uint8_t markov_order)
{
    const struct subject *on = c->on;
    const struct crackle_header *header = on->header;
    const struct crackle_recode how = {on->s.entry, on->group, 0, 0};
    struct crackle_params params = fuzz_params(header);
    params.markov_order = markov_order;
    params.any_format = 1;
    struct crackle_part *parts[2] = {NULL, NULL};
    int status = CRACKLE_OK;
    for (uint32_t i = 0; i < 2 && !status; i++) {
        const uint32_t z0 = i * (header->sz / 2);
        const uint32_t z1 = i ? header->sz : header->sz / 2;
        parts[i] = recode ? crackle_recode_part(&params, on->s.stream, &how,
                                                z0, z1, 0, c->ws, &c->error)
                          : crackle_encode_part(&params, on->array, z0, z1, 0,
                                                c->ws, &c->error);
        if (!parts[i])
            status = c->error.status;
    }
    uint8_t *made = NULL;
    size_t size = 0;
    if (!status)
        status = crackle_join(&params, parts, 2, 0, &made, &size, &c->error);
    crackle_part_free(parts[0]);
    crackle_part_free(parts[1]);
    return taken(c, status, made, size);
}

static int call_encode(struct call *c)
{
    return encode(c, false, 0);
}

static int call_encode_auto(struct call *c)
{
    return encode(c, false, CRACKLE_MARKOV_AUTO);
}

/* An order whose model is too large to be made by tables. */
static int call_encode_sparse(struct call *c)
{
    return encode(c, false, 11);
}

static int call_recode(struct call *c)
{
    return encode(c, true, 2);
}

static int call_pin(struct call *c)
{
    uint8_t *made = NULL;
    size_t size = 0;
    int status = crackle_pin(c->on->s.stream, c->ws, 2, NULL, &made, &size,
                             &c->error);
    return taken(c, status, made, size);
}

static const struct {
    const char *name;
    int (*call)(struct call *c);
} calls[] = {
    {"open", call_open},
    {"decode", call_decode},
    {"decode in C order", call_decode_c_order},
    {"mask", call_mask},
    {"check", call_check},
    {"labels", call_labels},
    {"measure", call_measure},
    {"contacts", call_contacts},
    {"overlay", call_overlay},
    {"same borders", call_same_borders},
    {"surface", call_surface},
    {"connectivity graph", call_graph},
    {"link", call_link},
    {"keys", call_keys},
    {"encode", call_encode},
    {"encode, best order", call_encode_auto},
    {"encode, high order", call_encode_sparse},
    {"recode", call_recode},
    {"pin", call_pin},
};

/* ---- one after the other ---- */

/* Make a call with scratch memory of its own, of whose allocations, from 0,
 * 'which' fails. */
static int make_call(const struct subject *on, size_t i, uint64_t which,
                     uint32_t *crc)
{
    struct call c = {on, NULL, NULL, {0, 0, 0, NULL}, 0};
    int status = CRACKLE_NO_MEMORY;
    allocations = 0;
    failing = which;
    counting = true;
    c.ws = crackle_workspace_new();
    c.other = crackle_workspace_new();
    if (c.ws && c.other) {
        status = calls[i].call(&c);
        FUZZ_CHECK(!status || c.error.status == status);
    }
    counting = false;
    crackle_workspace_free(c.ws);
    crackle_workspace_free(c.other);
    *crc = c.crc;
    return status;
}

/* How often an allocation failed. */
static uint64_t exhaust(const struct subject *on, size_t i)
{
    uint32_t expected, crc;
    FUZZ_CHECK(make_call(on, i, UINT64_MAX, &expected) == CRACKLE_OK);
    const uint64_t total = allocations;
    for (uint64_t n = 0; n < 2 * total; n++) {
        const uint64_t which = n / 2;
        for_good = n % 2;
        const int status = make_call(on, i, which, &crc);
        if (status != CRACKLE_NO_MEMORY &&
            (status != CRACKLE_OK || crc != expected)) {
            fprintf(stderr, "%s: allocation %u of %u: %s\n", calls[i].name,
                    (unsigned)which, (unsigned)total,
                    crackle_status_name(status));
            exit(1);
        }
    }
    return 2 * total;
}

static uint64_t exhaust_all(const char *path)
{
    struct subject on;
    memset(&on, 0, sizeof on);
    uint8_t *data = fuzz_read(path, &on.size);
    on.data = data;
    FUZZ_CHECK(fuzz_open(data, on.size, &on.s));
    on.header = on.s.header;
    on.components = crackle_first_components(on.s.stream)[on.header->sz];
    on.array_size = (size_t)on.s.voxels * on.header->data_width;
    on.array = fuzz_new(on.array_size);
    struct crackle_workspace *ws = crackle_workspace_new();
    FUZZ_CHECK(ws && !crackle_decode(on.s.stream, ws, 0, on.header->sz, NULL,
                                     on.array, on.array_size, 0, on.header->sz,
                                     0, NULL));
    crackle_workspace_free(ws);
    on.group = fuzz_new((size_t)on.s.entries * sizeof *on.group);
    for (uint32_t k = 0; k < on.s.entries; k++)
        on.group[k] = k;
    uint64_t failed = 0;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        failed += exhaust(&on, i);
    fuzz_free(on.group);
    fuzz_free(on.array);
    fuzz_close(&on.s);
    fuzz_free(data);
    return failed;
}

int main(int argc, char **argv)
{
    uint64_t failed = 0;
    for (int i = 1; i < argc; i++)
        failed += exhaust_all(argv[i]);
    printf("%u allocations failed in %d streams\n", (unsigned)failed,
           argc - 1);
    return failed ? 0 : 2;
}
