/* SPDX-License-Identifier: BUSL-1.1 */
/* Tiles as the processor has them. */
#include "gemm_tiles_avx512.h"

void syn_gemm_amx(const syn_gemm_call *c) { multiply_by_tiles(c); }
