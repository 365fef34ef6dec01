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
#define IEEE_FLOATS 0x1f80u /* MXCSR as a program begins */

/* A word that only grows, and how many sleep until it does. */
typedef struct event {
    _Alignas(LINE) _Atomic uint32_t word;
    _Atomic uint32_t sleepers;
} event;

/* Who is in the run: its number << 32 | OPEN | how many. */
#define OPEN ((uint64_t)1 << 31)

struct syn_pool {
    event start; /* its word is the number of the run */
    event left;  /* bumped when the last one leaves a closed run */
    event phase; /* bumped when a phase or a barrier is over */
    _Alignas(LINE) _Atomic uint64_t inside;
    _Alignas(LINE) _Atomic uint64_t next; /* phase << 32 | the next piece */
    _Alignas(LINE) _Atomic int64_t done;  /* pieces of this phase; or threads at the barrier */
    _Alignas(LINE) syn_work work;         /* NULL: the threads end */
    void *arg;
    int everyone;
    uint32_t first; /* phase of this run */
    int threads;
    int polls; /* 0: more threads than processors, polling would only delay the others */
    _Atomic uint32_t busy;
    pid_t owner;
    pthread_t *handles;
};

typedef struct chair {
    syn_pool *pool;
    int thread;
} chair;

static void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* With IEEE_FLOATS: round to the nearest even, keep numbers below the normal ones. A library that
 * is loaded beside us can have set otherwise in some threads, and a result would depend on who
 * took its piece. Returns what was set. */
static uint32_t set_floats(uint32_t mode) {
#if defined(__x86_64__)
    uint32_t before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(mode);
    return before;
#else
    return mode;
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
    if (atomic_fetch_add_explicit(&pool->done, 1, memory_order_acq_rel) == pool->threads - 1) {
        atomic_store_explicit(&pool->done, 0, memory_order_relaxed);
        event_bump(&pool->phase);
    } else {
        event_wait(&pool->phase, phase, pool->polls);
    }
}

/* SYNC POINT: what a piece wrote is released by whoever reports it done, acquired by whoever
 * reports the last one, and released to all by the bump. */
static void report(syn_pool *pool, uint32_t phase, int64_t count) {
    if (atomic_fetch_add_explicit(&pool->done, 1, memory_order_acq_rel) != count - 1) return;
    atomic_store_explicit(&pool->done, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->next, (uint64_t)(phase + 1) << 32, memory_order_release);
    event_bump(&pool->phase);
}

/* A thread that lags behind finds a later phase in `next` and takes nothing. */
static int64_t take(syn_pool *pool, uint32_t phase, int64_t count) {
    uint64_t next = atomic_load_explicit(&pool->next, memory_order_acquire);
    while (next >> 32 == phase && (int64_t)(next & UINT32_MAX) < count) {
        if (atomic_compare_exchange_weak_explicit(&pool->next, &next, next + 1,
                                                  memory_order_acquire, memory_order_acquire))
            return (int64_t)(next & UINT32_MAX);
    }
    return -1;
}

int64_t syn_pool_piece(syn_pool *pool, syn_seat *seat, int64_t count) {
    uint32_t phase = pool->first + seat->phases;
    if (count <= 0) return -1;
    if (pool->threads == 1) {
        if (seat->held < count) return seat->held++;
        seat->held = 0;
        return -1;
    }
    if (seat->held) report(pool, phase, count);
    int64_t piece = take(pool, phase, count);
    seat->held = piece >= 0;
    if (seat->held) return piece;
    event_wait(&pool->phase, phase, pool->polls);
    seat->phases++;
    return -1;
}

/* Go into run `number` unless it is closed. */
static int enter(syn_pool *pool, uint32_t number) {
    uint64_t inside = atomic_load_explicit(&pool->inside, memory_order_acquire);
    while (inside >> 32 == number && inside & OPEN) {
        if (atomic_compare_exchange_weak_explicit(&pool->inside, &inside, inside + 1,
                                                  memory_order_acquire, memory_order_acquire))
            return 1;
    }
    return 0;
}

static void leave(syn_pool *pool) {
    uint64_t inside = atomic_fetch_sub_explicit(&pool->inside, 1, memory_order_acq_rel) - 1;
    if (!(inside & (OPEN | (OPEN - 1)))) event_bump(&pool->left);
}

/* For the caller: nobody comes any more, and all have left. */
static void close_run(syn_pool *pool) {
    uint32_t left = atomic_load(&pool->left.word);
    uint64_t inside = atomic_fetch_sub(&pool->inside, OPEN + 1) - OPEN - 1;
    if (inside & (OPEN - 1)) event_wait(&pool->left, left, pool->polls);
}

static void *serve(void *context) {
    chair c = *(chair *)context;
    syn_pool *pool = c.pool;
    free(context);
    set_floats(IEEE_FLOATS);
    for (uint32_t seen = 0;;) {
        event_wait(&pool->start, seen, pool->polls);
        seen = atomic_load_explicit(&pool->start.word, memory_order_acquire);
        if (!enter(pool, seen)) continue;
        syn_work work = pool->work;
        if (work) work(pool->arg, c.thread, pool->threads);
        if (work && pool->everyone) syn_pool_barrier(pool);
        leave(pool);
        if (!work) return NULL;
    }
}

/* SYNC POINT: what the run needs is visible to whoever enters. */
static void open_run(syn_pool *pool, syn_work work, void *arg, int everyone) {
    uint64_t number = atomic_load(&pool->start.word) + 1;
    pool->work = work;
    pool->arg = arg;
    pool->everyone = everyone;
    pool->first = atomic_load(&pool->phase.word);
    atomic_store(&pool->next, (uint64_t)pool->first << 32);
    atomic_store(&pool->inside, (number & UINT32_MAX) << 32 | OPEN | 1);
    event_bump(&pool->start);
}

static int run(syn_pool *pool, syn_work work, void *arg, int everyone) {
    if (pool->owner != getpid())
        return FAIL(SYN_E_ARGUMENT, "the threads stayed behind in the process that forked");
    if (atomic_exchange(&pool->busy, 1))
        return FAIL(SYN_E_ARGUMENT, "the threads are at work for another caller");
    if (pool->threads > 1) open_run(pool, work, arg, everyone);
    uint32_t floats = set_floats(IEEE_FLOATS);
    work(arg, 0, pool->threads);
    set_floats(floats);
    if (everyone) syn_pool_barrier(pool);
    if (pool->threads > 1) close_run(pool);
    atomic_store(&pool->busy, 0);
    return 0;
}

int syn_pool_run(syn_pool *pool, syn_work work, void *arg) { return run(pool, work, arg, 1); }

int syn_pool_flow(syn_pool *pool, syn_work work, void *arg) { return run(pool, work, arg, 0); }

static int processors(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
}

static int start_thread(syn_pool *pool, int thread) {
    chair *c = malloc(sizeof *c);
    if (!c) return ENOMEM;
    *c = (chair){pool, thread};
    int failed = pthread_create(&pool->handles[thread], NULL, serve, c);
    if (failed) free(c);
    return failed;
}

/* End the threads 1..count-1. */
static void stop(syn_pool *pool, int count) {
    open_run(pool, NULL, NULL, 0);
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

void syn_share(int64_t count, int64_t part, int64_t parts, int64_t *begin, int64_t *end) {
    *begin = count * part / parts;
    *end = count * (part + 1) / parts;
}
