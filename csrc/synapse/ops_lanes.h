/* SPDX-License-Identifier: BUSL-1.1 */
/* The row operations on 16 lanes; included by ops_avx2.c and ops_avx512.c, which say how. */
#include "math_lanes.h"
#include "ops.h"
#include "rope.h"

static void norm(const float *x, const float *weight, float eps, int64_t n, float *out) {
    v16 squares = v_set(0);
    for (int64_t i = 0; i < n; i += 16) squares = v_fma(v_load(x + i), v_load(x + i), squares);
    v16 factor = v_set(1.0f / sqrtf(v_sum(squares) / (float)n + eps));
    for (int64_t i = 0; i < n; i += 16)
        v_store(out + i, v_mul(v_mul(v_load(x + i), factor), v_load(weight + i)));
}

static void add(float *x, const float *y, int64_t n) {
    for (int64_t i = 0; i < n; i += 16) v_store(x + i, v_add(v_load(x + i), v_load(y + i)));
}

static void scale(float *x, float factor, int64_t n) {
    for (int64_t i = 0; i < n; i += 16) v_store(x + i, v_mul(v_load(x + i), v_set(factor)));
}

static void softcap(float *x, float cap, int64_t n) {
    int64_t whole = n / 16 * 16;
    for (int64_t i = 0; i < whole; i += 16) {
        v16 bent = v_tanh(v_div(v_load(x + i), v_set(cap)));
        v_store(x + i, v_mul(v_set(cap), bent));
    }
    syn_ops_reference.softcap(x + whole, cap, n - whole);
}

static void gate(int activation, const float *gates, const float *up, int64_t n, float *out) {
    if (activation == SYN_SILU)
        for (int64_t i = 0; i < n; i += 16)
            v_store(out + i, v_mul(v_silu(v_load(gates + i)), v_load(up + i)));
    else
        for (int64_t i = 0; i < n; i += 16)
            v_store(out + i, v_mul(v_gelu_tanh(v_load(gates + i)), v_load(up + i)));
}

static float largest_magnitude(const float *x, int64_t n) {
    v16 largest = v_set(0);
    for (int64_t i = 0; i < n; i += 16) largest = v_max(v_abs(v_load(x + i)), largest);
    return v_largest(largest);
}

/* x as whole numbers; returns their scale. step: the distance of two elements of out. */
static float store_int8(const float *x, int64_t n, int8_t *out, int64_t step) {
    float largest = largest_magnitude(x, n);
    v16 inverse = v_set(largest > 0 ? 127.0f / largest : 0);
    for (int64_t i = 0; i < n; i += 16) {
        int8_t whole[16];
        v16 near = v_rint(v_mul(v_load(x + i), inverse));
        v_to_i8(whole, v_min(v_max(near, v_set(-127.0f)), v_set(127.0f)));
        for (int64_t j = 0; j < 16; j++) out[(i + j) * step] = whole[j];
    }
    return largest / 127.0f;
}

static void store_half(int type, const float *x, int64_t n, uint16_t *out, int64_t step) {
    for (int64_t i = 0; i < n; i += 16) {
        uint16_t half[16];
        if (type == SYN_KV_BF16)
            v_to_bf16(half, v_load(x + i));
        else
            v_to_f16_saturated(half, v_load(x + i));
        if (step == 1)
            memcpy(out + i, half, sizeof half);
        else
            for (int64_t j = 0; j < 16; j++) out[(i + j) * step] = half[j];
    }
}

static void store(const syn_kv *kv, char *unit, int64_t slot, const float *key,
                  const float *value) {
    int64_t n = kv->head_dim, row = slot * n;
    char *values = kv_values(kv, unit);
    if (kv->type == SYN_KV_F32) {
        syn_ops_reference.store(kv, unit, slot, key, value);
    } else if (kv->type == SYN_KV_INT8) {
        float *scales = kv_scales(kv, unit);
        scales[slot] = store_int8(key, n, (int8_t *)unit + slot, BLOCK);
        scales[BLOCK + slot] = store_int8(value, n, (int8_t *)values + row, 1);
    } else {
        store_half(kv->type, key, n, (uint16_t *)(void *)unit + slot, BLOCK);
        store_half(kv->type, value, n, (uint16_t *)(void *)values + row, 1);
    }
}

static void rope(float *x, const float *cosine, const float *sine, int64_t half,
                 int interleaved) {
    rope_turn(x, cosine, sine, half, interleaved);
}
