/* SPDX-License-Identifier: BUSL-1.1 */
/* Rotary position embedding of one head; no reductions, so the compiler may use any lanes. */
#ifndef SYN_ROPE_H
#define SYN_ROPE_H

#include <math.h>
#include <stdint.h>

/* x [2 half]: the pairs (i, i + half), or (2 i, 2 i + 1) if interleaved, turn by the angle
 * whose cosine and sine are the i-th. */
static inline void rope_head(float *restrict x, const float *restrict cosine,
                             const float *restrict sine, int64_t half, int interleaved) {
    int64_t step = interleaved ? 2 : 1, other = interleaved ? 1 : half;
    for (int64_t i = 0; i < half; i++) {
        float a = x[i * step], b = x[i * step + other];
        x[i * step] = fmaf(a, cosine[i], -(b * sine[i]));
        x[i * step + other] = fmaf(b, cosine[i], a * sine[i]);
    }
}

/* Two loops, so that each has a stride the compiler knows. */
static inline void rope_turn(float *x, const float *cosine, const float *sine, int64_t half,
                             int interleaved) {
    if (interleaved)
        rope_head(x, cosine, sine, half, 1);
    else
        rope_head(x, cosine, sine, half, 0);
}

#endif
