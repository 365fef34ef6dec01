/* SPDX-License-Identifier: BUSL-1.1 */
/* Float weights on AVX-512: sums of up to 12 rows and two panels in registers, inputs in order.
 * Panels far apart are taken together and fetched ahead, each as its own address stream. */
#include "gemm_avx512.h"

enum { ROWS = 12, PANELS = 2 };
enum { AHEAD = 4096 /* bytes */ };
enum { CACHED = 256 * 1024 /* bytes of activations that stay in the second cache */ };

SYN_INLINE __m512 weights(int type, const uint8_t *panel, int64_t k) {
    if (type == SYN_F32) return _mm512_loadu_ps(panel + 64 * k);
    __m256i bits = _mm256_loadu_si256((const __m256i *)(panel + 32 * k));
    if (type == SYN_F16) return _mm512_cvtph_ps(bits);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

static void write_out(const syn_gemm_call *c, int64_t row, int64_t panel, __m512 acc) {
    int64_t n0 = panel * SYN_PANEL, n = c->w->rows - n0;
    __mmask16 mask = n < SYN_PANEL ? (__mmask16)((1 << n) - 1) : 0xffff;
    float *out = c->out + row * c->ldo + n0;
    if (c->add) acc = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, out), acc);
    _mm512_mask_storeu_ps(out, mask, acc);
}

SYN_INLINE void fetch_ahead(int type, const uint8_t *panel, int64_t k) {
    uintptr_t at = (uintptr_t)panel + (uintptr_t)(type == SYN_F32 ? 64 : 32) * (uintptr_t)k;
    _mm_prefetch((const char *)(at + AHEAD), _MM_HINT_T0);
}

/* Rows [i0, i0 + rows) times panel and, if count is 2, the one `apart` panels after it. */
SYN_INLINE void tile(int type, int rows, int count, const syn_gemm_call *c, int64_t i0,
                     int64_t panel, int64_t apart) {
    __m512 acc[ROWS][PANELS];
    const uint8_t *w[PANELS];
    const uint8_t *acts = c->acts + (size_t)i0 * c->stride;
    for (int p = 0; p < count; p++) {
        w[p] = c->w->data + (size_t)(panel + p * apart) * c->w->panel_bytes;
        for (int i = 0; i < rows; i++) acc[i][p] = _mm512_setzero_ps();
    }
    for (int64_t k = 0; k < c->w->columns; k++) {
        __m512 at[PANELS];
        for (int p = 0; p < count; p++) {
            at[p] = weights(type, w[p], k);
            fetch_ahead(type, w[p], k);
        }
        for (int i = 0; i < rows; i++) {
            const float *x = (const float *)(acts + (size_t)i * c->stride);
            for (int p = 0; p < count; p++)
                acc[i][p] = _mm512_fmadd_ps(at[p], _mm512_set1_ps(x[k]), acc[i][p]);
        }
    }
    for (int i = 0; i < rows; i++) {
        for (int p = 0; p < count; p++) write_out(c, i0 + i, panel + p * apart, acc[i][p]);
    }
}

SYN_INLINE void all_rows(int type, int count, const syn_gemm_call *c, int64_t i0, int64_t i1,
                         int64_t panel, int64_t apart) {
    int64_t i = i0;
    for (; i + 12 <= i1; i += 12) tile(type, 12, count, c, i, panel, apart);
    for (; i + 4 <= i1; i += 4) tile(type, 4, count, c, i, panel, apart);
    for (; i + 2 <= i1; i += 2) tile(type, 2, count, c, i, panel, apart);
    if (i < i1) tile(type, 1, count, c, i, panel, apart);
}

SYN_INLINE void kernel(int type, const syn_gemm_call *c) {
    int64_t step = (int64_t)(CACHED / c->stride) / ROWS * ROWS;
    if (step < ROWS) step = ROWS;
    int64_t apart = (c->p1 - c->p0) / PANELS;
    for (int64_t i0 = 0; i0 < c->m; i0 += step) {
        int64_t i1 = c->m - i0 < step ? c->m : i0 + step, p = c->p0;
        for (; p < c->p0 + apart; p++) all_rows(type, PANELS, c, i0, i1, p, apart);
        for (p += apart; p < c->p1; p++) all_rows(type, 1, c, i0, i1, p, 0);
    }
}

void syn_gemm_float_avx512(const syn_gemm_call *c) {
    switch (c->w->layout.type) {
    case SYN_F32: kernel(SYN_F32, c); return;
    case SYN_F16: kernel(SYN_F16, c); return;
    default: kernel(SYN_BF16, c);
    }
}
