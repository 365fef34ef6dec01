/* SPDX-License-Identifier: BUSL-1.1 */
/* What is done to rows between the matrix products, one table per instruction set.
 *
 * All tables give the same bits: element-wise functions are the same sequence of single
 * operations (math_scalar.h), a sum over a row has 16 partial sums (element i goes to i % 16)
 * and then the tree j += j + 8, + 4, + 2, + 1. Lengths are multiples of 16. */
#ifndef SYN_OPS_H
#define SYN_OPS_H

#include "attention.h"
#include "kv.h"

typedef struct syn_ops {
    /* out = x / sqrt(mean(x^2) + eps) * weight; out may be x */
    void (*norm)(const float *x, const float *weight, float eps, int64_t n, float *out);
    void (*add)(float *x, const float *y, int64_t n);
    void (*scale)(float *x, float factor, int64_t n);
    /* x = cap tanh(x / cap); any n */
    void (*softcap)(float *x, float cap, int64_t n);
    /* out = activation(gate) * up; out may be gate */
    void (*gate)(int activation, const float *gate, const float *up, int64_t n, float *out);
    void (*rope)(float *x, const float *cosine, const float *sine, int64_t half, int interleaved);
    /* key and value [head_dim] to position `slot` of a unit */
    void (*store)(const syn_kv *kv, char *unit, int64_t slot, const float *key, const float *value);
    void (*attend)(const syn_attention *attention);
} syn_ops;

const syn_ops *syn_ops_for(int isa);

extern const syn_ops syn_ops_reference;
#if defined(__x86_64__)
extern const syn_ops syn_ops_avx2, syn_ops_avx512;
#endif

#endif
