/* SPDX-License-Identifier: BUSL-1.1 */
/* Which kernel multiplies, and a whole multiplication for tests. */
#include <stdlib.h>

#include "gemm.h"

/* Sums of 64 rows and two panels, unpacked weights, and for tiles those rows' activations. */
size_t syn_gemm_scratch(const syn_matrix *w) {
    return 32 * 1024 + 64 * 2 * (size_t)w->columns * (w->layout.bits != 0);
}

/* By instruction set: for quantised weights, for float ones. */
static void (*const kernels[][2])(const syn_gemm_call *) = {
    [SYN_REFERENCE] = {syn_gemm_reference, syn_gemm_reference},
    [SYN_AVX2] = {syn_gemm_avx2, syn_gemm_float_avx2},
    [SYN_AVX512] = {syn_gemm_avx512, syn_gemm_float_avx512},
    [SYN_AMX] = {syn_gemm_amx, syn_gemm_float_avx512},
};

void syn_gemm(int isa, const syn_matrix *w, int form, const void *acts, int64_t m, float *out,
              int64_t ldo, int64_t p0, int64_t p1, int add, void *scratch) {
    syn_gemm_call call = {
        .w = w, .form = form, .acts = acts, .stride = syn_act_bytes(form, w->columns),
        .m = m, .out = out, .ldo = ldo, .p0 = p0, .p1 = p1, .add = add, .scratch = scratch,
    };
    kernels[isa][!w->layout.bits](&call);
}

int syn_matmul(int isa, const syn_matrix *w, int form, const float *x, int64_t m, float *out,
               int add) {
    if (!syn_isa_available(isa)) return FAIL(SYN_E_ARGUMENT, "no instruction set %d here", isa);
    if (m < 1 || m > INT32_MAX || form < SYN_ACT_F32 || form > SYN_ACT_16 ||
        !w->layout.bits != (form == SYN_ACT_F32))
        return FAIL(SYN_E_ARGUMENT, "%lld rows in form %d do not meet this matrix", (long long)m,
                    form);
    size_t stride = syn_act_bytes(form, w->columns);
    size_t scratch = (syn_gemm_scratch(w) + 63) / 64 * 64;
    uint8_t *memory = aligned_alloc(64, scratch + (size_t)m * stride);
    if (!memory) return FAIL(SYN_E_MEMORY, "no memory for %lld rows", (long long)m);
    for (int64_t i = 0; i < m; i++)
        syn_act_quantise(isa, form, x + i * w->columns, w->columns,
                         memory + scratch + (size_t)i * stride);
    syn_gemm(isa, w, form, memory + scratch, m, out, w->rows, 0, w->panels, add, memory);
    free(memory);
    return SYN_OK;
}
