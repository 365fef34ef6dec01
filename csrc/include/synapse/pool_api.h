/* SPDX-License-Identifier: BUSL-1.1 */
/* Threads that share one piece of work at a time. */

typedef struct syn_pool syn_pool;

/* A pool of `threads` threads, of which the caller of each run is one; NULL on failure.
 * It belongs to the process that made it: a forked child makes its own. */
syn_pool *syn_pool_new(int threads);

/* Ends the threads. Nothing may be running. */
void syn_pool_free(syn_pool *pool);

int syn_pool_threads(const syn_pool *pool);
