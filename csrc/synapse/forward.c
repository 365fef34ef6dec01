/* SPDX-License-Identifier: BUSL-1.1 */
/* One step for a batch: embedding, layers, head.
 *
 * All threads walk through this together, phase after phase, taking the pieces that are left.
 * Pieces are rows, panels of outputs, or tiles and heads of attention: who does what never changes
 * a result. A span's rows go through a layer before the next span's, so that a layer's
 * weights are read from memory once for the whole batch. */
#include <math.h>
#include <string.h>

#include "forward.h"

enum { UNIT = 2 * SYN_PANEL /* inputs of the down projection that are made together */ };

typedef struct product {
    int tensor;
    const syn_matrix *w;
    float *out;
    int64_t ldo;
    int add;
} product;

/* Rows in the forms that the products want: into row i of the activations. */
static void quantise(const syn_step *s, const float *x, int64_t n, int64_t i,
                     const product *products, int count) {
    const syn_model *m = s->m;
    int done = 0;
    for (int p = 0; p < count; p++) {
        int form = syn_model_form(m, products[p].tensor, products[p].w);
        if (done >> form & 1) continue;
        done |= 1 << form;
        void *row = step_acts(s, products[p].tensor, form, n, i, 0);
        syn_act_quantise(m->config.isa, form, x, n, row);
    }
}

/* Rows of activations times panels [begin, end). */
static void multiply(const syn_step *s, int64_t rows, const product *p, int64_t begin,
                     int64_t end) {
    const syn_model *m = s->m;
    int form = syn_model_form(m, p->tensor, p->w);
    if (begin < end)
        syn_gemm(m->config.isa, p->w, form, m->work.acts[syn_acts_of(p->tensor, form)], rows,
                 p->out, p->ldo, begin, end, p->add, step_gemm(s));
}

/* A phase: several matrices, the panels of all shared out at once. */
static void multiply_all(syn_step *s, int64_t rows, const product *products, int count) {
    int64_t panels = 0, begin, end;
    for (int p = 0; p < count; p++) panels += syn_matrix_panels(products[p].w);
    while (step_next(s, panels, rows, &begin, &end)) {
        for (int p = 0; p < count && end > 0; p++) {
            int64_t here = syn_matrix_panels(products[p].w);
            multiply(s, rows, &products[p], begin, end < here ? end : here);
            begin = begin > here ? begin - here : 0;
            end -= here;
        }
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

static void project_inputs(syn_step *s) {
    const syn_model *m = s->m;
    const syn_model_config *c = &m->config;
    int64_t begin, end, queries = c->heads * c->head_dim, keys = c->kv_heads * c->head_dim;
    int64_t rows = s->span->end - s->span->begin;
    product products[] = {layer_product(s, SYN_MODEL_K, m->work.k, keys, 0),
                          layer_product(s, SYN_MODEL_V, m->work.v, keys, 0),
                          layer_product(s, SYN_MODEL_Q, m->work.q, queries, 0)};
    int count = rows_on(s) ? 3 : 2;
    while (step_next(s, rows, rows, &begin, &end)) {
        for (int64_t i = begin; i < end; i++) {
            int64_t row = s->span->begin + i;
            clear_block(s, row);
            m->ops->norm(m->rows.x + row * c->hidden,
                         m->layers[s->layer].vector[SYN_MODEL_ATTN_NORM], c->norm_eps, c->hidden,
                         step_row(s));
            quantise(s, step_row(s), c->hidden, i, products, count);
        }
    }
    multiply_all(s, rows, products, count);
}

/* Wanted rows move to the front; nobody else looks at the residuals meanwhile. */
static void compact(const syn_step *s) {
    size_t bytes = (size_t)s->m->config.hidden * sizeof(float);
    for (int64_t i = s->span->wanted; i < s->span->wanted_end; i++)
        memmove(s->m->rows.x + i * s->m->config.hidden,
                s->m->rows.x + s->f->b->wanted[i] * s->m->config.hidden, bytes);
}

static void see(syn_step *s) {
    int64_t begin, end;
    if (!s->span->alone || s->last) syn_step_store(s);
    if (s->last) {
        while (step_next(s, 1, 1, &begin, &end)) compact(s);
    }
    syn_step_attend(s);
}

/* A product onto the residuals, through a norm if the model has one there. */
static void add_product(syn_step *s, int tensor, int post_norm) {
    const syn_model *m = s->m;
    int64_t begin, end, hidden = m->config.hidden;
    const float *weight = m->layers[s->layer].vector[post_norm];
    float *out = weight ? m->work.projected : residual(s, 0);
    product p = layer_product(s, tensor, out, hidden, !weight);
    multiply_all(s, rows_on(s), &p, 1);
    if (!weight) return;
    while (step_next(s, rows_on(s), rows_on(s), &begin, &end)) {
        for (int64_t i = begin; i < end; i++) {
            m->ops->norm(out + i * hidden, weight, m->config.norm_eps, hidden, step_row(s));
            m->ops->add(residual(s, i), step_row(s), hidden);
        }
    }
}

/* Gate, up and what the activation makes of them, for inputs [begin, end) of the down
 * projection: while the products are still in the cache. */
static void gate(const syn_step *s, const product *products, const product *down, int64_t begin,
                 int64_t end) {
    const syn_model *m = s->m;
    int64_t ffn = m->config.ffn, last = (end + SYN_PANEL - 1) / SYN_PANEL;
    int form = syn_model_form(m, SYN_MODEL_DOWN, down->w);
    multiply(s, rows_on(s), &products[0], begin / SYN_PANEL, last);
    multiply(s, rows_on(s), &products[1], begin / SYN_PANEL, last);
    for (int64_t i = 0; i < rows_on(s); i++) {
        int64_t at = i * ffn + begin;
        m->ops->gate(m->config.activation, m->work.gate + at, m->work.up + at, end - begin,
                     step_row(s));
        syn_act_quantise(m->config.isa, form, step_row(s), end - begin,
                         step_acts(s, SYN_MODEL_DOWN, form, ffn, i, begin));
    }
}

static void feed_forward(syn_step *s) {
    const syn_model *m = s->m;
    const syn_model_config *c = &m->config;
    int64_t begin, end;
    product up[] = {layer_product(s, SYN_MODEL_GATE, m->work.gate, c->ffn, 0),
                    layer_product(s, SYN_MODEL_UP, m->work.up, c->ffn, 0)};
    product down = layer_product(s, SYN_MODEL_DOWN, NULL, 0, 0);
    while (step_next(s, rows_on(s), rows_on(s), &begin, &end)) {
        for (int64_t i = begin; i < end; i++) {
            m->ops->norm(residual(s, i), m->layers[s->layer].vector[SYN_MODEL_FFN_NORM],
                         c->norm_eps, c->hidden, step_row(s));
            quantise(s, step_row(s), c->hidden, i, up, 2);
        }
    }
    while (step_next(s, (c->ffn + UNIT - 1) / UNIT, rows_on(s), &begin, &end))
        gate(s, up, &down, begin * UNIT, end * UNIT < c->ffn ? end * UNIT : c->ffn);
    add_product(s, SYN_MODEL_DOWN, SYN_MODEL_POST_FFN_NORM);
}

static void run_layer(syn_step *s) {
    project_inputs(s);
    if (s->last && !rows_on(s)) {
        syn_step_store(s);
        return;
    }
    see(s);
    add_product(s, SYN_MODEL_O, SYN_MODEL_POST_ATTN_NORM);
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

static void embed(syn_step *s) {
    const syn_model *m = s->m;
    int64_t begin, end, hidden = m->config.hidden;
    while (step_next(s, s->f->b->rows, s->f->b->rows, &begin, &end)) {
        for (int64_t row = begin; row < end; row++) {
            float *x = m->rows.x + row * hidden;
            syn_matrix_row(m->embedding, s->f->b->tokens[row], x);
            if (m->config.embedding_scale != 1)
                m->ops->scale(x, m->config.embedding_scale, hidden);
            turn(s, row);
        }
    }
}

/* Final norm and head for the wanted rows [first, first + rows). */
static void finish(syn_step *s, int64_t first, int64_t rows) {
    const syn_model *m = s->m;
    const syn_model_config *c = &m->config;
    const syn_forward *f = s->f;
    int64_t begin, end;
    float *logits = f->logits ? f->logits + first * c->vocab : NULL;
    product p = {SYN_MODEL_OUTPUT, m->output ? m->output : m->embedding, logits, c->vocab, 0};
    while (step_next(s, rows, rows, &begin, &end)) {
        for (int64_t i = begin; i < end; i++) {
            float *state = f->states ? f->states + (first + i) * c->hidden : step_row(s);
            m->ops->norm(m->rows.x + (first + i) * c->hidden, m->output_norm, c->norm_eps,
                         c->hidden, state);
            if (logits) quantise(s, state, c->hidden, i, &p, 1);
        }
    }
    if (!logits) return;
    multiply_all(s, rows, &p, 1);
    if (!(c->logit_softcap > 0)) return;
    while (step_next(s, rows, rows, &begin, &end)) {
        for (int64_t i = begin; i < end; i++)
            m->ops->softcap(logits + i * c->vocab, c->logit_softcap, c->vocab);
    }
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
    return FAIL(SYN_E_FORMAT, "tensor %d of layer %lld is missing", tensor, (long long)layer);
}

/* What a KV head's query heads saw is quantised by itself. */
static int check_o(const syn_model *m, int64_t layer) {
    const syn_matrix *o = m->layers[layer].matrix[SYN_MODEL_O];
    int64_t n = m->config.heads / m->config.kv_heads * m->config.head_dim;
    if (n % SYN_BLOCK == 0 || syn_model_form(m, SYN_MODEL_O, o) == SYN_ACT_F32) return 0;
    return FAIL(SYN_E_UNSUPPORTED, "%lld numbers per KV head are not whole blocks of %d",
                (long long)n, SYN_BLOCK);
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
    for (int64_t i = 0; i < m->config.layers; i++) {
        int status = check_o(m, i);
        if (status) return status;
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
    return syn_pool_flow(m->pool, run_thread, &f);
}
