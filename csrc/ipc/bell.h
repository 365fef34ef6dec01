/* SPDX-License-Identifier: BUSL-1.1 */
/* The doorbell: the word on which all workers of a model sleep.
 *
 * It lies in a sealed memfd, so that no client can cut it short under the others. A client
 * that scribbles on it can delay its neighbours until the next look-around of a sleeping
 * worker (WAIT_SLICE_NS), and nothing else.
 */
#ifndef MLOS_BELL_H
#define MLOS_BELL_H

#include "mlos/ipc.h"
#include "mlos/layout.h"
#include "platform.h"

/* SYNC POINT with port_sleep(): the worker announces its lane, reads seq, looks at all rings,
 * sleeps on seq. Here: the ring first (a seq_cst fence orders it), then the sleepers. */
static inline void bell_ring(mlos_bell *bell, mlos_header *channel) {
#ifdef __SANITIZE_THREAD__ /* it knows no fences; this orders the same, at the price of a write */
    uint32_t sleepers = atomic_fetch_or(&bell->sleepers, 0);
#else
    atomic_thread_fence(memory_order_seq_cst);
    uint32_t sleepers = atomic_load_explicit(&bell->sleepers, memory_order_relaxed);
#endif
    if (!sleepers) return;
    /* Other workers of the model may serve other channels only: whoever is woken must be one
     * that looks at this ring. SYNC POINT with mlos_port_add(): lanes, then the rings. */
    sleepers &= atomic_load_explicit(&channel->lanes, memory_order_relaxed);
    if (!sleepers) return;
    atomic_fetch_add(&bell->seq, 1);
    futex_wake(&bell->seq, 1, sleepers);
}

#endif
