/* SPDX-License-Identifier: BUSL-1.1 */
/* The encoder's kernels with AVX2: 16 lanes are two registers. */
#include "base.h"
#include "math_avx2.h"

#define QUERIES 4

#include "encoder_lanes.h"

const syn_encoder_kernels syn_encoder_avx2 = {norm, gelu, attend, mean, unit};
