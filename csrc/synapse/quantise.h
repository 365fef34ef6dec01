/* SPDX-License-Identifier: BUSL-1.1 */
/* Activations in blocks of 32, quantised per row just before a matrix multiplication.
 *
 * 8 bits: with hi = max(x, 0) and lo = min(x, 0) of the block, s = (hi - lo) / 255, r = 1 / s,
 * z = rint(-lo * r), u = clamp(rint(x * r) + z, 0, 255); value = s * (u - z). The zero point buys
 * a factor of two in accuracy over symmetric int8 on activations that lean to one side.
 * 12 bits: s = max|x| / 2047, i = clamp(rint(x * r), -2047, 2047); value = s * i.
 *
 * A block that is all zero, or so small that r overflows, has s = 0 and zeros. A block with an
 * infinity or a NaN has s = X = NaN, so that they reach the output instead of turning into
 * numbers. */
#ifndef SYN_QUANTISE_H
#define SYN_QUANTISE_H

#include "matmul.h"
#include "quant.h"

typedef struct {
    uint8_t u[SYN_BLOCK];
    float s, x;  /* x: s * (float)(sum of u - z) */
    int32_t z;   /* minus the zero point */
    int32_t pad; /* of 16 bytes, so that rows keep their alignment */
} syn_act8;

/* order: inputs (0 2 1 3) of each four, as 16-bit lanes come out of bytes without a shuffle. */
typedef struct {
    int16_t i[SYN_BLOCK];
    float s, x;
    int32_t pad[2];
} syn_act16;

_Static_assert(sizeof(syn_act8) == 48 && sizeof(syn_act16) == 80, "strides in the kernels");

/* Below this scale a block counts as zero: 1 / s would not be finite. */
#define SYN_ACT_TINY 0x1p-125f

/* x: [32 * blocks] */
void syn_quantise8_avx2(const float *x, int64_t blocks, syn_act8 *out);
void syn_quantise16_avx2(const float *x, int64_t blocks, syn_act16 *out);
void syn_quantise8_avx512(const float *x, int64_t blocks, syn_act8 *out);
void syn_quantise16_avx512(const float *x, int64_t blocks, syn_act16 *out);

#endif
