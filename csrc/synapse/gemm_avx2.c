/* SPDX-License-Identifier: BUSL-1.1 */
/* Quantised weights on AVX2: the plan of gemm_avx512.c with half a panel at a time.
 *
 * Products of u8 by codes of up to six bits are summed by four in 16 bits without saturation
 * (4 bits: by eight). Codes of eight bits would saturate: they and the 16-bit activations are
 * multiplied as 16-bit numbers, half a block at a time. */
#include "gemm_avx2.h"

enum { ROWS = 64 };

typedef struct {
    float acc[ROWS][8];
    int32_t isum[ROWS][8]; /* of the first half of a block */
} sums;

SYN_INLINE __m256i broadcast(const void *four_bytes) {
    int32_t value;
    memcpy(&value, four_bytes, sizeof value);
    return _mm256_set1_epi32(value);
}

SYN_INLINE void finish(syn_layout l, __m256i isum, __m256 d, __m256 m, float s, float x, int last,
                       float *at) {
    __m256 acc = _mm256_loadu_ps(at);
    acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(isum), _mm256_mul_ps(d, _mm256_set1_ps(s)), acc);
    if (l.minima && last) acc = _mm256_fmadd_ps(m, _mm256_set1_ps(x), acc);
    _mm256_storeu_ps(at, acc);
}

/* sum over the four inputs of each output, as the low 16 bits of 32 */
SYN_INLINE __m256i total_of(const __m256i *w, int groups) {
    __m256i total = _mm256_setzero_si256();
    for (int g = 0; g < groups; g++) {
        __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), w[g]);
        total = _mm256_add_epi32(total, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    }
    return _mm256_and_si256(total, _mm256_set1_epi32(0xffff));
}

SYN_INLINE __m256i dot_narrow(syn_layout l, const __m256i *w, const uint8_t *u, int groups) {
    const int run = l.bits == 4 ? 4 : 2;
    __m256i isum = _mm256_setzero_si256();
    for (int g = 0; g < groups; g += run) {
        __m256i words = _mm256_maddubs_epi16(broadcast(u + 4 * g), w[g]);
        for (int j = 1; j < run; j++) {
            __m256i more = _mm256_maddubs_epi16(broadcast(u + 4 * (g + j)), w[g + j]);
            words = _mm256_add_epi16(words, more);
        }
        isum = _mm256_add_epi32(isum, _mm256_madd_epi16(words, _mm256_set1_epi16(1)));
    }
    return isum;
}

/* Groups [g0, g1) of four inputs of a block, weights of up to six bits, activations of eight. */
SYN_INLINE void step_narrow(syn_layout l, int side, syn_place at, int g0, int g1,
                            const uint8_t *acts, size_t stride, int64_t rows, sums *out) {
    __m256i w[8];
    for (int g = g0; g < g1; g++) w[g - g0] = syn_weights_256(l, at.codes, g, side);
    __m256i total = total_of(w, g1 - g0);
    __m256 d = syn_scale_256(l, at, g0 / 4, side), m = syn_minimum_256(l, at, side);
    for (int64_t i = 0; i < rows; i++) {
        const syn_act8 *a = (const syn_act8 *)(acts + (size_t)i * stride);
        __m256i isum = dot_narrow(l, w, a->u + 4 * g0, g1 - g0);
        isum = _mm256_add_epi32(isum, _mm256_madd_epi16(total, _mm256_set1_epi32(a->z)));
        finish(l, isum, d, m, a->s, a->x, g1 == 8, out->acc[i]);
    }
}

/* w: [4 groups][even, odd inputs] int16 */
SYN_INLINE __m256i dot_wide8(const __m256i *w, const uint8_t *u) {
    __m256i isum = _mm256_setzero_si256();
    for (int g = 0; g < 4; g++) {
        __m256i four = broadcast(u + 4 * g);
        __m256i even = _mm256_and_si256(four, _mm256_set1_epi16(255));
        isum = _mm256_add_epi32(isum, _mm256_madd_epi16(even, w[2 * g]));
        isum = _mm256_add_epi32(isum, _mm256_madd_epi16(_mm256_srli_epi16(four, 8), w[2 * g + 1]));
    }
    return isum;
}

SYN_INLINE __m256i dot_wide16(const __m256i *w, const int16_t *i) {
    __m256i isum = _mm256_setzero_si256();
    for (int g = 0; g < 8; g++)
        isum = _mm256_add_epi32(isum, _mm256_madd_epi16(broadcast(i + 2 * g), w[g]));
    return isum;
}

/* -z * sum of weights, as dot_wide8 of the zero point */
SYN_INLINE __m256i total_wide(const __m256i *w) {
    __m256i total = _mm256_setzero_si256();
    for (int g = 0; g < 8; g++)
        total = _mm256_add_epi32(total, _mm256_madd_epi16(_mm256_set1_epi16(1), w[g]));
    return _mm256_and_si256(total, _mm256_set1_epi32(0xffff));
}

/* Half h of a block; one with one scale keeps the first half's sums for the second. */
SYN_INLINE void step_wide(syn_layout l, int form, int side, syn_place at, int h,
                          const uint8_t *acts, size_t stride, int64_t rows, sums *out) {
    const int first = !h && l.halves == 1, second = h && l.halves == 1;
    __m256i w[8];
    for (int g = 0; g < 4; g++) {
        __m256i bytes = syn_weights_256(l, at.codes, 4 * h + g, side);
        w[2 * g] = _mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8);
        w[2 * g + 1] = _mm256_srai_epi16(bytes, 8);
    }
    __m256i total = total_wide(w);
    __m256 d = syn_scale_256(l, at, l.halves == 2 ? h : 0, side), m = syn_minimum_256(l, at, side);
    for (int64_t i = 0; i < rows; i++) {
        const syn_act8 *a = (const syn_act8 *)(acts + (size_t)i * stride);
        const syn_act16 *b = (const syn_act16 *)(acts + (size_t)i * stride);
        int eight = form == SYN_ACT_8;
        __m256i isum = eight ? dot_wide8(w, a->u + 16 * h) : dot_wide16(w, b->i + 16 * h);
        if (eight)
            isum = _mm256_add_epi32(isum, _mm256_madd_epi16(total, _mm256_set1_epi32(a->z)));
        __m256i *kept = (__m256i *)out->isum[i];
        if (second) isum = _mm256_add_epi32(isum, _mm256_loadu_si256(kept));
        if (first)
            _mm256_storeu_si256(kept, isum);
        else
            finish(l, isum, d, m, eight ? a->s : b->s, eight ? a->x : b->x, h, out->acc[i]);
    }
}

/* One half panel for all inputs. */
SYN_INLINE void side_of_panel(syn_layout l, int form, int side, const syn_gemm_call *c,
                              const uint8_t *panel, int64_t i0, int64_t rows) {
    sums *out = c->scratch;
    size_t size = form == SYN_ACT_8 ? sizeof(syn_act8) : sizeof(syn_act16);
    memset(out->acc, 0, (size_t)rows * sizeof *out->acc);
    for (int64_t b = 0; b < c->w->columns / SYN_BLOCK; b++) {
        const uint8_t *acts = c->acts + (size_t)i0 * c->stride + (size_t)b * size;
        syn_place at = syn_block_place(l, panel, b);
        if (!side) syn_fetch_ahead(l, at.codes);
        if (form == SYN_ACT_16 || l.bits == 8) {
            step_wide(l, form, side, at, 0, acts, c->stride, rows, out);
            step_wide(l, form, side, at, 1, acts, c->stride, rows, out);
        } else if (l.halves == 2) {
            step_narrow(l, side, at, 0, 4, acts, c->stride, rows, out);
            step_narrow(l, side, at, 4, 8, acts, c->stride, rows, out);
        } else {
            step_narrow(l, side, at, 0, 8, acts, c->stride, rows, out);
        }
    }
}

SYN_INLINE void kernel(syn_layout l, int form, const syn_gemm_call *c) {
    const sums *done = c->scratch;
    for (int64_t i0 = 0; i0 < c->m; i0 += ROWS) {
        int64_t rows = c->m - i0 < ROWS ? c->m - i0 : ROWS;
        for (int64_t half = 2 * c->p0; half < 2 * c->p1; half++) {
            const uint8_t *panel = c->w->data + (size_t)(half / 2) * c->w->panel_bytes;
            if (8 * half >= c->w->rows) break;
            if (half % 2)
                side_of_panel(l, form, 1, c, panel, i0, rows);
            else
                side_of_panel(l, form, 0, c, panel, i0, rows);
            for (int64_t i = 0; i < rows; i++)
                syn_write_256(c, i0 + i, 8 * half, _mm256_loadu_ps(done->acc[i]));
        }
    }
}

SYN_KERNELS()

void syn_gemm_avx2(const syn_gemm_call *c) { by_type(c); }
