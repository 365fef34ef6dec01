/* SPDX-License-Identifier: BUSL-1.1 */
/* Activation quantisation on AVX-512, the same numbers as the reference: many blocks at a time, so
 * that their scales are vectors and nothing branches. */
#include <immintrin.h>

#include "quantise.h"

enum { GROUP = 64, NAN_OR_INFINITE = 0x99 /* quiet, signalling, both infinities */ };

/* Of each block of a group. */
typedef struct {
    float s[GROUP], r[GROUP]; /* r: 1 / s, or 0 where all codes are 0 */
    int32_t z[GROUP];
} scales;

/* Greatest of lanes 0..7 in each of them, and of lanes 8..15. */
static inline __m512 greatest_of_eight(__m512 x) {
    x = _mm512_max_ps(x, _mm512_shuffle_f32x4(x, x, _MM_SHUFFLE(2, 3, 0, 1)));
    x = _mm512_max_ps(x, _mm512_permute_ps(x, _MM_SHUFFLE(1, 0, 3, 2)));
    return _mm512_max_ps(x, _mm512_permute_ps(x, _MM_SHUFFLE(2, 3, 0, 1)));
}

/* max(x, 0) and -min(x, 0) of a block, by one reduction: in lanes 0..7 and 8..15 */
static inline __m512 range(__m512 x, __m512 y) {
    const __m512 zero = _mm512_setzero_ps();
    __m512 top = _mm512_max_ps(_mm512_max_ps(x, y), zero);
    __m512 bottom = _mm512_sub_ps(zero, _mm512_min_ps(_mm512_min_ps(x, y), zero));
    return greatest_of_eight(
        _mm512_max_ps(_mm512_shuffle_f32x4(top, bottom, _MM_SHUFFLE(1, 0, 1, 0)),
                      _mm512_shuffle_f32x4(top, bottom, _MM_SHUFFLE(3, 2, 3, 2))));
}

static inline uint64_t is_bad(__m512 x, __m512 y) {
    return (_mm512_fpclass_ps_mask(x, NAN_OR_INFINITE) |
            _mm512_fpclass_ps_mask(y, NAN_OR_INFINITE)) != 0;
}

/* 16 scales from block b on. s: before the exceptions; bad: blocks with an infinity or a NaN.
 * Returns r. */
static inline __m512 settle(__m512 s, __mmask16 bad, int64_t b, scales *out) {
    bad |= _mm512_fpclass_ps_mask(s, NAN_OR_INFINITE);
    __mmask16 fine = _mm512_cmp_ps_mask(s, _mm512_set1_ps(SYN_ACT_TINY), _CMP_GE_OQ) & ~bad;
    __m512 r = _mm512_maskz_div_ps(fine, _mm512_set1_ps(1), s);
    s = _mm512_mask_blend_ps(bad, _mm512_maskz_mov_ps(fine, s), _mm512_set1_ps(__builtin_nanf("")));
    _mm512_storeu_ps(out->s + b, s);
    _mm512_storeu_ps(out->r + b, r);
    return r;
}

static void measure8(const float *x, int64_t blocks, scales *out) {
    float high[GROUP], minus_low[GROUP];
    uint64_t bad = 0;
    for (int64_t b = 0; b < blocks; b++, x += SYN_BLOCK) {
        __m512 left = _mm512_loadu_ps(x), right = _mm512_loadu_ps(x + 16);
        __m512 both = range(left, right);
        high[b] = _mm512_cvtss_f32(both);
        minus_low[b] = _mm_cvtss_f32(_mm512_extractf32x4_ps(both, 2));
        bad |= is_bad(left, right) << b;
    }
    for (int64_t b = 0; b < blocks; b += 16) {
        __m512 low = _mm512_loadu_ps(minus_low + b);
        __m512 s = _mm512_div_ps(_mm512_add_ps(_mm512_loadu_ps(high + b), low), _mm512_set1_ps(255));
        __m512 r = settle(s, (__mmask16)(bad >> b), b, out);
        __mmask16 used = _mm512_cmp_ps_mask(r, _mm512_setzero_ps(), _CMP_NEQ_OQ);
        __m512i z = _mm512_maskz_cvtps_epi32(used, _mm512_mul_ps(low, r));
        _mm512_storeu_si512(out->z + b, z);
    }
}

static void measure16(const float *x, int64_t blocks, scales *out) {
    float top[GROUP];
    uint64_t bad = 0;
    for (int64_t b = 0; b < blocks; b++, x += SYN_BLOCK) {
        __m512 left = _mm512_loadu_ps(x), right = _mm512_loadu_ps(x + 16);
        top[b] = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(left), _mm512_abs_ps(right)));
        bad |= is_bad(left, right) << b;
    }
    for (int64_t b = 0; b < blocks; b += 16) {
        __m512 s = _mm512_div_ps(_mm512_loadu_ps(top + b), _mm512_set1_ps(2047));
        settle(s, (__mmask16)(bad >> b), b, out);
    }
}

/* A NaN becomes the least integer, and that 0. */
static inline __m128i codes8(__m512 x, __m512 r, __m512i z) {
    __m512i q = _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(x, r)), z);
    return _mm512_cvtusepi32_epi8(_mm512_max_epi32(q, _mm512_setzero_si512()));
}

static inline int32_t sum_bytes(__m128i a, __m128i b) {
    const __m128i zero = _mm_setzero_si128();
    __m128i sums = _mm_add_epi64(_mm_sad_epu8(a, zero), _mm_sad_epu8(b, zero));
    return (int32_t)(_mm_cvtsi128_si64(sums) + _mm_extract_epi64(sums, 1));
}

static inline void block8(const float *x, float s, float rs, int32_t z, syn_act8 *out) {
    __m512 r = _mm512_set1_ps(rs);
    __m128i a = codes8(_mm512_loadu_ps(x), r, _mm512_set1_epi32(z));
    __m128i b = codes8(_mm512_loadu_ps(x + 16), r, _mm512_set1_epi32(z));
    _mm_store_si128((__m128i *)out->u, a);
    _mm_store_si128((__m128i *)(out->u + 16), b);
    out->s = s;
    out->x = s * (float)(sum_bytes(a, b) - SYN_BLOCK * z);
    out->z = -z;
    out->pad = 0;
}

/* 16 inputs as int16, those of each four in the order 0 2 1 3. A NaN becomes 0: its product with
 * r is no number, and the mask leaves it out. */
static inline __m256i codes16(__m512 x, __m512 r) {
    x = _mm512_mul_ps(x, r);
    __m512i q = _mm512_maskz_cvtps_epi32(_mm512_cmp_ps_mask(x, x, _CMP_ORD_Q), x);
    q = _mm512_max_epi32(_mm512_min_epi32(q, _mm512_set1_epi32(2047)), _mm512_set1_epi32(-2047));
    return _mm512_cvtepi32_epi16(_mm512_shuffle_epi32(q, _MM_PERM_DBCA));
}

static inline int32_t sum_words(__m256i a, __m256i b) {
    __m256i pairs = _mm256_madd_epi16(_mm256_add_epi16(a, b), _mm256_set1_epi16(1));
    __m128i x = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    x = _mm_add_epi32(x, _mm_shuffle_epi32(x, _MM_SHUFFLE(1, 0, 3, 2)));
    return _mm_cvtsi128_si32(x) + _mm_extract_epi32(x, 1);
}

static inline void block16(const float *x, float s, float rs, syn_act16 *out) {
    __m512 r = _mm512_set1_ps(rs);
    __m256i a = codes16(_mm512_loadu_ps(x), r), b = codes16(_mm512_loadu_ps(x + 16), r);
    _mm256_storeu_si256((__m256i *)out->i, a);
    _mm256_storeu_si256((__m256i *)(out->i + 16), b);
    out->s = s;
    out->x = s * (float)sum_words(a, b);
    out->pad[0] = out->pad[1] = 0;
}

void syn_quantise8_avx512(const float *x, int64_t blocks, syn_act8 *out) {
    scales of;
    for (int64_t b0 = 0; b0 < blocks; b0 += GROUP) {
        int64_t count = blocks - b0 < GROUP ? blocks - b0 : GROUP;
        measure8(x + b0 * SYN_BLOCK, count, &of);
        for (int64_t b = 0; b < count; b++)
            block8(x + (b0 + b) * SYN_BLOCK, of.s[b], of.r[b], of.z[b], out + b0 + b);
    }
}

void syn_quantise16_avx512(const float *x, int64_t blocks, syn_act16 *out) {
    scales of;
    for (int64_t b0 = 0; b0 < blocks; b0 += GROUP) {
        int64_t count = blocks - b0 < GROUP ? blocks - b0 : GROUP;
        measure16(x + b0 * SYN_BLOCK, count, &of);
        for (int64_t b = 0; b < count; b++)
            block16(x + (b0 + b) * SYN_BLOCK, of.s[b], of.r[b], out + b0 + b);
    }
}
