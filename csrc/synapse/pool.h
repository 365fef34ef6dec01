/* SPDX-License-Identifier: BUSL-1.1 */
/* A small thread pool for work that is a fraction of a millisecond long and has many phases.
 *
 * A whole forward pass is one run; parting two of its phases costs a fraction of a microsecond,
 * because everybody is expected at about the same time. Whoever waits polls for a while, then
 * sleeps: a thread that was descheduled costs the others no processor time.
 *
 * Two kinds of run. In syn_pool_run all threads take part and meet at barriers. In syn_pool_flow
 * threads take piece after piece of a phase, and a phase is over when its pieces are done: a
 * thread that was descheduled between two pieces holds nobody up, which matters on machines that
 * do other work too. */
#ifndef SYN_POOL_H
#define SYN_POOL_H

#include "base.h"
#include "synapse/pool_api.h"

typedef void (*syn_work)(void *arg, int thread, int threads);

/* work(arg, 0..threads-1, threads), in all threads at once; the caller is thread 0. Returns
 * when all are done. One run at a time; an error if there is one already, or after a fork. */
int syn_pool_run(syn_pool *pool, syn_work work, void *arg);

/* Inside syn_pool_run: wait until all threads are here. What was written before is visible. */
void syn_pool_barrier(syn_pool *pool);

/* work(arg, thread, threads) in the caller and in those threads that come in time. */
int syn_pool_flow(syn_pool *pool, syn_work work, void *arg);

/* A thread's place in a flow; zeros when it begins. */
typedef struct syn_seat {
    uint32_t phases; /* over */
    int held;        /* a piece that was taken and is not reported as done */
} syn_seat;

/* Inside a flow: the next of the `count` pieces of this phase, or -1 when all are done and what
 * they wrote is visible. All threads go through the same phases with the same counts:
 *     for (int64_t i; (i = syn_pool_piece(pool, seat, count)) >= 0;) ... */
int64_t syn_pool_piece(syn_pool *pool, syn_seat *seat, int64_t count);

/* The part of `count` units of work for `part`: [*begin, *end), sizes differ by one at most. */
void syn_share(int64_t count, int64_t part, int64_t parts, int64_t *begin, int64_t *end);

#endif
