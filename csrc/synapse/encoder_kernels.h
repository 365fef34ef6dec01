/* SPDX-License-Identifier: BUSL-1.1 */
/* What an encoder does beside matrix products, once per instruction set.
 *
 * The reference is the judge: every set gives its bits. Rows lie `stride` floats apart. */
#ifndef SYN_ENCODER_KERNELS_H
#define SYN_ENCODER_KERNELS_H

#include "base.h"

typedef struct {
    /* x[rows, width] in place: (x - mean) / sqrt(variance + eps) * weight + bias, per row. */
    void (*norm)(float *x, int64_t rows, int64_t stride, int64_t width, const float *weight,
                 const float *bias, float eps);
    /* x[rows, width] in place: x * Phi(x), Phi the normal distribution function. */
    void (*gelu)(float *x, int64_t rows, int64_t stride, int64_t width);
    /* One head of one sequence, all queries against all keys.
     * q, k, v, out: [length, width]; out may be q. `room`: syn_encoder_room floats. */
    void (*attend)(const float *q, const float *k, const float *v, float *out, int64_t length,
                   int64_t stride, int64_t width, float scale, float *room);
    /* out[width] = mean over rows of x[rows, width]. */
    void (*mean)(const float *x, int64_t rows, int64_t stride, int64_t width, float *out);
    /* x[width] in place: divided by its Euclidean length. */
    void (*unit)(float *x, int64_t width);
} syn_encoder_kernels;

const syn_encoder_kernels *syn_encoder_kernels_of(int isa);

extern const syn_encoder_kernels syn_encoder_reference;
extern const syn_encoder_kernels syn_encoder_avx2;
extern const syn_encoder_kernels syn_encoder_avx512;

#define SYN_ENCODER_QUERIES 8 /* at most, that `attend` takes at once */
#define SYN_ENCODER_SHORTEST 1e-12f /* no vector is taken to be shorter than this */

static inline int64_t syn_round16(int64_t n) { return (n + 15) / 16 * 16; }

/* Floats that `attend` works in: keys by dimension, values, and per query itself and scores. */
static inline int64_t syn_encoder_room(int64_t length, int64_t width) {
    int64_t wide = syn_round16(width), tall = syn_round16(length);
    return wide * tall + length * wide + SYN_ENCODER_QUERIES * (wide + tall);
}

#endif
