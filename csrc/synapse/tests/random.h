/* SPDX-License-Identifier: BUSL-1.1 */
/* Numbers for tests: the same in every run. */
#ifndef SYN_TEST_RANDOM_H
#define SYN_TEST_RANDOM_H

#include <stdint.h>

static uint64_t random_state = 1;

static inline uint32_t random_bits(void) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33);
}

/* Between 0 and limit - 1. */
static inline int64_t random_below(int64_t limit) { return (int64_t)random_bits() % limit; }

/* Around 0, most of them within `width`. */
static inline float random_float(float width) {
    float sum = 0;
    for (int i = 0; i < 4; i++) sum += (float)random_bits() / (float)(1u << 30) - 1.0f;
    return sum * width * 0.5f;
}

static inline void random_floats(float *x, int64_t n, float width) {
    for (int64_t i = 0; i < n; i++) x[i] = random_float(width);
}

#endif
