/* SPDX-License-Identifier: BUSL-1.1 */
/* math_scalar.h's functions on 16 lanes; included after math_avx2.h or math_avx512.h. */
#ifndef SYN_MATH_LANES_H
#define SYN_MATH_LANES_H

#include "math_scalar.h"

INLINE float half_sum(__m256 a) {
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}
INLINE float half_max(__m256 a) {
    __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
}
INLINE float v_sum(v16 a) { return half_sum(_mm256_add_ps(v_lower(a), v_upper(a))); }
INLINE float v_largest(v16 a) { return half_max(_mm256_max_ps(v_lower(a), v_upper(a))); }

INLINE v16 v_exp(v16 x) {
    v16 clipped = v_min(v_max(x, v_set(EXP_LOW)), v_set(EXP_HIGH));
    v16 n = v_rint(v_mul(clipped, v_set(LOG2_E)));
    v16 r = v_fnma(n, v_set(LN2_LOW), v_fnma(n, v_set(LN2_HIGH), clipped));
    v16 p = v_fma(v_set(EXP_C6), r, v_set(EXP_C5));
    p = v_fma(p, r, v_set(EXP_C4));
    p = v_fma(p, r, v_set(EXP_C3));
    p = v_fma(p, r, v_set(EXP_C2));
    p = v_add(v_fma(p, v_mul(r, r), r), v_set(1.0f));
    return v_zero_below(x, v_set(EXP_LOW), v_mul(p, v_power2(n)));
}
INLINE v16 v_gated(v16 x, v16 u) {
    return v_div(x, v_add(v_set(1.0f), v_exp(v_neg(u))));
}
INLINE v16 v_silu(v16 x) { return v_gated(x, x); }
INLINE v16 v_gelu_tanh(v16 x) {
    v16 cubic = v_mul(v_set(GELU_CUBIC), v_mul(x, x));
    v16 v = v_mul(v_set(GELU_INNER), v_fma(cubic, x, x));
    return v_gated(x, v_add(v, v));
}
INLINE v16 v_tanh(v16 x) {
    v16 up = v_add(v_set(1.0f), v_exp(v_add(x, x)));
    return v_sub(v_set(1.0f), v_div(v_set(2.0f), up));
}
INLINE void v_to_f16_saturated(uint16_t *p, v16 a) {
    v_to_f16(p, v_min(v_max(a, v_set(-F16_MAX)), v_set(F16_MAX)));
}

#endif
