/* SPDX-License-Identifier: BUSL-1.1 */
/* 16 registers, two to a vector: 2 rows of scores, or 2 rows of 32 outputs at a time. */
#if defined(__x86_64__)
#include "math_avx2.h"
/* */
#define SCORE_ROWS(DO) DO(2) DO(1)
#define VALUE_ROWS(DO) DO(2) DO(1)
#define VALUE_LANES 2
#define ATTEND syn_attend_avx2
#include "attention_lanes.h"
#endif
