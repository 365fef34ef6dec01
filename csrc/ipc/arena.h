/* SPDX-License-Identifier: BUSL-1.1 */
/* The client's allocator for arena C: first fit over a sorted list of free extents.
 *
 * The book is in private memory; the arena itself is never read or written. Not
 * thread-safe: the channel's lock protects it.
 */
#ifndef MLOS_ARENA_H
#define MLOS_ARENA_H

#include <stdint.h>

typedef struct arena arena;

arena *arena_new(uint64_t size);
void arena_delete(arena *a);
/* An offset inside the arena, 64-byte aligned, or a status. */
int64_t arena_alloc(arena *a, uint64_t bytes);
int arena_free(arena *a, uint64_t offset);
uint64_t arena_used(const arena *a);

#endif
