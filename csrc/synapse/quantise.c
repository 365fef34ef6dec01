/* SPDX-License-Identifier: BUSL-1.1 */
/* The reference of activation quantisation. */
#include "quantise.h"

#include <math.h>

static float clamp(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

static int finite_block(const float *x) {
    for (int k = 0; k < SYN_BLOCK; k++) {
        if (!isfinite(x[k])) return 0;
    }
    return 1;
}

static void block8(const float *x, syn_act8 *out) {
    float low = 0, high = 0;
    memset(out, 0, sizeof *out);
    for (int k = 0; k < SYN_BLOCK; k++) {
        low = x[k] < low ? x[k] : low;
        high = x[k] > high ? x[k] : high;
    }
    float s = (high - low) / 255;
    if (!finite_block(x) || !isfinite(s)) {
        out->s = out->x = NAN;
        return;
    }
    if (s < SYN_ACT_TINY) return;
    float r = 1 / s, z = rintf(-low * r);
    int32_t sum = 0;
    for (int k = 0; k < SYN_BLOCK; k++) {
        out->u[k] = (uint8_t)clamp(rintf(x[k] * r) + z, 0, 255);
        sum += out->u[k] - (int32_t)z;
    }
    out->s = s;
    out->x = s * (float)sum;
    out->z = -(int32_t)z;
}

static void block16(const float *x, syn_act16 *out) {
    static const int order[4] = {0, 2, 1, 3};
    float top = 0;
    memset(out, 0, sizeof *out);
    if (!finite_block(x)) {
        out->s = out->x = NAN;
        return;
    }
    for (int k = 0; k < SYN_BLOCK; k++) top = fmaxf(top, fabsf(x[k]));
    float s = top / 2047;
    if (s < SYN_ACT_TINY) return;
    float r = 1 / s;
    int32_t sum = 0;
    for (int k = 0; k < SYN_BLOCK; k++) {
        float source = x[k / 4 * 4 + order[k % 4]];
        out->i[k] = (int16_t)clamp(rintf(source * r), -2047, 2047);
        sum += out->i[k];
    }
    out->s = s;
    out->x = s * (float)sum;
}

size_t syn_act_bytes(int form, int64_t columns) {
    size_t blocks = (size_t)columns / SYN_BLOCK;
    size_t bytes = form == SYN_ACT_8    ? blocks * sizeof(syn_act8)
                   : form == SYN_ACT_16 ? blocks * sizeof(syn_act16)
                                        : (size_t)columns * sizeof(float);
    size_t lines = (bytes + 63) / 64;
    /* An odd stride spreads the same block of many rows over all sets of the first cache. */
    return 64 * (form == SYN_ACT_F32 ? lines : lines | 1);
}

static void reference8(const float *x, int64_t blocks, syn_act8 *out) {
    for (int64_t b = 0; b < blocks; b++) block8(x + b * SYN_BLOCK, out + b);
}

static void reference16(const float *x, int64_t blocks, syn_act16 *out) {
    for (int64_t b = 0; b < blocks; b++) block16(x + b * SYN_BLOCK, out + b);
}

void syn_act_quantise(int isa, int form, const float *x, int64_t columns, void *row) {
    int64_t blocks = columns / SYN_BLOCK;
    int set = isa < SYN_AVX512 ? isa : SYN_AVX512;
    static void (*const to8[])(const float *, int64_t, syn_act8 *) = {
        reference8, syn_quantise8_avx2, syn_quantise8_avx512};
    static void (*const to16[])(const float *, int64_t, syn_act16 *) = {
        reference16, syn_quantise16_avx2, syn_quantise16_avx512};
    if (form == SYN_ACT_8)
        to8[set](x, blocks, row);
    else if (form == SYN_ACT_16)
        to16[set](x, blocks, row);
    else
        memcpy(row, x, (size_t)columns * sizeof(float));
}
