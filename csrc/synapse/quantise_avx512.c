/* SPDX-License-Identifier: BUSL-1.1 */
/* Activation quantisation on AVX-512, the same numbers as the reference. */
#include <immintrin.h>
#include <math.h>

#include "quantise.h"

enum { NAN_OR_INFINITE = 0x99 /* quiet, signalling, both infinities */ };

static inline int finite_block(__m512 x, __m512 y) {
    return !(_mm512_fpclass_ps_mask(x, NAN_OR_INFINITE) |
             _mm512_fpclass_ps_mask(y, NAN_OR_INFINITE));
}

/* Greatest of lanes 0..7 in each of them, and of lanes 8..15. */
static inline __m512 greatest_of_eight(__m512 x) {
    x = _mm512_max_ps(x, _mm512_shuffle_f32x4(x, x, _MM_SHUFFLE(2, 3, 0, 1)));
    x = _mm512_max_ps(x, _mm512_permute_ps(x, _MM_SHUFFLE(1, 0, 3, 2)));
    return _mm512_max_ps(x, _mm512_permute_ps(x, _MM_SHUFFLE(2, 3, 0, 1)));
}

/* max(x, 0) and -min(x, 0) of a block, by one reduction */
static inline void range(__m512 x, __m512 y, float *high, float *minus_low) {
    const __m512 zero = _mm512_setzero_ps();
    __m512 top = _mm512_max_ps(_mm512_max_ps(x, y), zero);
    __m512 bottom = _mm512_sub_ps(zero, _mm512_min_ps(_mm512_min_ps(x, y), zero));
    __m512 both = greatest_of_eight(
        _mm512_max_ps(_mm512_shuffle_f32x4(top, bottom, _MM_SHUFFLE(1, 0, 1, 0)),
                      _mm512_shuffle_f32x4(top, bottom, _MM_SHUFFLE(3, 2, 3, 2))));
    *high = _mm512_cvtss_f32(both);
    *minus_low = _mm_cvtss_f32(_mm512_extractf32x4_ps(both, 2));
}

static inline __m128i codes8(__m512 x, __m512 r, __m512i z) {
    __m512i q = _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(x, r)), z);
    return _mm512_cvtusepi32_epi8(_mm512_max_epi32(q, _mm512_setzero_si512()));
}

static inline int32_t sum_bytes(__m128i a, __m128i b) {
    const __m128i zero = _mm_setzero_si128();
    __m128i sums = _mm_add_epi64(_mm_sad_epu8(a, zero), _mm_sad_epu8(b, zero));
    return (int32_t)(_mm_cvtsi128_si64(sums) + _mm_extract_epi64(sums, 1));
}

static inline void block8(const float *from, syn_act8 *out) {
    __m512 x = _mm512_loadu_ps(from), y = _mm512_loadu_ps(from + 16);
    float high, minus_low;
    range(x, y, &high, &minus_low);
    float s = (high + minus_low) / 255;
    if (!(s >= SYN_ACT_TINY && s < INFINITY && finite_block(x, y))) {
        memset(out, 0, sizeof *out);
        if (!(s < INFINITY && finite_block(x, y))) out->s = out->x = NAN;
        return;
    }
    float r = 1 / s;
    __m512 rs = _mm512_set1_ps(r);
    int32_t z = _mm_cvtss_si32(_mm_set_ss(minus_low * r));
    __m128i a = codes8(x, rs, _mm512_set1_epi32(z)), b = codes8(y, rs, _mm512_set1_epi32(z));
    _mm_store_si128((__m128i *)out->u, a);
    _mm_store_si128((__m128i *)(out->u + 16), b);
    out->s = s;
    out->x = s * (float)(sum_bytes(a, b) - SYN_BLOCK * z);
    out->z = -z;
    out->pad = 0;
}

/* 16 inputs as int16, those of each four in the order 0 2 1 3 */
static inline __m256i codes16(__m512 x, __m512 r) {
    __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(x, r));
    q = _mm512_max_epi32(_mm512_min_epi32(q, _mm512_set1_epi32(2047)), _mm512_set1_epi32(-2047));
    return _mm512_cvtepi32_epi16(_mm512_shuffle_epi32(q, _MM_PERM_DBCA));
}

static inline int32_t sum_words(__m256i a, __m256i b) {
    __m256i pairs = _mm256_madd_epi16(_mm256_add_epi16(a, b), _mm256_set1_epi16(1));
    __m128i x = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    x = _mm_add_epi32(x, _mm_shuffle_epi32(x, _MM_SHUFFLE(1, 0, 3, 2)));
    return _mm_cvtsi128_si32(x) + _mm_extract_epi32(x, 1);
}

static inline void block16(const float *from, syn_act16 *out) {
    __m512 x = _mm512_loadu_ps(from), y = _mm512_loadu_ps(from + 16);
    float s = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(x), _mm512_abs_ps(y))) / 2047;
    if (!(s >= SYN_ACT_TINY && finite_block(x, y))) {
        memset(out, 0, sizeof *out);
        if (!finite_block(x, y)) out->s = out->x = NAN;
        return;
    }
    __m512 r = _mm512_set1_ps(1 / s);
    __m256i a = codes16(x, r), b = codes16(y, r);
    _mm256_storeu_si256((__m256i *)out->i, a);
    _mm256_storeu_si256((__m256i *)(out->i + 16), b);
    out->s = s;
    out->x = s * (float)sum_words(a, b);
    out->pad[0] = out->pad[1] = 0;
}

void syn_quantise8_avx512(const float *x, int64_t blocks, syn_act8 *out) {
    for (int64_t b = 0; b < blocks; b++) block8(x + b * SYN_BLOCK, out + b);
}

void syn_quantise16_avx512(const float *x, int64_t blocks, syn_act16 *out) {
    for (int64_t b = 0; b < blocks; b++) block16(x + b * SYN_BLOCK, out + b);
}
