/* SPDX-License-Identifier: BUSL-1.1 */
/* Sixteen floats in one register: the operations that the fast kernels are written in. */
#ifndef SYN_MATH_AVX512_H
#define SYN_MATH_AVX512_H

#include <immintrin.h>
#include <stdint.h>

typedef __m512 v16;

#define INLINE static inline __attribute__((always_inline))

INLINE v16 v_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void v_store(float *p, v16 a) { _mm512_storeu_ps(p, a); }
INLINE v16 v_set(float x) { return _mm512_set1_ps(x); }
INLINE v16 v_add(v16 a, v16 b) { return _mm512_add_ps(a, b); }
INLINE v16 v_sub(v16 a, v16 b) { return _mm512_sub_ps(a, b); }
INLINE v16 v_mul(v16 a, v16 b) { return _mm512_mul_ps(a, b); }
INLINE v16 v_div(v16 a, v16 b) { return _mm512_div_ps(a, b); }
INLINE v16 v_fma(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
/* c - a b */
INLINE v16 v_fnma(v16 a, v16 b, v16 c) { return _mm512_fnmadd_ps(a, b, c); }
/* a b - c */
INLINE v16 v_fms(v16 a, v16 b, v16 c) { return _mm512_fmsub_ps(a, b, c); }
INLINE v16 v_max(v16 a, v16 b) { return _mm512_max_ps(a, b); }
INLINE v16 v_min(v16 a, v16 b) { return _mm512_min_ps(a, b); }
INLINE v16 v_abs(v16 a) { return _mm512_abs_ps(a); }
INLINE v16 v_neg(v16 a) {
    return _mm512_castsi512_ps(
        _mm512_xor_si512(_mm512_castps_si512(a), _mm512_set1_epi32(INT32_MIN)));
}
INLINE v16 v_rint(v16 a) { return _mm512_roundscale_ps(a, 8); }
/* 2^n for whole n between -126 and 127 */
INLINE v16 v_power2(v16 n) {
    __m512i biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(biased, 23));
}
/* y, but 0 where x < limit */
INLINE v16 v_zero_below(v16 x, v16 limit, v16 y) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), y);
}
/* y in the lanes whose bit is set, else x */
INLINE v16 v_select(uint32_t bits, v16 x, v16 y) {
    return _mm512_mask_mov_ps(x, (__mmask16)bits, y);
}

/* The fixed tree: lane j takes lane j + 8, then j + 4, j + 2, j + 1. */
INLINE __m256 v_upper(v16 a) { return _mm512_extractf32x8_ps(a, 1); }
INLINE __m256 v_lower(v16 a) { return _mm512_castps512_ps256(a); }

INLINE v16 v_from_bf16(const uint16_t *p) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
INLINE v16 v_from_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
INLINE v16 v_from_i8(const int8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
INLINE void v_to_bf16(uint16_t *p, v16 a) {
    __m512i bits = _mm512_castps_si512(a);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    __mmask16 none = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
    up = _mm512_mask_or_epi32(up, none, bits, _mm512_set1_epi32(0x400000));
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(up, 16)));
}
INLINE void v_to_f16(uint16_t *p, v16 a) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
/* Whole numbers between -127 and 127. */
INLINE void v_to_i8(int8_t *p, v16 a) {
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
}

#endif
