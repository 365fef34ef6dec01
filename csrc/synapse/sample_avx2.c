/* SPDX-License-Identifier: BUSL-1.1 */
#define WIDTH 8
#define KERNELS sample_avx2
#include "sample_kernels.h"
