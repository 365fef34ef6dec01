/* SPDX-License-Identifier: BUSL-1.1 */
/* The judge: plain C, one number after the other. */
#include "ops.h"

#include "math_scalar.h"
#include "rope.h"

static float sum_of_squares(const float *x, int64_t n) {
    float lanes[16] = {0};
    for (int64_t i = 0; i < n; i++) lanes[i % 16] = fmaf(x[i], x[i], lanes[i % 16]);
    for (int half = 8; half; half /= 2)
        for (int j = 0; j < half; j++) lanes[j] += lanes[j + half];
    return lanes[0];
}

static void norm(const float *x, const float *weight, float eps, int64_t n, float *out) {
    float factor = 1.0f / sqrtf(sum_of_squares(x, n) / (float)n + eps);
    for (int64_t i = 0; i < n; i++) out[i] = x[i] * factor * weight[i];
}

static void add(float *x, const float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] += y[i];
}

static void scale(float *x, float factor, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] *= factor;
}

static void softcap(float *x, float cap, int64_t n) {
    for (int64_t i = 0; i < n; i++) x[i] = cap * f32_tanh(x[i] / cap);
}

static void gate(int activation, const float *gates, const float *up, int64_t n, float *out) {
    for (int64_t i = 0; i < n; i++) {
        float g = activation == SYN_SILU ? f32_silu(gates[i]) : f32_gelu_tanh(gates[i]);
        out[i] = g * up[i];
    }
}

static float largest_magnitude(const float *x, int64_t n) {
    float largest = 0;
    for (int64_t i = 0; i < n; i++) largest = f32_max(fabsf(x[i]), largest);
    return largest;
}

/* The scale of x; x[i] / scale is between -127 and 127. */
static float int8_scale(const float *x, int64_t n, float *inverse) {
    float largest = largest_magnitude(x, n);
    *inverse = largest > 0 ? 127.0f / largest : 0;
    return largest / 127.0f;
}

static int8_t int8_from_f32(float x, float inverse) {
    return (int8_t)f32_min(f32_max(rintf(x * inverse), -127.0f), 127.0f);
}

static void store_int8(const syn_kv *kv, char *unit, int64_t slot, const float *key,
                       const float *value) {
    int8_t *keys = (int8_t *)unit, *values = (int8_t *)kv_values(kv, unit);
    float *scales = kv_scales(kv, unit), inverse_key, inverse_value;
    scales[slot] = int8_scale(key, kv->head_dim, &inverse_key);
    scales[BLOCK + slot] = int8_scale(value, kv->head_dim, &inverse_value);
    for (int64_t d = 0; d < kv->head_dim; d++) {
        keys[d * BLOCK + slot] = int8_from_f32(key[d], inverse_key);
        values[slot * kv->head_dim + d] = int8_from_f32(value[d], inverse_value);
    }
}

static void store_float(const syn_kv *kv, char *array, int64_t i, float x) {
    if (kv->type == SYN_KV_F32)
        ((float *)(void *)array)[i] = x;
    else
        ((uint16_t *)(void *)array)[i] =
            kv->type == SYN_KV_BF16 ? bf16_from_f32(x) : f16_from_f32(x);
}

static void store(const syn_kv *kv, char *unit, int64_t slot, const float *key,
                  const float *value) {
    if (kv->type == SYN_KV_INT8) {
        store_int8(kv, unit, slot, key, value);
        return;
    }
    for (int64_t d = 0; d < kv->head_dim; d++) {
        store_float(kv, unit, d * BLOCK + slot, key[d]);
        store_float(kv, kv_values(kv, unit), slot * kv->head_dim + d, value[d]);
    }
}

const syn_ops syn_ops_reference = {
    .norm = norm,
    .add = add,
    .scale = scale,
    .softcap = softcap,
    .gate = gate,
    .rope = rope_turn,
    .store = store,
    .attend = syn_attend_reference,
};

const syn_ops *syn_ops_for(int isa) {
#if defined(__x86_64__)
    if (isa >= SYN_AVX512) return &syn_ops_avx512;
    if (isa == SYN_AVX2) return &syn_ops_avx2;
#endif
    (void)isa;
    return &syn_ops_reference;
}
