/* SPDX-License-Identifier: BUSL-1.1 */
/* The exact GELU, x times the normal distribution function, as one formula for both signs.
 *
 * With E(z) = erfc(z / sqrt 2) it is max(x, 0) - |x|/2 E(|x|), which keeps the small values of
 * negative x exact to a few units in the last place. E(z) = exp(-z P(z)), P fitted on [0, 8] to
 * -ln(E(z)) / z with the weight that makes GELU's own error even (below 1e-9 before rounding);
 * from 8 on E counts as E(8), 1e-15. */
#ifndef SYN_ENCODER_MATH_H
#define SYN_ENCODER_MATH_H

#include "math_scalar.h"

#define GELU_END 8.0f
#define GELU_TERMS 11
/* Highest power first. */
static const float gelu_terms[GELU_TERMS] = {
    -2.436237e-09f,  8.6586674e-08f, -1.357318e-06f,  1.2350568e-05f,
    -7.0571972e-05f, 0.00023340307f, -5.3302618e-05f, -0.0047744229f,
    0.036333635f,    0.31831008f,    0.79788458f,
};

static inline float f32_gelu(float x) {
    float size = fabsf(x), z = f32_min(size, GELU_END), p = gelu_terms[0];
    for (int i = 1; i < GELU_TERMS; i++) p = fmaf(p, z, gelu_terms[i]);
    return fmaf(-0.5f * size, f32_exp(-(z * p)), f32_max(x, 0.0f));
}

#endif
