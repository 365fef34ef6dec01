/* SPDX-License-Identifier: BUSL-1.1 */
/* The judge: one row after the other, one number after the other. */
#include "attention.h"

#include "math_scalar.h"

typedef struct row {
    const float *query;
    float *out;     /* sum of p v so far */
    float largest;  /* score so far */
    float sums[16]; /* of p, position j in j % 16 */
} row;

static float key_at(const syn_kv *kv, char *unit, int64_t d, int64_t j) {
    int64_t i = d * BLOCK + j;
    switch (kv->type) {
    case SYN_KV_BF16: return bf16_to_f32(((uint16_t *)(void *)unit)[i]);
    case SYN_KV_F16: return f16_to_f32(((uint16_t *)(void *)unit)[i]);
    case SYN_KV_INT8: return (float)((int8_t *)unit)[i] * kv_scales(kv, unit)[j];
    default: return ((float *)(void *)unit)[i];
    }
}

static float value_at(const syn_kv *kv, char *unit, int64_t j, int64_t d) {
    char *values = kv_values(kv, unit);
    int64_t i = j * kv->head_dim + d;
    switch (kv->type) {
    case SYN_KV_BF16: return bf16_to_f32(((uint16_t *)(void *)values)[i]);
    case SYN_KV_F16: return f16_to_f32(((uint16_t *)(void *)values)[i]);
    case SYN_KV_INT8: return (float)((int8_t *)values)[i] * kv_scales(kv, unit)[BLOCK + j];
    default: return ((float *)(void *)values)[i];
    }
}

static float score(const syn_kv *kv, char *unit, const float *query, int64_t j) {
    float sum = 0;
    for (int64_t d = 0; d < kv->head_dim; d++) sum = fmaf(query[d], key_at(kv, unit, d, j), sum);
    return sum;
}

static float largest_of(const float *scores) {
    float lanes[16];
    for (int j = 0; j < 16; j++) lanes[j] = f32_max(scores[j], scores[j + 16]);
    for (int half = 8; half; half /= 2)
        for (int j = 0; j < half; j++) lanes[j] = f32_max(lanes[j], lanes[j + half]);
    return lanes[0];
}

static void see_block(const syn_kv *kv, char *unit, uint32_t mask, row *r) {
    float p[BLOCK];
    for (int64_t j = 0; j < BLOCK; j++)
        p[j] = mask >> j & 1 ? score(kv, unit, r->query, j) : -INFINITY;
    float largest = f32_max(r->largest, largest_of(p)), decay = f32_exp(r->largest - largest);
    for (int j = 0; j < BLOCK; j++) p[j] = f32_exp(p[j] - largest);
    for (int j = 0; j < 16; j++) r->sums[j] = fmaf(r->sums[j], decay, p[j] + p[j + 16]);
    for (int64_t d = 0; d < kv->head_dim; d++) {
        float sum = r->out[d] * decay;
        for (int64_t j = 0; j < BLOCK; j++) sum = fmaf(p[j], value_at(kv, unit, j, d), sum);
        r->out[d] = sum;
    }
    r->largest = largest;
}

static void attend_row(const syn_attention *a, int64_t position, row *r) {
    int64_t head_dim = a->kv->head_dim;
    for (int64_t d = 0; d < head_dim; d++) r->out[d] = 0;
    for (int64_t b = attention_start(a, position) / BLOCK; b <= position / BLOCK; b++) {
        char *unit = kv_unit(a->kv, a->layer, a->table[b], a->head);
        see_block(a->kv, unit, attention_mask(a, position, b), r);
    }
    for (int half = 8; half; half /= 2)
        for (int j = 0; j < half; j++) r->sums[j] += r->sums[j + half];
    float share = 1.0f / r->sums[0];
    for (int64_t d = 0; d < head_dim; d++) r->out[d] *= share;
}

void syn_attend_reference(const syn_attention *a) {
    int64_t head_dim = a->kv->head_dim;
    for (int64_t i = 0; i < a->tokens * a->group; i++) {
        int64_t token = i / a->group, head = i % a->group;
        row r = {.query = a->queries + i * head_dim,
                 .out = a->out + token * a->stride + head * head_dim,
                 .largest = -INFINITY};
        attend_row(a, a->position + token, &r);
    }
}
