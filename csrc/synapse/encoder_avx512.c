/* SPDX-License-Identifier: BUSL-1.1 */
/* The encoder's kernels with AVX-512: 16 lanes are one register. */
#include "base.h"
#include "math_avx512.h"

#define QUERIES 8

#include "encoder_lanes.h"

const syn_encoder_kernels syn_encoder_avx512 = {norm, gelu, attend, mean, unit};
