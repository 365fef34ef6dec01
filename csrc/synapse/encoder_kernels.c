/* SPDX-License-Identifier: BUSL-1.1 */
#include "encoder_kernels.h"

const syn_encoder_kernels *syn_encoder_kernels_of(int isa) {
    switch (isa) {
    case SYN_AVX2:
        return &syn_encoder_avx2;
    case SYN_AVX512:
    case SYN_AMX:
        return &syn_encoder_avx512;
    default:
        return &syn_encoder_reference;
    }
}
