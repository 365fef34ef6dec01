/* SPDX-License-Identifier: BUSL-1.1 */
/* Clock, futex and processor: the few things taken from the kernel directly. */
#ifndef MLOS_PLATFORM_H
#define MLOS_PLATFORM_H

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void cpu_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#else
    atomic_signal_fence(memory_order_seq_cst);
#endif
}

/* The processor this thread runs on, + 1; 0 when unknown. */
static inline uint32_t this_cpu(void) {
    int cpu = sched_getcpu();
    return cpu < 0 ? 0 : (uint32_t)cpu + 1;
}

/* Sleep while *word == expected, until the absolute `deadline_ns`; `bits` selects wakers.
 * 0, or the errno of the wait (EAGAIN, ETIMEDOUT, EINTR). */
static inline int futex_wait(_Atomic uint32_t *word, uint32_t expected, uint64_t deadline_ns,
                             uint32_t bits) {
    struct timespec t = {.tv_sec = (time_t)(deadline_ns / 1000000000u),
                         .tv_nsec = (long)(deadline_ns % 1000000000u)};
    long r = syscall(SYS_futex, word, FUTEX_WAIT_BITSET, expected, &t, NULL, bits);
    return r < 0 ? errno : 0;
}

static inline void futex_wake(_Atomic uint32_t *word, int count, uint32_t bits) {
    syscall(SYS_futex, word, FUTEX_WAKE_BITSET, count, NULL, NULL, bits);
}

#endif
