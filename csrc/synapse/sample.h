/* SPDX-License-Identifier: BUSL-1.1 */
/* The passes over a whole row of logits, one set per instruction set, all with equal results. */
#ifndef SYN_SAMPLE_H
#define SYN_SAMPLE_H

#include "base.h"
#include "sample_select.h"
#include "synapse/sample_api.h"

#define SAMPLE_LANES 16
#define SAMPLE_BLOCK 256 /* elements whose weights have a sum of their own */

typedef struct {
    /* x: (n) -> the largest value and where it comes first; 0 if some value is not finite
     * (masked: -inf is allowed). */
    int (*peak)(const float *x, int64_t n, int masked, float *max, int64_t *index);
    /* x: (n) -> e: (n) exp((x - max) * scale), sums: (n / SAMPLE_BLOCK, rounded up). */
    void (*weights)(const float *x, int64_t n, float max, float scale, float *e, double *sums);
    /* From index `from` on, collect what is > bound behind items[*count], until fewer than
     * SAMPLE_BLOCK of `room` are left; the index to go on with, or n. */
    int64_t (*gather)(const float *x, int64_t from, int64_t n, float bound, candidate *items,
                      int64_t *count, int64_t room);
} sample_kernels;

extern const sample_kernels sample_baseline, sample_avx2, sample_avx512;

#endif
