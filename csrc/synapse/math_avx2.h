/* SPDX-License-Identifier: BUSL-1.1 */
/* Sixteen floats in two registers: the operations that the fast kernels are written in. */
#ifndef SYN_MATH_AVX2_H
#define SYN_MATH_AVX2_H

#include <immintrin.h>
#include <stdint.h>

typedef struct v16 {
    __m256 low, high;
} v16;

#define INLINE static inline __attribute__((always_inline))
#define EACH(f, a, b) ((v16){f((a).low, (b).low), f((a).high, (b).high)})
#define EACH3(f, a, b, c) ((v16){f((a).low, (b).low, (c).low), f((a).high, (b).high, (c).high)})

INLINE v16 v_load(const float *p) { return (v16){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
INLINE void v_store(float *p, v16 a) {
    _mm256_storeu_ps(p, a.low);
    _mm256_storeu_ps(p + 8, a.high);
}
INLINE v16 v_set(float x) { return (v16){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
INLINE v16 v_add(v16 a, v16 b) { return EACH(_mm256_add_ps, a, b); }
INLINE v16 v_sub(v16 a, v16 b) { return EACH(_mm256_sub_ps, a, b); }
INLINE v16 v_mul(v16 a, v16 b) { return EACH(_mm256_mul_ps, a, b); }
INLINE v16 v_div(v16 a, v16 b) { return EACH(_mm256_div_ps, a, b); }
INLINE v16 v_fma(v16 a, v16 b, v16 c) { return EACH3(_mm256_fmadd_ps, a, b, c); }
/* c - a b */
INLINE v16 v_fnma(v16 a, v16 b, v16 c) { return EACH3(_mm256_fnmadd_ps, a, b, c); }
/* a b - c */
INLINE v16 v_fms(v16 a, v16 b, v16 c) { return EACH3(_mm256_fmsub_ps, a, b, c); }
INLINE v16 v_max(v16 a, v16 b) { return EACH(_mm256_max_ps, a, b); }
INLINE v16 v_min(v16 a, v16 b) { return EACH(_mm256_min_ps, a, b); }
INLINE v16 v_abs(v16 a) {
    __m256 sign = _mm256_set1_ps(-0.0f);
    return (v16){_mm256_andnot_ps(sign, a.low), _mm256_andnot_ps(sign, a.high)};
}
INLINE v16 v_neg(v16 a) { return EACH(_mm256_xor_ps, a, v_set(-0.0f)); }
INLINE v16 v_rint(v16 a) {
    return (v16){_mm256_round_ps(a.low, 8), _mm256_round_ps(a.high, 8)};
}
INLINE __m256 power2_half(__m256 n) {
    __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
}
/* 2^n for whole n between -126 and 127 */
INLINE v16 v_power2(v16 n) { return (v16){power2_half(n.low), power2_half(n.high)}; }
INLINE __m256 zero_below_half(__m256 x, __m256 limit, __m256 y) {
    return _mm256_andnot_ps(_mm256_cmp_ps(x, limit, _CMP_LT_OQ), y);
}
/* y, but 0 where x < limit */
INLINE v16 v_zero_below(v16 x, v16 limit, v16 y) { return EACH3(zero_below_half, x, limit, y); }
INLINE __m256 lanes_of(uint32_t bits) {
    __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    __m256i set = _mm256_and_si256(_mm256_set1_epi32((int)bits), lane);
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, lane));
}
/* y in the lanes whose bit is set, else x */
INLINE v16 v_select(uint32_t bits, v16 x, v16 y) {
    return (v16){_mm256_blendv_ps(x.low, y.low, lanes_of(bits)),
                 _mm256_blendv_ps(x.high, y.high, lanes_of(bits >> 8))};
}

/* The fixed tree: lane j takes lane j + 8, then j + 4, j + 2, j + 1. */
INLINE __m256 v_upper(v16 a) { return a.high; }
INLINE __m256 v_lower(v16 a) { return a.low; }

INLINE __m256 bf16_half(const uint16_t *p) {
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
INLINE v16 v_from_bf16(const uint16_t *p) { return (v16){bf16_half(p), bf16_half(p + 8)}; }
INLINE v16 v_from_f16(const uint16_t *p) {
    return (v16){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                 _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
}
INLINE __m256 i8_half(const int8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
INLINE v16 v_from_i8(const int8_t *p) { return (v16){i8_half(p), i8_half(p + 8)}; }
INLINE __m256i bf16_bits(__m256 a) {
    __m256i bits = _mm256_castps_si256(a);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    __m256i none = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    return _mm256_srli_epi32(_mm256_blendv_epi8(up, quiet, none), 16);
}
INLINE void v_to_bf16(uint16_t *p, v16 a) {
    __m256i packed = _mm256_packus_epi32(bf16_bits(a.low), bf16_bits(a.high));
    _mm256_storeu_si256((__m256i *)p, _mm256_permute4x64_epi64(packed, 0xd8));
}
INLINE void v_to_f16(uint16_t *p, v16 a) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(a.low, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)(p + 8), _mm256_cvtps_ph(a.high, _MM_FROUND_TO_NEAREST_INT));
}
/* Whole numbers between -127 and 127. */
INLINE void v_to_i8(int8_t *p, v16 a) {
    __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(a.low), _mm256_cvtps_epi32(a.high));
    words = _mm256_permute4x64_epi64(words, 0xd8);
    __m256i bytes = _mm256_packs_epi16(words, words);
    _mm_storel_epi64((__m128i *)p, _mm256_castsi256_si128(bytes));
    _mm_storel_epi64((__m128i *)(p + 8), _mm256_extracti128_si256(bytes, 1));
}

#endif
