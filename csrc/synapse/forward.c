/* SPDX-License-Identifier: BUSL-1.1 */
/* One step for a batch: embedding, layers, head.
 *
 * All threads walk through this together; a barrier parts the phases. Rows of a phase are shared
 * out by rows, products by panels of outputs, attention by tiles and heads: who does what never
 * changes a result. A span's rows go through a layer before the next span's, so that a layer's
 * weights are read from memory once for the whole batch. */
#include <math.h>
#include <string.h>

#include "forward.h"

typedef struct product {
    int tensor;
    const syn_matrix *w;
    float *out;
    int64_t ldo;
    int add;
} product;

static void barrier(const syn_step *s) { syn_pool_barrier(s->m->pool); }

/* Rows in the forms that `tensors` want: into row i of the activations. */
static void quantise(const syn_step *s, const float *x, int64_t n, int64_t i,
                     const product *products, int count) {
    const syn_model *m = s->m;
    int done = 0;
    for (int p = 0; p < count; p++) {
        int form = syn_model_form(m, products[p].tensor, products[p].w);
        if (done >> form & 1) continue;
        done |= 1 << form;
        void *row = m->work.acts[form] + (size_t)i * syn_act_bytes(form, n);
        syn_act_quantise(m->config.isa, form, x, n, row);
    }
}

/* `rows` rows of activations times several matrices, the panels of all shared out at once. */
static void multiply(const syn_step *s, int64_t rows, const product *products, int count) {
    const syn_model *m = s->m;
    int64_t panels = 0, begin, end;
    for (int p = 0; p < count; p++) panels += syn_matrix_panels(products[p].w);
    syn_share(panels, s->thread, s->threads, &begin, &end);
    for (int p = 0; p < count && end > 0; p++) {
        const product *q = &products[p];
        int64_t here = syn_matrix_panels(q->w), last = end < here ? end : here;
        int form = syn_model_form(m, q->tensor, q->w);
        if (begin < last)
            syn_gemm(m->config.isa, q->w, form, m->work.acts[form], rows, q->out, q->ldo, begin,
                     last, q->add, step_gemm(s));
        begin = begin > here ? begin - here : 0;
        end -= here;
    }
}

static product layer_product(const syn_step *s, int tensor, float *out, int64_t ldo, int add) {
    return (product){tensor, s->m->layers[s->layer].matrix[tensor], out, ldo, add};
}

/* The rows that go on after attention, and where their residuals lie. */
static int64_t rows_on(const syn_step *s) {
    return s->last ? s->span->wanted_end - s->span->wanted : s->span->end - s->span->begin;
}
static float *residual(const syn_step *s, int64_t i) {
    int64_t first = s->last ? s->span->wanted : s->span->begin;
    return s->m->rows.x + (first + i) * s->m->config.hidden;
}

static void clear_block(const syn_step *s, int64_t row) {
    const syn_batch *b = s->f->b;
    if (b->positions[row] % BLOCK) return;
    const int32_t *table = b->tables + (int64_t)b->sequences[row] * b->tables_columns;
    syn_kv_clear(&s->m->kv, s->layer, table[b->positions[row] / BLOCK]);
}

static void project_inputs(const syn_step *s) {
    const syn_model *m = s->m;
    const syn_model_config *c = &m->config;
    int64_t begin, end, queries = c->heads * c->head_dim, keys = c->kv_heads * c->head_dim;
    product products[] = {layer_product(s, SYN_MODEL_K, m->work.k, keys, 0),
                          layer_product(s, SYN_MODEL_V, m->work.v, keys, 0),
                          layer_product(s, SYN_MODEL_Q, m->work.q, queries, 0)};
    int count = rows_on(s) ? 3 : 2;
    syn_share(s->span->end - s->span->begin, s->thread, s->threads, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        int64_t row = s->span->begin + i;
        clear_block(s, row);
        m->ops->norm(m->rows.x + row * c->hidden, m->layers[s->layer].vector[SYN_MODEL_ATTN_NORM],
                     c->norm_eps, c->hidden, step_row(s));
        quantise(s, step_row(s), c->hidden, i, products, count);
    }
    barrier(s);
    multiply(s, s->span->end - s->span->begin, products, count);
    barrier(s);
}

/* Wanted rows move to the front; nobody else looks at the residuals meanwhile. */
static void compact(const syn_step *s) {
    size_t bytes = (size_t)s->m->config.hidden * sizeof(float);
    for (int64_t i = s->span->wanted; i < s->span->wanted_end; i++)
        memmove(s->m->rows.x + i * s->m->config.hidden,
                s->m->rows.x + s->f->b->wanted[i] * s->m->config.hidden, bytes);
}

static void see(const syn_step *s) {
    if (!s->span->alone || s->last) {
        syn_step_store(s);
        barrier(s);
    }
    if (s->last && s->thread == 0) compact(s);
    syn_step_attend(s);
    barrier(s);
}

/* A product onto the residuals, through a norm if the model has one there. */
static void add_product(const syn_step *s, int tensor, int post_norm) {
    const syn_model *m = s->m;
    int64_t begin, end, hidden = m->config.hidden;
    const float *weight = m->layers[s->layer].vector[post_norm];
    float *out = weight ? m->work.projected : residual(s, 0);
    product p = layer_product(s, tensor, out, hidden, !weight);
    multiply(s, rows_on(s), &p, 1);
    barrier(s);
    if (!weight) return;
    syn_share(rows_on(s), s->thread, s->threads, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        m->ops->norm(out + i * hidden, weight, m->config.norm_eps, hidden, step_row(s));
        m->ops->add(residual(s, i), step_row(s), hidden);
    }
    barrier(s);
}

static void project_attended(const syn_step *s) {
    const syn_model *m = s->m;
    int64_t begin, end, queries = m->config.heads * m->config.head_dim;
    product p = layer_product(s, SYN_MODEL_O, NULL, 0, 0);
    syn_share(rows_on(s), s->thread, s->threads, &begin, &end);
    for (int64_t i = begin; i < end; i++)
        quantise(s, m->work.attended + i * queries, queries, i, &p, 1);
    barrier(s);
    add_product(s, SYN_MODEL_O, SYN_MODEL_POST_ATTN_NORM);
}

static void feed_forward(const syn_step *s) {
    const syn_model *m = s->m;
    const syn_model_config *c = &m->config;
    int64_t begin, end;
    product up[] = {layer_product(s, SYN_MODEL_GATE, m->work.gate, c->ffn, 0),
                    layer_product(s, SYN_MODEL_UP, m->work.up, c->ffn, 0)};
    product down = layer_product(s, SYN_MODEL_DOWN, NULL, 0, 0);
    syn_share(rows_on(s), s->thread, s->threads, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        m->ops->norm(residual(s, i), m->layers[s->layer].vector[SYN_MODEL_FFN_NORM], c->norm_eps,
                     c->hidden, step_row(s));
        quantise(s, step_row(s), c->hidden, i, up, 2);
    }
    barrier(s);
    multiply(s, rows_on(s), up, 2);
    barrier(s);
    for (int64_t i = begin; i < end; i++) {
        m->ops->gate(c->activation, m->work.gate + i * c->ffn, m->work.up + i * c->ffn, c->ffn,
                     step_row(s));
        quantise(s, step_row(s), c->ffn, i, &down, 1);
    }
    barrier(s);
    add_product(s, SYN_MODEL_DOWN, SYN_MODEL_POST_FFN_NORM);
}

static void run_layer(const syn_step *s) {
    project_inputs(s);
    if (s->last && !rows_on(s)) {
        syn_step_store(s);
        barrier(s);
        return;
    }
    see(s);
    project_attended(s);
    feed_forward(s);
}

/* Angles as F32 products, as the models were trained; then their cosines and sines. */
static void turn(const syn_step *s, int64_t row) {
    const syn_model_config *c = &s->m->config;
    int64_t half = c->head_dim / 2;
    for (int64_t rope = 0; rope < c->ropes; rope++) {
        int64_t at = (rope * s->f->b->rows + row) * half;
        for (int64_t i = 0; i < half; i++) {
            double angle = (float)s->f->b->positions[row] * c->frequencies[rope * half + i];
            s->m->rows.cosine[at + i] = (float)cos(angle);
            s->m->rows.sine[at + i] = (float)sin(angle);
        }
    }
}

static void embed(const syn_step *s) {
    const syn_model *m = s->m;
    int64_t begin, end, hidden = m->config.hidden;
    syn_share(s->f->b->rows, s->thread, s->threads, &begin, &end);
    for (int64_t row = begin; row < end; row++) {
        float *x = m->rows.x + row * hidden;
        syn_matrix_row(m->embedding, s->f->b->tokens[row], x);
        if (m->config.embedding_scale != 1) m->ops->scale(x, m->config.embedding_scale, hidden);
        turn(s, row);
    }
    barrier(s);
}

/* Final norm and head for the wanted rows [first, first + rows). */
static void finish(const syn_step *s, int64_t first, int64_t rows) {
    const syn_model *m = s->m;
    const syn_model_config *c = &m->config;
    const syn_forward *f = s->f;
    int64_t begin, end;
    float *logits = f->logits ? f->logits + first * c->vocab : NULL;
    product p = {SYN_MODEL_OUTPUT, m->output ? m->output : m->embedding, logits, c->vocab, 0};
    syn_share(rows, s->thread, s->threads, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        float *state = f->states ? f->states + (first + i) * c->hidden : step_row(s);
        m->ops->norm(m->rows.x + (first + i) * c->hidden, m->output_norm, c->norm_eps, c->hidden,
                     state);
        if (logits) quantise(s, state, c->hidden, i, &p, 1);
    }
    barrier(s);
    if (!logits) return;
    multiply(s, rows, &p, 1);
    barrier(s);
    if (!(c->logit_softcap > 0)) return;
    for (int64_t i = begin; i < end; i++)
        m->ops->softcap(logits + i * c->vocab, c->logit_softcap, c->vocab);
}

static void run_thread(void *arg, int thread, int threads) {
    const syn_forward *f = arg;
    syn_step s = {.f = f, .m = f->m, .thread = thread, .threads = threads};
    embed(&s);
    for (s.layer = 0; s.layer < f->m->config.layers; s.layer++) {
        s.last = s.layer == f->m->config.layers - 1;
        for (s.number = 0; s.number < f->spans; s.number++) {
            s.span = &f->m->rows.spans[s.number];
            run_layer(&s);
        }
    }
    for (int64_t row = 0; row < f->b->wanted_count; row += SPAN) {
        int64_t left = f->b->wanted_count - row;
        finish(&s, row, left < SPAN ? left : SPAN);
    }
}

static int missing(int64_t layer, int tensor) {
    return FAIL(SYN_E_ARGUMENT, "tensor %d of layer %lld is missing", tensor, (long long)layer);
}

/* Before the first step: everything that must be there is. */
static int make_ready(syn_model *m) {
    for (int64_t i = 0; i < m->config.layers; i++) {
        for (int t = 0; t < SYN_MODEL_EMBEDDING; t++) {
            if (!m->layers[i].matrix[t]) return missing(i, t);
        }
        for (int t = SYN_MODEL_ATTN_NORM; t <= SYN_MODEL_FFN_NORM; t++) {
            if (!m->layers[i].vector[t]) return missing(i, t);
        }
    }
    if (!m->embedding) return missing(0, SYN_MODEL_EMBEDDING);
    if (!m->output_norm) return missing(0, SYN_MODEL_OUTPUT_NORM);
    int status = syn_workspace_new(m);
    if (!status) m->ready = 1;
    return status;
}

int syn_model_forward(syn_model *m, const syn_batch *batch, float *logits, float *states) {
    int status = m->ready ? 0 : make_ready(m);
    if (!status) status = syn_batch_check(m, batch);
    if (!status) status = syn_rows_reserve(m, batch->rows);
    if (status) return status;
    syn_forward f = {m, batch, logits, states, syn_batch_plan(m, batch)};
    return syn_pool_run(m->pool, run_thread, &f);
}
