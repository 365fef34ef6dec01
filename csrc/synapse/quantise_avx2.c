/* SPDX-License-Identifier: BUSL-1.1 */
/* Activation quantisation on AVX2, the same numbers as the reference. */
#include <immintrin.h>
#include <math.h>

#include "quantise.h"

static inline void load(const float *from, __m256 *x) {
    for (int i = 0; i < 4; i++) x[i] = _mm256_loadu_ps(from + 8 * i);
}

static inline float greatest(__m256 x) {
    __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_max_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_movehdup_ps(y)));
}

/* An exponent of all ones: infinity or NaN. */
static inline int finite_block(const __m256 *x) {
    const __m256i exponent = _mm256_set1_epi32(0x7f800000);
    __m256i bad = _mm256_setzero_si256();
    for (int i = 0; i < 4; i++) {
        __m256i bits = _mm256_and_si256(_mm256_castps_si256(x[i]), exponent);
        bad = _mm256_or_si256(bad, _mm256_cmpeq_epi32(bits, exponent));
    }
    return _mm256_testz_si256(bad, bad);
}

static inline int32_t sum_words(__m256i x) {
    __m128i y = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    y = _mm_add_epi32(y, _mm_shuffle_epi32(y, _MM_SHUFFLE(1, 0, 3, 2)));
    return _mm_cvtsi128_si32(y) + _mm_extract_epi32(y, 1);
}

/* 8 numbers as int32, clamped */
static inline __m256i codes(__m256 x, __m256 r, int32_t z, int32_t low, int32_t high) {
    __m256i q = _mm256_cvtps_epi32(_mm256_mul_ps(x, r));
    q = _mm256_add_epi32(q, _mm256_set1_epi32(z));
    return _mm256_max_epi32(_mm256_min_epi32(q, _mm256_set1_epi32(high)), _mm256_set1_epi32(low));
}

static inline void block8(const float *from, syn_act8 *out) {
    const __m256 zero = _mm256_setzero_ps();
    __m256 x[4];
    load(from, x);
    __m256 top = _mm256_max_ps(_mm256_max_ps(x[0], x[1]), _mm256_max_ps(x[2], x[3]));
    __m256 bottom = _mm256_min_ps(_mm256_min_ps(x[0], x[1]), _mm256_min_ps(x[2], x[3]));
    float high = greatest(_mm256_max_ps(top, zero));
    float minus_low = greatest(_mm256_sub_ps(zero, _mm256_min_ps(bottom, zero)));
    float s = (high + minus_low) / 255;
    int finite = s < INFINITY && finite_block(x);
    if (!finite || s < SYN_ACT_TINY) {
        memset(out, 0, sizeof *out);
        if (!finite) out->s = out->x = NAN;
        return;
    }
    float r = 1 / s;
    int32_t z = _mm_cvtss_si32(_mm_set_ss(minus_low * r));
    __m256i sum = _mm256_setzero_si256();
    for (int i = 0; i < 4; i++) {
        __m256i q = codes(x[i], _mm256_set1_ps(r), z, 0, 255);
        sum = _mm256_add_epi32(sum, q);
        __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
        _mm_storel_epi64((__m128i *)(out->u + 8 * i), _mm_packus_epi16(words, words));
    }
    out->s = s;
    out->x = s * (float)(sum_words(sum) - SYN_BLOCK * z);
    out->z = -z;
    out->pad = 0;
}

static inline void block16(const float *from, syn_act16 *out) {
    const __m256 plain = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    __m256 x[4], top = _mm256_setzero_ps();
    load(from, x);
    for (int i = 0; i < 4; i++) top = _mm256_max_ps(top, _mm256_and_ps(x[i], plain));
    float s = greatest(top) / 2047;
    int finite = finite_block(x);
    if (!finite || s < SYN_ACT_TINY) {
        memset(out, 0, sizeof *out);
        if (!finite) out->s = out->x = NAN;
        return;
    }
    __m256 r = _mm256_set1_ps(1 / s);
    __m256i sum = _mm256_setzero_si256();
    for (int i = 0; i < 4; i++) {
        __m256i q = codes(x[i], r, 0, -2047, 2047);
        sum = _mm256_add_epi32(sum, q);
        q = _mm256_shuffle_epi32(q, _MM_SHUFFLE(3, 1, 2, 0));
        __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
        _mm_storeu_si128((__m128i *)(out->i + 8 * i), words);
    }
    out->s = s;
    out->x = s * (float)sum_words(sum);
    out->pad[0] = out->pad[1] = 0;
}

void syn_quantise8_avx2(const float *x, int64_t blocks, syn_act8 *out) {
    for (int64_t b = 0; b < blocks; b++) block8(x + b * SYN_BLOCK, out + b);
}

void syn_quantise16_avx2(const float *x, int64_t blocks, syn_act16 *out) {
    for (int64_t b = 0; b < blocks; b++) block16(x + b * SYN_BLOCK, out + b);
}
