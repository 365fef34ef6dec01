/* SPDX-License-Identifier: BUSL-1.1 */
#define WIDTH 16
#define KERNELS sample_avx512
#include "sample_kernels.h"
