/* SPDX-License-Identifier: BUSL-1.1 */
/* Finding the best of many without sorting them. */
#ifndef SYN_SAMPLE_SELECT_H
#define SYN_SAMPLE_SELECT_H

#include <stdint.h>

/* A token with its logit or its weight. */
typedef struct {
    float value;
    int32_t id;
} candidate;

/* The order of candidates is total: the larger value first, then the lower id. */
static inline int candidate_before(candidate a, candidate b) {
    return a.value > b.value || (a.value == b.value && a.id < b.id);
}

/* Bring the first k of n in that order to the front, in any order among themselves. */
void syn_select(candidate *items, int64_t n, int64_t k);

/* Bring to the front the fewest first ones whose values add up to `mass`, or all; how many. */
int64_t syn_select_mass(candidate *items, int64_t n, double mass);

/* Sort a few. */
void syn_sort_few(candidate *items, int64_t n);

#endif
