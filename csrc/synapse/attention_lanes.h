/* SPDX-License-Identifier: BUSL-1.1 */
/* Attention on 16 lanes; included by attention_avx2.c and attention_avx512.c, which say how many
 * rows share a load of keys (SCORE_ROWS) and values (VALUE_ROWS, VALUE_LANES vectors wide).
 *
 * Against the reference: rows are done together, so that a block's keys and values are read and
 * converted once for several rows. Each row's own operations and their order are the same. */
#include "attention.h"
#include "math_lanes.h"

typedef struct tile {
    const syn_attention *a;
    float *p;       /* [rows][32] scores, then probabilities */
    float *sums;    /* [rows][16] */
    float *largest; /* [rows] */
    float *decay;   /* [rows] */
} tile;

typedef struct block {
    char *keys, *values;
    const float *scales; /* of INT8 */
    int64_t head_dim;
    const char *next; /* the block after this one, on its way to the cache meanwhile */
} block;

/* Few rows wait for memory; many share what they wait for. */
#define FETCHING_ROWS 3

INLINE v16 load_kv(int type, const char *array, int64_t i) {
    switch (type) {
    case SYN_KV_BF16: return v_from_bf16((const uint16_t *)(const void *)array + i);
    case SYN_KV_F16: return v_from_f16((const uint16_t *)(const void *)array + i);
    case SYN_KV_INT8: return v_from_i8((const int8_t *)array + i);
    default: return v_load((const float *)(const void *)array + i);
    }
}

/* p[r][j] = queries[r] . key[j] for `rows` rows and 32 positions */
INLINE void scores_of(int type, const block *b, const float *queries, float *p, const int rows) {
    v16 sum[12][2];
    const int64_t size = kv_element_bytes(type);
    v16 scale0 = v_set(1), scale1 = v_set(1);
    if (type == SYN_KV_INT8) scale0 = v_load(b->scales), scale1 = v_load(b->scales + 16);
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) sum[r][0] = sum[r][1] = v_set(0);
    for (int64_t d = 0; d < b->head_dim; d++) {
        v16 k0 = load_kv(type, b->keys, d * BLOCK), k1 = load_kv(type, b->keys, d * BLOCK + 16);
        if (type == SYN_KV_INT8) k0 = v_mul(k0, scale0), k1 = v_mul(k1, scale1);
        if (rows <= FETCHING_ROWS) __builtin_prefetch(b->next + d * BLOCK * size);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
            v16 q = v_set(queries[r * b->head_dim + d]);
            sum[r][0] = v_fma(q, k0, sum[r][0]);
            sum[r][1] = v_fma(q, k1, sum[r][1]);
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
        v_store(p + r * BLOCK, sum[r][0]);
        v_store(p + r * BLOCK + 16, sum[r][1]);
    }
}

/* out[r][d..] = out[r][d..] * decay[r] + sum over j of p[r][j] value[j][d..], `lanes` vectors */
INLINE void values_of(int type, const block *b, const float *p, const float *decay,
                      float *const *out, int64_t d, const int rows, const int lanes) {
    v16 sum[6][4], v[4];
    const int64_t size = kv_element_bytes(type), values = BLOCK * b->head_dim * size;
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int c = 0; c < lanes; c++)
            sum[r][c] = v_mul(v_load(out[r] + d + c * 16), v_set(decay[r]));
    for (int64_t j = 0; j < BLOCK; j++) {
        const char *ahead = b->next + values + (j * b->head_dim + d) * size;
        if (rows <= FETCHING_ROWS) __builtin_prefetch(ahead);
        if (rows <= FETCHING_ROWS && lanes * 16 * size > 64) __builtin_prefetch(ahead + 64);
#pragma GCC unroll 4
        for (int c = 0; c < lanes; c++) {
            v[c] = load_kv(type, b->values, j * b->head_dim + d + c * 16);
            if (type == SYN_KV_INT8) v[c] = v_mul(v[c], v_set(b->scales[BLOCK + j]));
        }
#pragma GCC unroll 6
        for (int r = 0; r < rows; r++) {
            v16 weight = v_set(p[r * BLOCK + j]);
#pragma GCC unroll 4
            for (int c = 0; c < lanes; c++) sum[r][c] = v_fma(weight, v[c], sum[r][c]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int c = 0; c < lanes; c++) v_store(out[r] + d + c * 16, sum[r][c]);
}

/* All of head_dim: as wide as it goes, then one vector at a time. */
INLINE void values_row(int type, const block *b, const float *p, const float *decay,
                       float *const *out, const int rows) {
    int64_t d = 0;
    for (; d + VALUE_LANES * 16 <= b->head_dim; d += VALUE_LANES * 16)
        values_of(type, b, p, decay, out, d, rows, VALUE_LANES);
    for (; d < b->head_dim; d += 16) values_of(type, b, p, decay, out, d, rows, 1);
}

INLINE void all_scores(int type, const tile *t, const block *b, int64_t row, int64_t end) {
    const float *queries = t->a->queries;
#define DO(N)                                                                                      \
    for (; end - row >= N; row += N)                                                               \
        scores_of(type, b, queries + row * b->head_dim, t->p + row * BLOCK, N);
    SCORE_ROWS(DO)
#undef DO
}

INLINE float *out_of(const syn_attention *a, int64_t row) {
    return a->out + row / a->group * a->stride + row % a->group * a->kv->head_dim;
}

INLINE void all_values(int type, const tile *t, const block *b, int64_t row, int64_t end) {
    float *out[6];
#define DO(N)                                                                                      \
    for (; end - row >= N; row += N) {                                                             \
        for (int r = 0; r < N; r++) out[r] = out_of(t->a, row + r);                                \
        values_row(type, b, t->p + row * BLOCK, t->decay + row, out, N);                           \
    }
    VALUE_ROWS(DO)
#undef DO
}

/* Scores become probabilities relative to the largest score so far. */
static void soften(const tile *t, int64_t row, uint32_t mask) {
    float *p = t->p + row * BLOCK, *sums = t->sums + row * 16;
    v16 s0 = v_load(p), s1 = v_load(p + 16);
    if (mask != ~(uint32_t)0) {
        s0 = v_select(mask & 0xffff, v_set(-INFINITY), s0);
        s1 = v_select(mask >> 16, v_set(-INFINITY), s1);
    }
    float before = t->largest[row], largest = f32_max(before, v_largest(v_max(s0, s1)));
    float decay = before == largest ? 1.0f : f32_exp(before - largest); /* exp(0) is 1 */
    s0 = v_exp(v_sub(s0, v_set(largest)));
    s1 = v_exp(v_sub(s1, v_set(largest)));
    v_store(p, s0);
    v_store(p + 16, s1);
    v_store(sums, v_fma(v_load(sums), v_set(decay), v_add(s0, s1)));
    t->largest[row] = largest;
    t->decay[row] = decay;
}

/* The tokens [*first, *end) that see anything of a block. */
static void audience(const syn_attention *a, int64_t number, int64_t *first, int64_t *end) {
    int64_t begin = number * BLOCK - a->position;
    *first = begin > 0 ? begin : 0;
    *end = a->tokens;
    if (!a->window) return;
    int64_t last = number * BLOCK + BLOCK - 1 + a->window - 1 - a->position;
    if (last + 1 < a->tokens) *end = last + 1;
}

INLINE void see_block(int type, const tile *t, int64_t number, int64_t next) {
    const syn_attention *a = t->a;
    char *unit = kv_unit(a->kv, a->layer, a->table[number], a->head);
    block b = {unit, kv_values(a->kv, unit), kv_scales(a->kv, unit), a->kv->head_dim,
               kv_unit(a->kv, a->layer, a->table[next], a->head)};
    int64_t first, end;
    audience(a, number, &first, &end);
    all_scores(type, t, &b, first * a->group, end * a->group);
    for (int64_t token = first; token < end; token++) {
        uint32_t mask = attention_mask(a, a->position + token, number);
        for (int64_t g = 0; g < a->group; g++) soften(t, token * a->group + g, mask);
    }
    all_values(type, t, &b, first * a->group, end * a->group);
}

static void begin(const tile *t, int64_t rows) {
    for (int64_t row = 0; row < rows; row++) {
        float *out = out_of(t->a, row);
        t->largest[row] = -INFINITY;
        v_store(t->sums + row * 16, v_set(0));
        for (int64_t d = 0; d < t->a->kv->head_dim; d += 16) v_store(out + d, v_set(0));
    }
}

static void finish(const tile *t, int64_t rows) {
    for (int64_t row = 0; row < rows; row++) {
        float *out = out_of(t->a, row);
        v16 share = v_set(1.0f / v_sum(v_load(t->sums + row * 16)));
        for (int64_t d = 0; d < t->a->kv->head_dim; d += 16)
            v_store(out + d, v_mul(v_load(out + d), share));
    }
}

#define SEE(TYPE)                                                                                  \
    static void see_##TYPE(const tile *t, int64_t from, int64_t to) {                              \
        for (int64_t i = from; i <= to; i++) see_block(SYN_KV_##TYPE, t, i, i < to ? i + 1 : i);   \
    }
SEE(BF16)
SEE(F16)
SEE(INT8)
SEE(F32)
#undef SEE

void ATTEND(const syn_attention *a) {
    static void (*const see[])(const tile *, int64_t, int64_t) = {
        [SYN_KV_BF16] = see_BF16, [SYN_KV_F16] = see_F16,
        [SYN_KV_INT8] = see_INT8, [SYN_KV_F32] = see_F32};
    int64_t rows = a->tokens * a->group;
    float *sums = a->scratch + rows * BLOCK, *largest = sums + rows * 16;
    tile t = {a, a->scratch, sums, largest, largest + rows};
    begin(&t, rows);
    see[a->kv->type](&t, attention_start(a, a->position) / BLOCK,
                     (a->position + a->tokens - 1) / BLOCK);
    finish(&t, rows);
}
