/* SPDX-License-Identifier: BUSL-1.1 */
/* Matrix multiplication: rows of activations times a packed matrix.
 *
 * The order of additions is part of the result and the same in every kernel. For each row and
 * output n, blocks b of 32 inputs in order:
 *     acc = fma((float)isum, d[n, b] * s[b], acc)     isum = sum of q * (u - z), exact
 *     acc = fma(m[n, b], X[b], acc)                   only for weights with minima
 * where s, z are the activations' scale and zero point and X = s * (float)(sum of u - z). Weights
 * with two scales per block (Q6_K) do the first step once per half. Float weights:
 *     acc = fma(w[n, k], x[k], acc)                   k in order
 * So kernels are compared bitwise, and a row's result depends on nothing but that row. */
#ifndef SYN_MATMUL_H
#define SYN_MATMUL_H

#include "base.h"
#include "synapse/matrix_api.h"
#include "synapse/tensor_api.h"

enum { SYN_PANEL = 16 /* outputs of a panel: the lanes of a vector */ };

/* Bytes of one row of activations in a form, a multiple of 64: the stride between rows. */
size_t syn_act_bytes(int form, int64_t columns);

/* x: [columns]; row: syn_act_bytes bytes, at a multiple of 64. SYN_ACT_F32 copies; rows of floats
 * with the right stride can be passed as they are. */
void syn_act_quantise(int isa, int form, const float *x, int64_t columns, void *row);

int64_t syn_matrix_rows(const syn_matrix *matrix);
int64_t syn_matrix_columns(const syn_matrix *matrix);
int64_t syn_matrix_panels(const syn_matrix *matrix);

/* Bytes of scratch for each thread, at a multiple of 64. */
size_t syn_gemm_scratch(const syn_matrix *matrix);

/* out[i, n] for m rows i and the outputs n of panels [p0, p1). acts: m rows in `form`, which is
 * what syn_matrix_form says; ldo: floats between rows of out; add: out = out + result.
 * Fast are: many rows in one call; an even number of panels; ldo no multiple of 512, so that rows
 * of out do not meet in the same sets of the first cache (5 to 10 % of a short product). */
void syn_gemm(int isa, const syn_matrix *matrix, int form, const void *acts, int64_t m, float *out,
              int64_t ldo, int64_t p0, int64_t p1, int add, void *scratch);

#endif
