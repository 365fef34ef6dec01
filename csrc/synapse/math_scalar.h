/* SPDX-License-Identifier: BUSL-1.1 */
/* The engine's own exp and what is made of it, and the conversions of the KV cache.
 *
 * math_avx2.h and math_avx512.h do the same operations in the same order on 16 lanes, so that
 * all instruction sets give the same bits. libm's functions would not. */
#ifndef SYN_MATH_SCALAR_H
#define SYN_MATH_SCALAR_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define EXP_LOW -87.0f /* below: 0 */
#define EXP_HIGH 88.0f /* above: exp(88) */
#define LOG2_E 0x1.715476p+0f
#define LN2_HIGH 0.693145751953125f /* 16 bits: n * LN2_HIGH is exact */
#define LN2_LOW 1.42860682e-6f
/* exp(r) = 1 + r + r^2 (C2 + C3 r + ... + C6 r^4), |r| <= ln(2)/2; fitted to 3e-9. */
#define EXP_C2 0.49999994f
#define EXP_C3 0.16666521f
#define EXP_C4 0.04166839f
#define EXP_C5 0.008368745f
#define EXP_C6 0.0013814543f
#define GELU_INNER 0.7978845608f /* sqrt(2 / pi) */
#define GELU_CUBIC 0.044715f

/* As maxps and minps: the second one where either is no number. */
static inline float f32_max(float a, float b) { return a > b ? a : b; }
static inline float f32_min(float a, float b) { return a < b ? a : b; }

static inline uint32_t f32_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static inline float f32_from_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Error below 1.5 units in the last place; exp(0) is exactly 1. */
static inline float f32_exp(float x) {
    float clipped = f32_min(f32_max(x, EXP_LOW), EXP_HIGH);
    float n = rintf(clipped * LOG2_E);
    float r = fmaf(-n, LN2_LOW, fmaf(-n, LN2_HIGH, clipped));
    float p = fmaf(EXP_C6, r, EXP_C5);
    p = fmaf(p, r, EXP_C4);
    p = fmaf(p, r, EXP_C3);
    p = fmaf(p, r, EXP_C2);
    p = fmaf(p, r * r, r) + 1.0f;
    float power = f32_from_bits((uint32_t)((int32_t)n + 127) << 23);
    return x < EXP_LOW ? 0.0f : p * power;
}

/* x times the logistic function of u. */
static inline float f32_gated(float x, float u) { return x / (1.0f + f32_exp(-u)); }

static inline float f32_silu(float x) { return f32_gated(x, x); }

/* 0.5 x (1 + tanh(v)) = x logistic(2 v), v = sqrt(2 / pi) (x + 0.044715 x^3) */
static inline float f32_gelu_tanh(float x) {
    float v = GELU_INNER * fmaf(GELU_CUBIC * (x * x), x, x);
    return f32_gated(x, v + v);
}

static inline float f32_tanh(float x) { return 1.0f - 2.0f / (1.0f + f32_exp(x + x)); }

/* To the nearest, ties to even. Infinities stay; what is no number stays none. */
static inline uint16_t bf16_from_f32(float x) {
    uint32_t bits = f32_bits(x);
    if (x != x) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
static inline float bf16_to_f32(uint16_t x) { return f32_from_bits((uint32_t)x << 16); }

#define F16_MAX 65504.0f

/* Saturates: a value that F16 lacks must not become infinite in the cache. */
static inline uint16_t f16_from_f32(float x) {
    _Float16 half = (_Float16)f32_min(f32_max(x, -F16_MAX), F16_MAX);
    uint16_t bits;
    memcpy(&bits, &half, sizeof bits);
    return bits;
}
static inline float f16_to_f32(uint16_t x) {
    _Float16 half;
    memcpy(&half, &x, sizeof half);
    return (float)half;
}

#endif
