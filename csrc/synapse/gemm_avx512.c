/* SPDX-License-Identifier: BUSL-1.1 */
/* Quantised weights on AVX-512 VNNI.
 *
 * A step takes one block of 32 inputs of one or two panels, unpacks it into registers and lets
 * rows of activations stream past: broadcast four (or two) inputs, one dot instruction per panel.
 * Sums of rows lie in L1; that costs a load and a store per 512 products and saves unpacking the
 * weights more than once per ROWS rows. The zero point is an integer product that starts the sum:
 *     isum = -z * sum(q) + sum(q * u)
 * Of 12 instructions for 512 products (Q4_1) 8 are dots; all compete for the same two pipes, which
 * makes 2/3 of the dots' peak the limit. */
#include "gemm_walk_avx512.h"

SYN_INLINE __m512i broadcast(const void *four_bytes) {
    int32_t value;
    memcpy(&value, four_bytes, sizeof value);
    return _mm512_set1_epi32(value);
}

/* Groups [g0, g1) of four inputs: a block, or a half of it with a scale of its own. Two chains of
 * sums per panel: one alone would wait for the dots' latency. */
SYN_INLINE void step8(syn_layout l, int count, const syn_place *at, int g0, int g1, int first,
                      const uint8_t *acts, size_t stride, int64_t rows, sums *out) {
    const __m512i ones = _mm512_set1_epi8(1), zero = _mm512_setzero_si512();
    __m512i w[PANELS][8], total[PANELS];
    __m512 d[PANELS], m[PANELS];
    for (int p = 0; p < count; p++) {
        total[p] = zero;
        for (int g = g0; g < g1; g++) {
            w[p][g] = syn_weights_512(l, at[p].codes, g);
            total[p] = _mm512_dpbusd_epi32(total[p], ones, w[p][g]);
        }
        total[p] = _mm512_and_si512(total[p], _mm512_set1_epi32(0xffff));
        d[p] = syn_scale_512(l, at[p], g0 / 4);
        m[p] = syn_minimum_512(l, at[p]);
    }
    for (int64_t i = 0; i < rows; i++) {
        const syn_act8 *a = (const syn_act8 *)(acts + (size_t)i * stride);
        __m512i even[PANELS] = {zero, zero}, odd[PANELS] = {zero, zero};
        for (int g = g0; g < g1; g += 2) {
            __m512i u = broadcast(a->u + 4 * g), v = broadcast(a->u + 4 * g + 4);
            for (int p = 0; p < count; p++) {
                even[p] = _mm512_dpbusd_epi32(even[p], u, w[p][g]);
                odd[p] = _mm512_dpbusd_epi32(odd[p], v, w[p][g + 1]);
            }
        }
        for (int p = 0; p < count; p++) {
            __m512i start = _mm512_madd_epi16(total[p], _mm512_set1_epi32(a->z));
            __m512i isum = _mm512_add_epi32(_mm512_add_epi32(even[p], odd[p]), start);
            finish(l, isum, d[p], m[p], a->s, a->x, first && !g0, g1 == 8,
                   out->acc[i * count + p]);
        }
    }
}

/* Half h of a block. A block with one scale keeps the first half's sums for the second: weights
 * of a whole one, as 16-bit numbers, would not leave registers for two panels. */
SYN_INLINE void step16(syn_layout l, int count, const syn_place *at, int h, int first,
                       const uint8_t *acts, size_t stride, int64_t rows, sums *out) {
    const __m512i zero = _mm512_setzero_si512();
    const int keep = !h && l.halves == 1, kept = h && l.halves == 1;
    __m512i w[PANELS][8];
    __m512 d[PANELS], m[PANELS];
    for (int p = 0; p < count; p++) {
        for (int g = 0; g < 4; g++) {
            __m512i bytes = syn_weights_512(l, at[p].codes, 4 * h + g);
            w[p][2 * g] = _mm512_srai_epi16(_mm512_slli_epi16(bytes, 8), 8);
            w[p][2 * g + 1] = _mm512_srai_epi16(bytes, 8);
        }
        d[p] = syn_scale_512(l, at[p], l.halves == 2 ? h : 0);
        m[p] = syn_minimum_512(l, at[p]);
    }
    for (int64_t i = 0; i < rows; i++) {
        const syn_act16 *a = (const syn_act16 *)(acts + (size_t)i * stride);
        __m512i even[PANELS], odd[PANELS] = {zero, zero};
        for (int p = 0; p < count; p++)
            even[p] = kept ? _mm512_load_si512(out->isum[i * count + p]) : zero;
        for (int g = 0; g < 8; g += 2) {
            __m512i u = broadcast(a->i + 16 * h + 2 * g), v = broadcast(a->i + 16 * h + 2 * g + 2);
            for (int p = 0; p < count; p++) {
                even[p] = _mm512_dpwssd_epi32(even[p], u, w[p][g]);
                odd[p] = _mm512_dpwssd_epi32(odd[p], v, w[p][g + 1]);
            }
        }
        for (int p = 0; p < count; p++) {
            __m512i isum = _mm512_add_epi32(even[p], odd[p]);
            if (keep)
                _mm512_store_si512(out->isum[i * count + p], isum);
            else
                finish(l, isum, d[p], m[p], a->s, a->x, first && (!h || kept), h,
                       out->acc[i * count + p]);
        }
    }
}

SYN_INLINE void block(syn_layout l, int form, int count, const syn_place *at,
                      const syn_gemm_call *c, int64_t i0, int64_t rows, int64_t b, int first,
                      sums *out) {
    const uint8_t *acts = activations(c, i0, b);
    if (form == SYN_ACT_16) {
        step16(l, count, at, 0, first, acts, c->stride, rows, out);
        step16(l, count, at, 1, first, acts, c->stride, rows, out);
    } else if (l.halves == 2) {
        step8(l, count, at, 0, 4, first, acts, c->stride, rows, out);
        step8(l, count, at, 4, 8, first, acts, c->stride, rows, out);
    } else {
        step8(l, count, at, 0, 8, first, acts, c->stride, rows, out);
    }
}

SYN_INLINE void kernel(syn_layout l, int form, const syn_gemm_call *c) {
    for (int64_t i0 = 0; i0 < c->m; i0 += ROWS)
        walk_panels(block, l, form, c, i0, c->m - i0 < ROWS ? c->m - i0 : ROWS);
}

SYN_KERNELS()

void syn_gemm_avx512(const syn_gemm_call *c) { by_type(c); }
