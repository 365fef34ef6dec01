/* SPDX-License-Identifier: BUSL-1.1 */
/* From the products q, k, v to what each head saw. */
#include <string.h>

#include "forward.h"

/* What happens to a head before it meets others: bias, norm, rope. */
static void prepare(const syn_step *s, int64_t row, int bias, int norm, int64_t head, float *x) {
    const syn_model *m = s->m;
    const syn_layer *layer = &m->layers[s->layer];
    int64_t n = m->config.head_dim, angles = step_angles(s, row);
    if (layer->vector[bias]) m->ops->add(x, layer->vector[bias] + head * n, n);
    if (layer->vector[norm]) m->ops->norm(x, layer->vector[norm], m->config.norm_eps, n, x);
    m->ops->rope(x, m->rows.cosine + angles, m->rows.sine + angles, n / 2,
                 m->config.interleaved[layer->rope]);
}

static void store(const syn_step *s, int64_t row, int64_t head) {
    const syn_model *m = s->m;
    int64_t n = m->config.head_dim, at = (row - s->span->begin) * m->config.kv_heads + head;
    const float *bias = m->layers[s->layer].vector[SYN_MODEL_V_BIAS];
    float *key = m->work.k + at * n, *value = m->work.v + at * n;
    prepare(s, row, SYN_MODEL_K_BIAS, SYN_MODEL_K_NORM, head, key);
    if (bias) m->ops->add(value, bias + head * n, n);
    m->ops->store(&m->kv, row_unit(s, row, head), s->f->b->positions[row] % BLOCK, key, value);
}

void syn_step_store(syn_step *s) {
    int64_t begin, end, heads = s->m->config.kv_heads, rows = s->span->end - s->span->begin;
    while (step_next(s, rows, rows, &begin, &end)) {
        for (int64_t i = begin * heads; i < end * heads; i++)
            store(s, s->span->begin + i / heads, i % heads);
    }
}

/* The queries of a tile for one KV head, in the order of its rows. */
static float *queries_of(const syn_step *s, const syn_tile *tile, int64_t kv_head) {
    const syn_model *m = s->m;
    int64_t n = m->config.head_dim, group = m->config.heads / m->config.kv_heads;
    float *queries = step_queries(s), *x = queries;
    for (int64_t row = tile->row; row < tile->row + tile->count; row++) {
        for (int64_t g = 0; g < group; g++, x += n) {
            int64_t head = kv_head * group + g;
            int64_t at = (row - s->span->begin) * m->config.heads + head;
            memcpy(x, m->work.q + at * n, (size_t)n * sizeof *x);
            prepare(s, row, SYN_MODEL_Q_BIAS, SYN_MODEL_Q_NORM, head, x);
        }
    }
    m->ops->scale(queries, m->config.attention_scale, x - queries);
    return queries;
}

static void attend(const syn_step *s, const syn_tile *tile, int64_t head) {
    const syn_model *m = s->m;
    const syn_batch *b = s->f->b;
    int64_t n = m->config.head_dim, group = m->config.heads / m->config.kv_heads;
    int64_t stride = m->config.heads * n;
    syn_attention a = {
        .kv = &m->kv,
        .layer = s->layer,
        .head = head,
        .table = b->tables + (int64_t)b->sequences[tile->row] * b->tables_columns,
        .position = b->positions[tile->row],
        .tokens = tile->count,
        .group = group,
        .window = m->layers[s->layer].window,
        .queries = queries_of(s, tile, head),
        .out = m->work.attended + tile->out * stride + head * group * n,
        .stride = stride,
        .scratch = step_attend(s),
    };
    m->ops->attend(&a);
}

/* A lone token waits for its first block; it is fetched while the queries are made. */
static void fetch_first(const syn_step *s, const syn_tile *tile, int64_t head) {
    const syn_batch *b = s->f->b;
    int64_t position = b->positions[tile->row], window = s->m->layers[s->layer].window;
    int64_t block = window && position >= window ? (position - window + 1) / BLOCK : 0;
    const int32_t *table = b->tables + (int64_t)b->sequences[tile->row] * b->tables_columns;
    const char *unit = kv_unit(&s->m->kv, s->layer, table[block], head);
    for (int64_t at = 0; at < s->m->kv.unit; at += 64) __builtin_prefetch(unit + at);
}

/* The part of the output projection's activations that a tile and a KV head have made. */
static void quantise(const syn_step *s, const syn_tile *tile, int64_t head) {
    const syn_model *m = s->m;
    int64_t n = m->config.heads / m->config.kv_heads * m->config.head_dim;
    int64_t stride = m->config.heads * m->config.head_dim;
    int form = syn_model_form(m, SYN_MODEL_O, m->layers[s->layer].matrix[SYN_MODEL_O]);
    for (int64_t row = tile->out; row < tile->out + tile->count; row++)
        syn_act_quantise(m->config.isa, form, m->work.attended + row * stride + head * n, n,
                         step_acts(s, SYN_MODEL_O, form, stride, row, head * n));
}

/* Tiles differ in cost, so each is a piece of its own; the last see the most and come first. */
void syn_step_attend(syn_step *s) {
    const syn_span *span = s->span;
    int64_t heads = s->m->config.kv_heads, first = s->last ? span->last : span->tiles;
    int64_t count = ((s->last ? span->last_end : span->tiles_end) - first) * heads;
    for (int64_t i; (i = syn_pool_piece(s->m->pool, &s->seat, count)) >= 0;) {
        const syn_tile *tile = &s->m->rows.tiles[first + (count - 1 - i) / heads];
        if (tile->count == 1) fetch_first(s, tile, i % heads);
        if (span->alone && !s->last) store(s, tile->row, i % heads);
        attend(s, tile, i % heads);
        quantise(s, tile, i % heads);
    }
}
