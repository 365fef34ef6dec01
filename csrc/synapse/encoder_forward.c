/* SPDX-License-Identifier: BUSL-1.1 */
/* One pass of an encoder.
 *
 * Every phase is shared out between the threads: matrix products by panels of outputs, attention
 * by (sequence, head), all else by rows. No result depends on the share, nor on what else is in
 * the group: each row has its own order of additions. */
#include <math.h>

#include "encoder_pass.h"

typedef syn_encoder_pass Pass;

static float *own_of(const Pass *p, int thread) { return p->own + thread * p->own_floats; }

/* --- phases; each takes thread t of n ------------------------------------------------------- */

static void table_row(const syn_encoder_table *table, int64_t row, int64_t width, float *out) {
    syn_dequantise(table->type, table->data + row * table->row_bytes, (uint64_t)table->row_bytes,
                   1, width, out);
}

/* The sequence that row `row` of the group belongs to, looking from `from` on. */
static int64_t sequence_of(const Pass *p, int64_t row, int64_t from) {
    while (p->offsets[from + 1] - p->offsets[0] <= row) from++;
    return from;
}

static void embed(Pass *p, int t, int n) {
    const syn_encoder *e = p->e;
    int64_t begin, end, sequence = 0, width = e->config.hidden;
    float *part = own_of(p, t);
    syn_share(p->rows, t, n, &begin, &end);
    for (int64_t row = begin; row < end; row++) {
        float *x = p->x + row * p->wide;
        sequence = sequence_of(p, row, sequence);
        table_row(&e->tables[SYN_ENCODER_WORDS], p->tokens[p->offsets[0] + row], width, x);
        table_row(&e->tables[SYN_ENCODER_TYPES], 0, width, part);
        for (int64_t i = 0; i < width; i++) x[i] += part[i];
        int64_t position = row - (p->offsets[sequence] - p->offsets[0]);
        table_row(&e->tables[SYN_ENCODER_POSITIONS], position, width, part);
        for (int64_t i = 0; i < width; i++) x[i] += part[i];
    }
    p->kernels->norm(p->x + begin * p->wide, end - begin, p->wide, width, e->norm, e->norm_bias,
                     e->config.eps);
}

/* out[:, panels p0..p1] = (keep ? out : 0) + bias + x W^T */
static void linear(Pass *p, int t, const syn_encoder_layer *layer, int tensor, const float *x,
                   float *out, int64_t stride, int64_t p0, int64_t p1, int keep) {
    const syn_matrix *w = syn_encoder_matrix(layer, tensor);
    const float *bias =
        syn_encoder_vector(layer, tensor - SYN_ENCODER_QUERY + SYN_ENCODER_QUERY_BIAS);
    int64_t n0 = p0 * SYN_PANEL, n1 = p1 * SYN_PANEL, outputs = syn_matrix_rows(w);
    if (n1 > outputs) n1 = outputs;
    for (int64_t row = 0; row < p->rows; row++) {
        float *to = out + row * stride;
        for (int64_t i = n0; i < n1; i++) to[i] = keep ? to[i] + bias[i] : bias[i];
    }
    syn_gemm(p->isa, w, SYN_ACT_F32, x, p->rows, out, stride, p0, p1, 1, own_of(p, t));
}

static void query_key_value(Pass *p, const syn_encoder_layer *layer, int t, int n) {
    int64_t panels = syn_matrix_panels(layer->matrices[0]), begin, end;
    syn_share(3 * panels, t, n, &begin, &end);
    for (int i = 0; i < 3; i++) {
        int64_t p0 = begin - i * panels, p1 = end - i * panels;
        if (p0 < 0) p0 = 0;
        if (p1 > panels) p1 = panels;
        if (p0 < p1)
            linear(p, t, layer, SYN_ENCODER_QUERY + i, p->x, p->qkv[i], p->wide, p0, p1, 0);
    }
}

static void attention(Pass *p, int t, int n) {
    int64_t heads = p->e->config.heads, width = p->e->config.hidden / heads, begin, end;
    float scale = 1.0f / sqrtf((float)width);
    syn_share(p->sequences * heads, t, n, &begin, &end);
    for (int64_t task = begin; task < end; task++) {
        int64_t sequence = task / heads, first = p->offsets[sequence];
        int64_t at = (first - p->offsets[0]) * p->wide + task % heads * width;
        p->kernels->attend(p->qkv[0] + at, p->qkv[1] + at, p->qkv[2] + at, p->qkv[0] + at,
                           p->offsets[sequence + 1] - first, p->wide, width, scale,
                           own_of(p, t) + p->scratch_floats);
    }
}

static void project(Pass *p, const syn_encoder_layer *layer, int t, int n) {
    int64_t begin, end;
    syn_share(syn_matrix_panels(syn_encoder_matrix(layer, SYN_ENCODER_PROJECTION)), t, n, &begin,
              &end);
    linear(p, t, layer, SYN_ENCODER_PROJECTION, p->qkv[0], p->x, p->wide, begin, end, 1);
}

static void up(Pass *p, const syn_encoder_layer *layer, int t, int n) {
    int64_t begin, end;
    syn_share(syn_matrix_panels(syn_encoder_matrix(layer, SYN_ENCODER_UP)), t, n, &begin, &end);
    linear(p, t, layer, SYN_ENCODER_UP, p->x, p->ffn, p->ffn_wide, begin, end, 0);
    int64_t n0 = begin * SYN_PANEL, n1 = end * SYN_PANEL, ffn = p->e->config.ffn;
    if (n1 > ffn) n1 = ffn;
    p->kernels->gelu(p->ffn + n0, p->rows, p->ffn_wide, n1 - n0);
}

static void down(Pass *p, const syn_encoder_layer *layer, int t, int n) {
    int64_t begin, end;
    syn_share(syn_matrix_panels(syn_encoder_matrix(layer, SYN_ENCODER_DOWN)), t, n, &begin, &end);
    linear(p, t, layer, SYN_ENCODER_DOWN, p->ffn, p->x, p->wide, begin, end, 1);
}

static void norm(Pass *p, const syn_encoder_layer *layer, int tensor, int t, int n) {
    int64_t begin, end;
    syn_share(p->rows, t, n, &begin, &end);
    p->kernels->norm(p->x + begin * p->wide, end - begin, p->wide, p->e->config.hidden,
                     syn_encoder_vector(layer, tensor), syn_encoder_vector(layer, tensor + 1),
                     p->e->config.eps);
}

static void pool_tokens(Pass *p, int t, int n) {
    const syn_encoder_config *c = &p->e->config;
    int64_t begin, end;
    syn_share(p->sequences, t, n, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        const float *x = p->x + (p->offsets[i] - p->offsets[0]) * p->wide;
        int64_t rows = c->pooling == SYN_POOLING_MEAN ? p->offsets[i + 1] - p->offsets[i] : 1;
        float *out = p->out + i * c->hidden;
        p->kernels->mean(x, rows, p->wide, c->hidden, out);
        if (c->norm) p->kernels->unit(out, c->hidden);
    }
}

/* --- the pass ------------------------------------------------------------------------------- */

static void block(Pass *p, const syn_encoder_layer *layer, int t, int n) {
    query_key_value(p, layer, t, n);
    syn_pool_barrier(p->pool);
    attention(p, t, n);
    syn_pool_barrier(p->pool);
    project(p, layer, t, n);
    syn_pool_barrier(p->pool);
    norm(p, layer, SYN_ENCODER_ATTENTION_NORM, t, n);
    syn_pool_barrier(p->pool);
    up(p, layer, t, n);
    syn_pool_barrier(p->pool);
    down(p, layer, t, n);
    syn_pool_barrier(p->pool);
    norm(p, layer, SYN_ENCODER_OUTPUT_NORM, t, n);
    syn_pool_barrier(p->pool);
}

void syn_encoder_forward(void *arg, int t, int n) {
    Pass *p = arg;
    embed(p, t, n);
    syn_pool_barrier(p->pool);
    for (int64_t i = 0; i < p->e->config.layers; i++) block(p, &p->e->layers[i], t, n);
    pool_tokens(p, t, n);
}
