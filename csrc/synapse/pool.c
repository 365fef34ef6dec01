/* SPDX-License-Identifier: BUSL-1.1 */
/* The pool's threads are not tied to processors: a worker that sits on the processor where the
 * caller happens to run would wait for it, and the kernel places two busy threads apart by
 * itself. */
#include "pool.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MAX_THREADS 256
#define LINE 64
#define POLL_NS 60000u     /* between phases and between steps: about a wake-up's cost */
#define POLLS_PER_CLOCK 32 /* looks at the word between two looks at the clock */

/* A word that only grows, and how many sleep until it does. */
typedef struct event {
    _Alignas(LINE) _Atomic uint32_t word;
    _Atomic uint32_t sleepers;
} event;

struct syn_pool {
    event start; /* bumped for each run */
    event phase; /* bumped by the last to arrive at a barrier */
    _Alignas(LINE) _Atomic uint32_t arrived;
    _Atomic uint32_t busy;
    _Alignas(LINE) syn_work work; /* NULL: the threads end */
    void *arg;
    int threads;
    int polls; /* 0: more threads than processors, polling would only delay the others */
    pid_t owner;
    pthread_t *handles;
};

typedef struct seat {
    syn_pool *pool;
    int thread;
} seat;

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int poll_event(event *e, uint32_t old) {
    uint64_t end = 0;
    do {
        for (int i = 0; i < POLLS_PER_CLOCK; i++) {
            if (atomic_load_explicit(&e->word, memory_order_acquire) != old) return 1;
            relax();
        }
        uint64_t t = now();
        if (!end) end = t + POLL_NS;
        if (t >= end) return 0;
    } while (1);
}

/* SYNC POINT: what was written before event_bump is visible after event_wait. Sleeping and
 * waking meet in the total order of word and sleepers: either the sleeper is counted when the
 * bumper looks, or the word has changed when the sleeper (or the kernel) looks. */
static void event_wait(event *e, uint32_t old, int polls) {
    if (polls && poll_event(e, old)) return;
    atomic_fetch_add(&e->sleepers, 1);
    while (atomic_load(&e->word) == old)
        syscall(SYS_futex, &e->word, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    atomic_fetch_sub(&e->sleepers, 1);
}

static void event_bump(event *e) {
    atomic_fetch_add(&e->word, 1);
    if (atomic_load(&e->sleepers))
        syscall(SYS_futex, &e->word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void syn_pool_barrier(syn_pool *pool) {
    if (pool->threads == 1) return;
    uint32_t phase = atomic_load_explicit(&pool->phase.word, memory_order_relaxed);
    uint32_t last = (uint32_t)pool->threads - 1;
    if (atomic_fetch_add_explicit(&pool->arrived, 1, memory_order_acq_rel) == last) {
        atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
        event_bump(&pool->phase);
    } else {
        event_wait(&pool->phase, phase, pool->polls);
    }
}

static void *serve(void *context) {
    seat s = *(seat *)context;
    syn_pool *pool = s.pool;
    free(context);
    for (uint32_t seen = 0;; seen++) {
        event_wait(&pool->start, seen, pool->polls);
        if (!pool->work) return NULL;
        pool->work(pool->arg, s.thread, pool->threads);
        syn_pool_barrier(pool);
    }
}

int syn_pool_run(syn_pool *pool, syn_work work, void *arg) {
    if (pool->owner != getpid())
        return FAIL(SYN_E_ARGUMENT, "the threads stayed behind in the process that forked");
    if (atomic_exchange(&pool->busy, 1))
        return FAIL(SYN_E_ARGUMENT, "the threads are at work for another caller");
    pool->work = work;
    pool->arg = arg;
    if (pool->threads > 1) event_bump(&pool->start);
    work(arg, 0, pool->threads);
    syn_pool_barrier(pool);
    atomic_store(&pool->busy, 0);
    return 0;
}

static int processors(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
}

static int start_thread(syn_pool *pool, int thread) {
    seat *s = malloc(sizeof *s);
    if (!s) return ENOMEM;
    *s = (seat){pool, thread};
    int failed = pthread_create(&pool->handles[thread], NULL, serve, s);
    if (failed) free(s);
    return failed;
}

/* End the threads 1..count-1. */
static void stop(syn_pool *pool, int count) {
    pool->work = NULL;
    event_bump(&pool->start);
    for (int i = 1; i < count; i++) pthread_join(pool->handles[i], NULL);
}

static syn_pool *allocate(int threads) {
    syn_pool *pool = aligned_alloc(LINE, (sizeof *pool + LINE - 1) / LINE * LINE);
    if (!pool) return NULL;
    memset(pool, 0, sizeof *pool);
    pool->handles = calloc((size_t)threads, sizeof *pool->handles);
    if (!pool->handles) {
        free(pool);
        return NULL;
    }
    pool->threads = threads;
    pool->polls = threads <= processors();
    pool->owner = getpid();
    return pool;
}

syn_pool *syn_pool_new(int threads) {
    if (threads < 1 || threads > MAX_THREADS) {
        FAIL(SYN_E_ARGUMENT, "%d threads are not between 1 and %d", threads, MAX_THREADS);
        return NULL;
    }
    syn_pool *pool = allocate(threads);
    if (!pool) {
        FAIL(SYN_E_MEMORY, "no memory for a pool of threads");
        return NULL;
    }
    for (int i = 1; i < threads; i++) {
        int failed = start_thread(pool, i);
        if (!failed) continue;
        FAIL(SYN_E_MEMORY, "cannot start thread %d of %d: %s", i, threads, strerror(failed));
        stop(pool, i);
        free(pool->handles);
        free(pool);
        return NULL;
    }
    return pool;
}

void syn_pool_free(syn_pool *pool) {
    if (!pool) return;
    if (pool->owner == getpid()) stop(pool, pool->threads);
    free(pool->handles);
    free(pool);
}

int syn_pool_threads(const syn_pool *pool) { return pool->threads; }

void syn_share(int64_t count, int thread, int threads, int64_t *begin, int64_t *end) {
    *begin = count * thread / threads;
    *end = count * (thread + 1) / threads;
}
