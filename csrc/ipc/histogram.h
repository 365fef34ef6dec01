/* SPDX-License-Identifier: BUSL-1.1 */
/* Counting times into buckets: eight to each power of two, so that a bucket is at most an eighth
 * of what it counts, from 256 ns on; linear below. A time beyond the last bucket counts there.
 *
 * Assumes: one thread counts. Any thread may read (statistics_copy): it sees each number whole,
 * and of a group of numbers perhaps some before and some after an answer. */
#ifndef MLOS_HISTOGRAM_H
#define MLOS_HISTOGRAM_H

#include <assert.h>
#include <stddef.h>

#include "mlos/ipc.h"

/* The counting thread's `*field += by`, for readers beside it. */
#define COUNT(field, by) __atomic_store_n(&(field), (field) + (by), __ATOMIC_RELAXED)

#define BUCKET_UNIT 5 /* log2 of the finest step in nanoseconds */
#define BUCKET_STEPS 3 /* log2 of the buckets to a power of two */

static inline uint32_t bucket_of(uint64_t ns) {
    uint64_t units = ns >> BUCKET_UNIT;
    if (units < 1u << BUCKET_STEPS) return (uint32_t)units;
    uint32_t power = 63u - (uint32_t)__builtin_clzll(units);
    uint32_t step = (uint32_t)(units >> (power - BUCKET_STEPS)) & ((1u << BUCKET_STEPS) - 1);
    uint32_t bucket = (power - BUCKET_STEPS + 1) << BUCKET_STEPS | step;
    return bucket < MLOS_BUCKETS ? bucket : MLOS_BUCKETS - 1;
}

static inline void count_time(mlos_times *times, uint64_t ns) {
    COUNT(times->counts[bucket_of(ns)], 1);
    if (ns > times->max_ns) __atomic_store_n(&times->max_ns, ns, __ATOMIC_RELAXED);
}

static inline void statistics_copy(mlos_port_stats *into, const mlos_port_stats *from) {
    static_assert(sizeof *from % sizeof(uint64_t) == 0, "nothing but 64-bit numbers");
    uint64_t *to = (uint64_t *)into;
    const uint64_t *at = (const uint64_t *)from;
    for (size_t i = 0; i < sizeof *from / sizeof *at; i++)
        to[i] = __atomic_load_n(&at[i], __ATOMIC_RELAXED);
}

#endif
