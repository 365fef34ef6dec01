/* SPDX-License-Identifier: BUSL-1.1 */
/* Float weights on AVX2: sums of up to six rows and one panel in registers, inputs in order. */
#include "gemm_avx2.h"

enum { ROWS = 6, CACHED = 256 * 1024 /* bytes of activations that stay in the second cache */ };

SYN_INLINE __m256 weights(int type, const uint8_t *panel, int64_t k, int side) {
    if (type == SYN_F32) return _mm256_loadu_ps((const float *)(panel + 64 * k + 32 * side));
    __m128i bits = _mm_loadu_si128((const __m128i *)(panel + 32 * k + 16 * side));
    if (type == SYN_F16) return _mm256_cvtph_ps(bits);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

SYN_INLINE void tile(int type, int rows, const syn_gemm_call *c, int64_t i0, int64_t panel) {
    __m256 acc[ROWS][2];
    const uint8_t *w = c->w->data + (size_t)panel * c->w->panel_bytes;
    const uint8_t *acts = c->acts + (size_t)i0 * c->stride;
    for (int i = 0; i < rows; i++) acc[i][0] = acc[i][1] = _mm256_setzero_ps();
    for (int64_t k = 0; k < c->w->columns; k++) {
        __m256 left = weights(type, w, k, 0), right = weights(type, w, k, 1);
        for (int i = 0; i < rows; i++) {
            __m256 x = _mm256_set1_ps(((const float *)(acts + (size_t)i * c->stride))[k]);
            acc[i][0] = _mm256_fmadd_ps(left, x, acc[i][0]);
            acc[i][1] = _mm256_fmadd_ps(right, x, acc[i][1]);
        }
    }
    for (int i = 0; i < rows; i++) {
        for (int side = 0; side < 2; side++) {
            int64_t n0 = panel * SYN_PANEL + 8 * side;
            if (n0 < c->w->rows) syn_write_256(c, i0 + i, n0, acc[i][side]);
        }
    }
}

SYN_INLINE void all_rows(int type, const syn_gemm_call *c, int64_t i0, int64_t i1, int64_t panel) {
    int64_t i = i0;
    for (; i + ROWS <= i1; i += ROWS) tile(type, ROWS, c, i, panel);
    for (; i + 2 <= i1; i += 2) tile(type, 2, c, i, panel);
    if (i < i1) tile(type, 1, c, i, panel);
}

SYN_INLINE void kernel(int type, const syn_gemm_call *c) {
    int64_t step = (int64_t)(CACHED / c->stride) / ROWS * ROWS;
    if (step < ROWS) step = ROWS;
    for (int64_t i0 = 0; i0 < c->m; i0 += step) {
        int64_t i1 = c->m - i0 < step ? c->m : i0 + step;
        for (int64_t p = c->p0; p < c->p1; p++) all_rows(type, c, i0, i1, p);
    }
}

void syn_gemm_float_avx2(const syn_gemm_call *c) {
    switch (c->w->layout.type) {
    case SYN_F32: kernel(SYN_F32, c); return;
    case SYN_F16: kernel(SYN_F16, c); return;
    default: kernel(SYN_BF16, c);
    }
}
