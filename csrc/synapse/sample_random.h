/* SPDX-License-Identifier: BUSL-1.1 */
/* Random numbers without state: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy
 * as 1, 2, 3", 2011) of a key and a counter. */
#ifndef SYN_SAMPLE_RANDOM_H
#define SYN_SAMPLE_RANDOM_H

#include <stdint.h>

static inline void philox(uint32_t counter[4], uint64_t seed) {
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)counter[0] * 0xD2511F53u;
        uint64_t p1 = (uint64_t)counter[2] * 0xCD9E8D57u;
        uint32_t c1 = counter[1], c3 = counter[3];
        counter[0] = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        counter[1] = (uint32_t)p1;
        counter[2] = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        counter[3] = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

/* Uniform in [0, 1), 53 bits. */
static inline double random_at(uint64_t seed, uint32_t position, uint32_t choice) {
    uint32_t c[4] = {position, choice, 0, 0};
    philox(c, seed);
    return (double)(((uint64_t)c[0] << 32 | c[1]) >> 11) * 0x1p-53;
}

#endif
