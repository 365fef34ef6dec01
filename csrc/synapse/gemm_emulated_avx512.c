/* SPDX-License-Identifier: BUSL-1.1 */
/* Tiles in plain C: tests of packing, strides and tails on machines that have none. */
#define SYN_TILES_EMULATED
#include "gemm_tiles_avx512.h"

void syn_gemm_emulated(const syn_gemm_call *c) { multiply_by_tiles(c); }
