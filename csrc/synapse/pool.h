/* SPDX-License-Identifier: BUSL-1.1 */
/* A small thread pool for work that is a fraction of a millisecond long and has many phases.
 *
 * A whole forward pass is one run; its phases are parted by barriers that cost a fraction of a
 * microsecond, because everybody is expected at about the same time. Whoever waits polls for a
 * while, then sleeps: a thread that was descheduled costs the others no processor time. */
#ifndef SYN_POOL_H
#define SYN_POOL_H

#include "base.h"
#include "synapse/pool_api.h"

typedef void (*syn_work)(void *arg, int thread, int threads);

/* work(arg, 0..threads-1, threads), in all threads at once; the caller is thread 0. Returns
 * when all are done. One run at a time; an error if there is one already, or after a fork. */
int syn_pool_run(syn_pool *pool, syn_work work, void *arg);

/* Inside a run: wait until all threads are here. All that was written before is visible after. */
void syn_pool_barrier(syn_pool *pool);

/* The part of `count` units of work for `thread`: [*begin, *end), sizes differ by one at most. */
void syn_share(int64_t count, int thread, int threads, int64_t *begin, int64_t *end);

#endif
