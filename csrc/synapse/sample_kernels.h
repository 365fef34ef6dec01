/* SPDX-License-Identifier: BUSL-1.1 */
/* The kernels of sample.h, compiled once per instruction set: the includer defines KERNELS, the
 * name of the set, and WIDTH, the floats in a register. Sums have 16 lanes whatever the
 * registers, and nothing is contracted: the same bits everywhere. */
#include <string.h>

#include "sample.h"

#define PARTS (SAMPLE_LANES / WIDTH)

typedef float lanes __attribute__((vector_size(4 * WIDTH)));
typedef int32_t ints __attribute__((vector_size(4 * WIDTH)));

static const ints NO_LANES = {0};

static inline lanes load(const float *x) {
    lanes v;
    memcpy(&v, x, sizeof v);
    return v;
}

static inline lanes pick(ints mask, lanes a, lanes b) {
    return (lanes)((mask & (ints)a) | (~mask & (ints)b));
}

static inline int any(ints mask) {
    int32_t found = 0;
    for (int l = 0; l < WIDTH; l++) found |= mask[l];
    return found != 0;
}

/* -- peak -------------------------------------------------------------------------------------- */

static inline int is_bad(float x, int masked) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (masked && bits == 0xff800000u) return 0;
    return (bits & 0x7f800000u) == 0x7f800000u;
}

/* The largest of a block; NaNs never win, so `bad` has to tell of them. */
static float block_peak(const float *x, int64_t n, int masked, int *bad) {
    float max = -__builtin_inff();
    int64_t i = 0;
    if (n >= WIDTH) {
        lanes best = load(x);
        ints odd = NO_LANES;
        for (; i + WIDTH <= n; i += WIDTH) {
            lanes v = load(x + i);
            ints wrong = ((ints)v & 0x7f800000) == 0x7f800000;
            if (masked) wrong &= (ints)v != (int32_t)0xff800000u;
            odd |= wrong;
            best = pick(v > best, v, best);
        }
        *bad |= any(odd);
        for (int l = 0; l < WIDTH; l++) max = best[l] > max ? best[l] : max;
    }
    for (; i < n; i++) {
        *bad |= is_bad(x[i], masked);
        max = x[i] > max ? x[i] : max;
    }
    return max;
}

static int peak(const float *x, int64_t n, int masked, float *max, int64_t *index) {
    int64_t where = 0;
    int bad = 0;
    float best = -__builtin_inff();
    for (int64_t i = 0; i < n; i += SAMPLE_BLOCK) {
        int64_t size = n - i < SAMPLE_BLOCK ? n - i : SAMPLE_BLOCK;
        float here = block_peak(x + i, size, masked, &bad);
        if (here > best) {
            best = here;
            where = i;
        }
    }
    while (where < n - 1 && x[where] != best) where++;
    *max = best;
    *index = where;
    return !bad;
}

/* -- weights ----------------------------------------------------------------------------------- */

/* exp(t) for t <= 0: 2^k * p(r), t = k ln 2 + r, |r| <= ln 2 / 2; 0 below -87. */
static inline lanes exp_lanes(lanes t) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    ints live = t >= -87.0f;
    t = pick(live, t, (lanes)NO_LANES);
    lanes shifted = t * 1.44269504f + magic;
    lanes k = shifted - magic;
    lanes r = t - k * 0.693359375f;
    r = r - k * -2.12194440e-4f;
    lanes p = r * (1.0f / 5040) + (1.0f / 720);
    p = p * r + (1.0f / 120);
    p = p * r + (1.0f / 24);
    p = p * r + (1.0f / 6);
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    ints power = ((ints)shifted - 0x4b400000) << 23;
    return (lanes)(live & ((ints)p + power));
}

/* (16) lanes to one: lane j takes lane j + 8, then + 4, + 2, + 1. */
static inline float fold(const float *sum) {
    float s[SAMPLE_LANES];
    memcpy(s, sum, sizeof s);
    for (int width = SAMPLE_LANES / 2; width; width /= 2)
        for (int l = 0; l < width; l++) s[l] += s[l + width];
    return s[0];
}

/* 16 elements, element i into lane i. */
static inline void weigh(const float *x, float max, float scale, float *e, lanes *sum) {
    for (int p = 0; p < PARTS; p++) {
        lanes v = exp_lanes((load(x + p * WIDTH) - max) * scale);
        memcpy(e + p * WIDTH, &v, sizeof v);
        sum[p] += v;
    }
}

/* A block's end of fewer than 16: what is missing weighs nothing. */
static void weigh_few(const float *x, int64_t n, float max, float scale, float *e, lanes *sum) {
    float in[SAMPLE_LANES], out[SAMPLE_LANES];
    for (int l = 0; l < SAMPLE_LANES; l++) in[l] = l < n ? x[l] : -__builtin_inff();
    weigh(in, max, scale, out, sum);
    memcpy(e, out, (size_t)n * sizeof *e);
}

static void weights(const float *x, int64_t n, float max, float scale, float *e, double *sums) {
    for (int64_t i = 0; i < n; i += SAMPLE_BLOCK) {
        int64_t end = n - i < SAMPLE_BLOCK ? n : i + SAMPLE_BLOCK;
        lanes sum[PARTS] = {0};
        float folded[SAMPLE_LANES];
        int64_t j = i;
        for (; j + SAMPLE_LANES <= end; j += SAMPLE_LANES) weigh(x + j, max, scale, e + j, sum);
        if (j < end) weigh_few(x + j, end - j, max, scale, e + j, sum);
        memcpy(folded, sum, sizeof folded);
        sums[i / SAMPLE_BLOCK] = (double)fold(folded);
    }
}

/* -- gather ------------------------------------------------------------------------------------ */

/* No branch on the outcome: every element is written, and the next one over it if it is too low. */
static inline int64_t collect(const float *x, int64_t i, int64_t end, float bound,
                              candidate *items, int64_t count) {
    for (; i < end; i++) {
        items[count] = (candidate){x[i], (int32_t)i};
        count += x[i] > bound;
    }
    return count;
}

/* 64 at a time with any registers, so that a full buffer ends at the same element. */
static int64_t gather(const float *x, int64_t from, int64_t n, float bound, candidate *items,
                      int64_t *count, int64_t room) {
    enum { STEP = 4 * SAMPLE_LANES };
    int64_t i = from, found = *count;
    while (i < n && found + SAMPLE_BLOCK <= room) {
        int64_t end = i + STEP;
        if (end > n) {
            found = collect(x, i, n, bound, items, found);
            i = n;
            break;
        }
        ints hit = load(x + i) > bound;
        for (int64_t j = i + WIDTH; j < end; j += WIDTH) hit |= load(x + j) > bound;
        if (any(hit)) found = collect(x, i, end, bound, items, found);
        i = end;
    }
    *count = found;
    return i;
}

const sample_kernels KERNELS = {peak, weights, gather};
