/* SPDX-License-Identifier: BUSL-1.1 */
/* What the kernels of each instruction set are given. */
#ifndef SYN_GEMM_H
#define SYN_GEMM_H

#include "pack.h"
#include "quantise.h"

/* A call of syn_gemm. */
typedef struct {
    const syn_matrix *w;
    int form;
    const uint8_t *acts;
    size_t stride; /* bytes between rows of acts */
    int64_t m;
    float *out;
    int64_t ldo, p0, p1;
    int add;
    void *scratch;
} syn_gemm_call;

void syn_gemm_reference(const syn_gemm_call *call);
void syn_gemm_avx2(const syn_gemm_call *call);
void syn_gemm_float_avx2(const syn_gemm_call *call);
void syn_gemm_avx512(const syn_gemm_call *call);
void syn_gemm_float_avx512(const syn_gemm_call *call);
void syn_gemm_amx(const syn_gemm_call *call);
void syn_gemm_emulated(const syn_gemm_call *call); /* AMX's tiles on AVX-512, for tests */

#endif
