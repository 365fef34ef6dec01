/* SPDX-License-Identifier: BUSL-1.1 */
/* The reference of matrix multiplication: the law of matmul.h, word by word. */
#include "gemm.h"

#include <math.h>

/* sum of q * (u - z) over inputs [k0, k1) of a block */
static int32_t dot8(const syn_weights *w, const syn_act8 *a, int n, int k0, int k1) {
    int32_t sum = 0;
    for (int k = k0; k < k1; k++) sum += w->q[k][n] * (a->u[k] + a->z);
    return sum;
}

static int32_t dot16(const syn_weights *w, const syn_act16 *a, int n, int k0, int k1) {
    static const int order[4] = {0, 2, 1, 3};
    int32_t sum = 0;
    for (int k = k0; k < k1; k++) sum += w->q[k / 4 * 4 + order[k % 4]][n] * a->i[k];
    return sum;
}

static float block_step(const syn_gemm_call *c, const syn_weights *w, const uint8_t *act,
                        int64_t b, int n, float acc) {
    const syn_act8 *a8 = (const syn_act8 *)act + b;
    const syn_act16 *a16 = (const syn_act16 *)act + b;
    int eight = c->form == SYN_ACT_8, halves = c->w->layout.halves, each = SYN_BLOCK / halves;
    float s = eight ? a8->s : a16->s, x = eight ? a8->x : a16->x;
    for (int h = 0; h < halves; h++) {
        int k0 = h * each, k1 = k0 + each;
        int32_t isum = eight ? dot8(w, a8, n, k0, k1) : dot16(w, a16, n, k0, k1);
        acc = fmaf((float)isum, w->d[h][n] * s, acc);
    }
    return c->w->layout.minima ? fmaf(w->m[n], x, acc) : acc;
}

/* acc: [16], one row times one panel */
static void panel_row(const syn_gemm_call *c, int64_t panel, const uint8_t *act, float *acc) {
    const syn_matrix *w = c->w;
    memset(acc, 0, SYN_PANEL * sizeof *acc);
    if (!w->layout.bits) {
        for (int64_t k = 0; k < w->columns; k++) {
            for (int n = 0; n < SYN_PANEL; n++)
                acc[n] = fmaf(syn_float_weight(w, panel, k, n), ((const float *)act)[k], acc[n]);
        }
        return;
    }
    for (int64_t b = 0; b < w->columns / SYN_BLOCK; b++) {
        syn_weights weights;
        syn_unpack_block(w, panel, b, &weights);
        for (int n = 0; n < SYN_PANEL; n++) acc[n] = block_step(c, &weights, act, b, n, acc[n]);
    }
}

void syn_gemm_reference(const syn_gemm_call *c) {
    for (int64_t p = c->p0; p < c->p1; p++) {
        int64_t n0 = p * SYN_PANEL;
        for (int64_t i = 0; i < c->m; i++) {
            float acc[SYN_PANEL], *out = c->out + i * c->ldo + n0;
            panel_row(c, p, c->acts + (size_t)i * c->stride, acc);
            for (int n = 0; n < SYN_PANEL && n0 + n < c->w->rows; n++)
                out[n] = c->add ? out[n] + acc[n] : acc[n];
        }
    }
}
