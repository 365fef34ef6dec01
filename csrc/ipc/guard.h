/* SPDX-License-Identifier: BUSL-1.1 */
/* A peer that truncates its segment must not take this process down.
 *
 * The guard keeps a table of mapped segments. When a SIGBUS hits inside one of them, in
 * whatever thread, the mapping is replaced by private zero pages and marked broken;
 * the faulting instruction then reads zeros, which no later check accepts. Any other SIGBUS
 * goes on to the handler that was there before. (libwayland's wl_shm pools do the same.)
 */
#ifndef MLOS_GUARD_H
#define MLOS_GUARD_H

#include <stdint.h>

/* A handle, or a negative status when the table is full. Installs the handler once. */
int guard_add(uint8_t *base, uint64_t size);
void guard_remove(int handle);
int guard_hit(int handle);

#endif
