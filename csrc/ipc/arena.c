/* SPDX-License-Identifier: BUSL-1.1 */
#include "arena.h"

#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "mlos/ipc.h"
#include "mlos/layout.h"

#define EXTENTS 8192u /* allocations at a time; bounds the book */

/* Extents tile the arena in address order; two free ones never touch. */
typedef struct extent {
    uint64_t offset;
    uint64_t size;
    uint32_t next, previous; /* by address; NONE at the ends */
    uint32_t used;
} extent;

#define NONE UINT32_MAX

struct arena {
    uint64_t size;
    uint64_t used;
    uint32_t first;
    uint32_t spare; /* list of unused extents, by next */
    uint32_t hint;  /* extent freed or cut last: the likely fit */
    extent extents[EXTENTS];
};

static uint32_t take_spare(arena *a) {
    uint32_t i = a->spare;
    if (i != NONE) a->spare = a->extents[i].next;
    return i;
}

static void give_spare(arena *a, uint32_t i) {
    a->extents[i].size = 0;
    a->extents[i].next = a->spare;
    a->spare = i;
}

arena *arena_new(uint64_t size) {
    arena *a = calloc(1, sizeof *a);
    if (!a) return NULL;
    a->size = size;
    for (uint32_t i = 1; i < EXTENTS; i++) a->extents[i].next = i + 1 < EXTENTS ? i + 1 : NONE;
    a->spare = 1;
    a->extents[0] = (extent){.size = size, .next = NONE, .previous = NONE};
    return a;
}

void arena_delete(arena *a) { free(a); }

uint64_t arena_used(const arena *a) { return a->used; }

/* Leave the first `bytes` in extent i, make a free extent of the rest. */
static int cut(arena *a, uint32_t i, uint64_t bytes) {
    extent *e = &a->extents[i];
    if (e->size == bytes) return 0;
    uint32_t rest = take_spare(a);
    if (rest == NONE) return FAIL(MLOS_E_AGAIN, "more than %u allocations", EXTENTS);
    a->extents[rest] = (extent){.offset = e->offset + bytes,
                                .size = e->size - bytes,
                                .next = e->next,
                                .previous = i};
    if (e->next != NONE) a->extents[e->next].previous = rest;
    e->next = rest;
    e->size = bytes;
    return 0;
}

int64_t arena_alloc(arena *a, uint64_t bytes) {
    if (bytes > a->size) return FAIL(MLOS_E_TOO_BIG, "the arena has %lu bytes", (long)a->size);
    bytes = bytes ? (bytes + MLOS_LINE - 1) / MLOS_LINE * MLOS_LINE : MLOS_LINE;
    uint32_t i = a->hint;
    if (a->extents[i].used || a->extents[i].size < bytes)
        for (i = a->first; i != NONE; i = a->extents[i].next)
            if (!a->extents[i].used && a->extents[i].size >= bytes) break;
    if (i == NONE) return MLOS_E_AGAIN;
    int status = cut(a, i, bytes);
    if (status) return status;
    a->extents[i].used = 1;
    a->used += bytes;
    if (a->extents[i].next != NONE) a->hint = a->extents[i].next;
    return (int64_t)a->extents[i].offset;
}

/* Join extent i with its free successor. */
static void join(arena *a, uint32_t i) {
    extent *e = &a->extents[i];
    uint32_t gone = e->next;
    e->size += a->extents[gone].size;
    e->next = a->extents[gone].next;
    if (e->next != NONE) a->extents[e->next].previous = i;
    give_spare(a, gone);
}

int arena_free(arena *a, uint64_t offset) {
    uint32_t i = a->first;
    while (i != NONE && a->extents[i].offset != offset) i = a->extents[i].next;
    if (i == NONE || !a->extents[i].used) return FAIL(MLOS_E_ARGUMENT, "nothing lies there");
    extent *e = &a->extents[i];
    e->used = 0;
    a->used -= e->size;
    if (e->next != NONE && !a->extents[e->next].used) join(a, i);
    if (e->previous != NONE && !a->extents[e->previous].used) {
        i = e->previous;
        join(a, i);
    }
    a->hint = i;
    return 0;
}
