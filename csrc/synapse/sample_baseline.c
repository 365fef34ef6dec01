/* SPDX-License-Identifier: BUSL-1.1 */
#define WIDTH 4
#define KERNELS sample_baseline
#include "sample_kernels.h"
