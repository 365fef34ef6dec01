/* SPDX-License-Identifier: BUSL-1.1 */
/* Quickselect, by count and by mass: O(n) expected. Pivots come from a generator with a fixed
 * start, so equal input gives equal steps and no input can be made for the worst case by
 * ordering it. */
#include "sample_select.h"

#include <string.h>

static void swap(candidate *a, candidate *b) {
    candidate t = *a;
    *a = *b;
    *b = t;
}

/* items [low, high): split around a pivot; where it ends up. What is before it lies before. */
static int64_t split(candidate *items, int64_t low, int64_t high, uint64_t *random) {
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    int64_t at = low + (int64_t)((*random >> 33) % (uint64_t)(high - low));
    swap(items + at, items + high - 1);
    candidate pivot = items[high - 1];
    int64_t middle = low;
    for (int64_t i = low; i < high - 1; i++)
        if (candidate_before(items[i], pivot)) swap(items + i, items + middle++);
    swap(items + middle, items + high - 1);
    return middle;
}

void syn_select(candidate *items, int64_t n, int64_t k) {
    uint64_t random = 1;
    int64_t low = 0, high = n;
    while (high - low > 1 && k > low && k < high) {
        int64_t middle = split(items, low, high, &random);
        if (middle == k) return;
        if (middle < k)
            low = middle + 1;
        else
            high = middle;
    }
}

static int64_t select_mass(candidate *items, int64_t low, int64_t high, double mass) {
    uint64_t random = 1;
    while (high > low) { /* items [0, low) are in and not enough; [0, high) would be */
        int64_t middle = split(items, low, high, &random);
        double sum = 0;
        for (int64_t i = low; i < middle; i++) sum += (double)items[i].value;
        if (sum >= mass) {
            high = middle;
        } else {
            sum += (double)items[middle].value;
            low = middle + 1;
            if (sum >= mass) return low;
            mass -= sum;
        }
    }
    return low;
}

/* Weights are from 0 to 1: their upper bits, in which larger weights are larger numbers. */
enum { BIN_SHIFT = 17, BINS = (0x3f800000 >> BIN_SHIFT) + 1, FEW = 1024 };

static int bin_of(float weight) {
    uint32_t bits;
    memcpy(&bits, &weight, sizeof bits);
    return (int)(bits >> BIN_SHIFT);
}

/* The bin in which the sum from the top reaches `mass`; what the bins above it have. */
static int crossing_bin(const candidate *items, int64_t n, double mass, double *above) {
    double bins[BINS] = {0};
    int bin = BINS - 1;
    for (int64_t i = 0; i < n; i++) bins[bin_of(items[i].value)] += (double)items[i].value;
    *above = 0;
    while (bin > 0 && *above + bins[bin] < mass) *above += bins[bin--];
    return bin;
}

int64_t syn_select_mass(candidate *items, int64_t n, double mass) {
    if (n <= FEW) return select_mass(items, 0, n, mass);
    /* Many: whole bins of weights first, then a choice within the last one. */
    double above;
    int bin = crossing_bin(items, n, mass, &above);
    int64_t first = 0, middle = 0;
    for (int64_t i = 0; i < n; i++) {
        int here = bin_of(items[i].value);
        if (here < bin) continue;
        candidate one = items[i];
        items[i] = items[middle];
        items[middle] = one;
        if (here > bin) swap(items + first++, items + middle);
        middle++;
    }
    return select_mass(items, first, middle, mass - above);
}

void syn_sort_few(candidate *items, int64_t n) {
    for (int64_t i = 1; i < n; i++) {
        candidate one = items[i];
        int64_t j = i;
        for (; j > 0 && candidate_before(one, items[j - 1]); j--) items[j] = items[j - 1];
        items[j] = one;
    }
}
