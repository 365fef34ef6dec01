/* SPDX-License-Identifier: BUSL-1.1 */
/* The walk over rows and panels, shared by the kernels of 512 bits (vectors and tiles): they differ
 * in how they multiply a block. */
#ifndef SYN_GEMM_WALK_AVX512_H
#define SYN_GEMM_WALK_AVX512_H

#include "gemm_avx512.h"

enum { ROWS = 64 /* that share an unpacked block */, PANELS = 2 /* at most, of a step */ };

/* Panels far apart are taken together: each is its own address stream through the weights. */
typedef struct {
    const uint8_t *panel[PANELS];
    int64_t n0[PANELS];
} panels;

/* Of row i and panel p of `count`: at i * count + p. */
typedef struct {
    float acc[ROWS * PANELS][SYN_PANEL];
    int32_t isum[ROWS * PANELS][SYN_PANEL]; /* of a part of a block */
} sums;

/* What a kernel does with one block: add rows [i0, i0 + rows) times `count` panels to out; the
 * first block begins at zero. */
typedef void block_step(syn_layout l, int form, int count, const syn_place *at,
                        const syn_gemm_call *c, int64_t i0, int64_t rows, int64_t block, int first,
                        sums *out);

SYN_INLINE const uint8_t *activations(const syn_gemm_call *c, int64_t row, int64_t block) {
    size_t size = c->form == SYN_ACT_8 ? sizeof(syn_act8) : sizeof(syn_act16);
    return c->acts + (size_t)row * c->stride + (size_t)block * size;
}

/* acc = fma(isum, d * s, acc), and the minimum after a block's last half. */
SYN_INLINE void finish(syn_layout l, __m512i isum, __m512 d, __m512 m, float s, float x, int first,
                       int last, float *at) {
    __m512 acc = first ? _mm512_setzero_ps() : _mm512_load_ps(at);
    acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(isum), _mm512_mul_ps(d, _mm512_set1_ps(s)), acc);
    if (l.minima && last) acc = _mm512_fmadd_ps(m, _mm512_set1_ps(x), acc);
    _mm512_store_ps(at, acc);
}

static void write_out(const syn_gemm_call *c, const panels *ps, int count, int64_t i0, int64_t rows,
                      sums *in) {
    for (int p = 0; p < count; p++) {
        int64_t n = c->w->rows - ps->n0[p];
        __mmask16 mask = n < SYN_PANEL ? (__mmask16)((1 << n) - 1) : 0xffff;
        for (int64_t i = 0; i < rows; i++) {
            float *out = c->out + (i0 + i) * c->ldo + ps->n0[p];
            __m512 acc = _mm512_load_ps(in->acc[i * count + p]);
            if (c->add) acc = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, out), acc);
            _mm512_mask_storeu_ps(out, mask, acc);
        }
    }
}

SYN_INLINE void place_blocks(syn_layout l, int count, const panels *ps, int64_t b, syn_place *at) {
    for (int p = 0; p < count; p++) {
        at[p] = syn_block_place(l, ps->panel[p], b);
        syn_fetch_ahead(l, at[p].codes);
    }
}

SYN_INLINE void rows_by_panels(block_step step, syn_layout l, int form, int count,
                               const syn_gemm_call *c, const panels *ps, int64_t i0,
                               int64_t rows) {
    sums *out = c->scratch;
    syn_place at[PANELS];
    place_blocks(l, count, ps, 0, at);
    step(l, form, count, at, c, i0, rows, 0, 1, out);
    for (int64_t b = 1; b < c->w->columns / SYN_BLOCK; b++) {
        place_blocks(l, count, ps, b, at);
        step(l, form, count, at, c, i0, rows, b, 0, out);
    }
    write_out(c, ps, count, i0, rows, out);
}

/* [p0, p1) in groups of `count` panels, one from each of `count` equal ranges. */
SYN_INLINE int64_t groups(block_step step, syn_layout l, int form, int count,
                          const syn_gemm_call *c, int64_t p0, int64_t i0, int64_t rows) {
    int64_t each = (c->p1 - p0) / count;
    for (int64_t g = 0; g < each; g++) {
        panels ps;
        for (int p = 0; p < count; p++) {
            int64_t panel = p0 + p * each + g;
            ps.panel[p] = c->w->data + (size_t)panel * c->w->panel_bytes;
            ps.n0[p] = panel * SYN_PANEL;
        }
        rows_by_panels(step, l, form, count, c, &ps, i0, rows);
    }
    return p0 + each * count;
}

SYN_INLINE void walk_panels(block_step step, syn_layout l, int form, const syn_gemm_call *c,
                            int64_t i0, int64_t rows) {
    int64_t p0 = groups(step, l, form, 2, c, c->p0, i0, rows);
    groups(step, l, form, 1, c, p0, i0, rows);
}

#endif
