/* SPDX-License-Identifier: BUSL-1.1 */
/* Adaptive waiting: poll while polling pays, then sleep.
 *
 * The window follows KVM's halt polling: it doubles when a sleep turned out shorter than
 * the largest window (polling would have caught it), falls to nothing when a sleep was
 * longer (polling could not have). Two more things matter. With both ends on one processor
 * a poll only delays the other, so the poller yields between looks: that costs less than to
 * sleep and be woken, and two runnable threads are what makes the scheduler part them. And a
 * poller that is preempted stands in somebody's way: it stays away from polling for a while
 * that doubles each time.
 *
 * Waits that are longer than any window, but regular, are slept through until shortly before
 * their expected end, and polled from there (as Linux's hybrid polling does for fast disks):
 * an answer after a millisecond then costs no wake-up either.
 */
#ifndef MLOS_WAIT_H
#define MLOS_WAIT_H

#include <stdbool.h>

#include "mlos/ipc.h"
#include "platform.h"

#define WAIT_START_NS 20000u     /* first window after nothing */
#define WAIT_PREEMPTED_NS 50000u /* a gap between two looks at the clock that long is no poll */
#define WAIT_WAKE_NS 150000u      /* a timed sleep may end that much late (slack and wake-up) */
#define WAIT_REGULAR_NS 100000u   /* deviation up to which a wait counts as regular */
#define WAIT_MAX_PENALTY 4096u
#define WAIT_SLICE_NS 1000000000u /* longest sleep before the caller looks around */
#define WAIT_SPIN_SLICE_NS 50000000u

/* Shared by the threads of one end; every field is a hint, races only cost speed. */
typedef struct waiter {
    int mode;
    uint64_t max_ns;
    _Atomic uint64_t window_ns;
    _Atomic uint32_t penalty; /* waits to come that may not poll */
    _Atomic uint32_t penalty_next;
    _Atomic uint64_t mean_ns; /* of the waits, and their mean deviation from it */
    _Atomic uint64_t deviation_ns;
} waiter;

static inline uint64_t hint64(_Atomic uint64_t *a) {
    return atomic_load_explicit(a, memory_order_relaxed);
}
static inline uint32_t hint32(_Atomic uint32_t *a) {
    return atomic_load_explicit(a, memory_order_relaxed);
}
#define HINT_SET(a, v) atomic_store_explicit(a, v, memory_order_relaxed)

static inline void waiter_init(waiter *w, int mode, uint64_t max_ns) {
    w->mode = mode;
    w->max_ns = max_ns;
    HINT_SET(&w->window_ns, max_ns < WAIT_START_NS ? max_ns : WAIT_START_NS);
    HINT_SET(&w->penalty, 0);
    HINT_SET(&w->penalty_next, 16);
    HINT_SET(&w->mean_ns, 0);
    HINT_SET(&w->deviation_ns, 0);
}

/* Learn how long answers take. */
static inline void waiter_learn(waiter *w, uint64_t waited_ns) {
    int64_t mean = (int64_t)hint64(&w->mean_ns), deviation = (int64_t)hint64(&w->deviation_ns);
    int64_t off = (int64_t)waited_ns - mean;
    HINT_SET(&w->mean_ns, (uint64_t)(mean + off / 8));
    HINT_SET(&w->deviation_ns, (uint64_t)(deviation + ((off < 0 ? -off : off) - deviation) / 8));
}

/* How long to sleep before it is worth polling for `*poll_ns`; 0: such waits are short or
 * irregular. */
static inline uint64_t waiter_nap(waiter *w, uint64_t *poll_ns) {
    uint64_t mean = hint64(&w->mean_ns), deviation = hint64(&w->deviation_ns);
    uint64_t lead = WAIT_WAKE_NS + 2 * deviation;
    if (w->mode != MLOS_WAIT_ADAPTIVE || !w->max_ns || hint32(&w->penalty)) return 0;
    if (mean <= w->max_ns + lead || deviation > WAIT_REGULAR_NS || 4 * deviation > mean) return 0;
    *poll_ns = lead + 2 * deviation;
    return mean - lead;
}

/* How long to poll now. */
static inline uint64_t waiter_window(waiter *w) {
    if (w->mode == MLOS_WAIT_SPIN) return WAIT_SPIN_SLICE_NS;
    if (w->mode == MLOS_WAIT_BLOCK) return 0;
    uint32_t penalty = hint32(&w->penalty);
    if (penalty) {
        HINT_SET(&w->penalty, penalty - 1);
        return 0;
    }
    return hint64(&w->window_ns);
}

static inline void waiter_preempted(waiter *w) {
    uint32_t next = hint32(&w->penalty_next);
    HINT_SET(&w->penalty, next);
    HINT_SET(&w->penalty_next, next * 2 > WAIT_MAX_PENALTY ? WAIT_MAX_PENALTY : next * 2);
}

static inline void waiter_polled(waiter *w) {
    uint32_t next = hint32(&w->penalty_next);
    if (next > 16) HINT_SET(&w->penalty_next, next - 1);
}

/* A wait of `waited_ns` ended in sleep. */
static inline void waiter_slept(waiter *w, uint64_t waited_ns) {
    uint64_t window = hint64(&w->window_ns);
    if (waited_ns > w->max_ns) {
        window = 0;
    } else if (waited_ns > window) {
        window = window < WAIT_START_NS ? WAIT_START_NS : window * 2;
        if (window > w->max_ns) window = w->max_ns;
    }
    HINT_SET(&w->window_ns, window);
}

/* Poll `ready(context)` for `window_ns`; true as soon as it is. `peer_cpu` is where the
 * other end was seen last. */
static inline bool waiter_poll(waiter *w, uint64_t window_ns, uint32_t peer_cpu,
                               bool (*ready)(void *), void *context) {
    if (ready(context)) return true;
    if (!window_ns) return false;
    const bool adaptive = w->mode == MLOS_WAIT_ADAPTIVE;
    uint64_t start = now_ns(), last = start;
    for (;;) {
        if (adaptive && peer_cpu == this_cpu()) {
            sched_yield();
            last = now_ns(); /* what ran meanwhile was let in, not forced in */
        }
        for (int i = 0; i < 16; i++) {
            if (ready(context)) {
                waiter_polled(w);
                return true;
            }
            cpu_relax();
        }
        uint64_t now = now_ns();
        if (adaptive && now - last > WAIT_PREEMPTED_NS) {
            waiter_preempted(w);
            return ready(context);
        }
        last = now;
        if (now - start >= window_ns) return ready(context);
    }
}

#endif
