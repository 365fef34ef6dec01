/* SPDX-License-Identifier: BUSL-1.1 */
/* 32 registers: 12 rows of scores (24 sums), or 6 rows of 64 outputs (24 sums) at a time. */
#if defined(__x86_64__)
#include "math_avx512.h"
/* */
#define SCORE_ROWS(DO) DO(12) DO(6) DO(3) DO(2) DO(1)
#define VALUE_ROWS(DO) DO(6) DO(3) DO(2) DO(1)
#define VALUE_LANES 4
#define ATTEND syn_attend_avx512
#include "attention_lanes.h"
#endif
