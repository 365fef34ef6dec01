/* SPDX-License-Identifier: BUSL-1.1 */
/* Memory of the rows on their way: fixed for a span, grown for the batch. */
#include <stdlib.h>

#include "model.h"

#define LINE 64

static size_t lines(size_t bytes) { return (bytes + LINE - 1) / LINE * LINE; }

static void most(size_t *limit, size_t n) { *limit = n > *limit ? n : *limit; }

/* What one row takes in each form at most, and the scratch that the products need. */
static void measure(const syn_model *m, const syn_matrix *matrix, int tensor,
                    size_t acts[2 * FORMS], size_t *scratch) {
    if (!matrix) return;
    int form = syn_model_form(m, tensor, matrix);
    most(&acts[syn_acts_of(tensor, form)], syn_act_bytes(form, syn_matrix_columns(matrix)));
    most(scratch, syn_gemm_scratch(matrix));
}

static void measure_all(const syn_model *m, size_t acts[2 * FORMS], size_t *scratch) {
    for (int64_t i = 0; i < m->config.layers; i++) {
        for (int t = 0; t < SYN_MODEL_EMBEDDING; t++)
            measure(m, m->layers[i].matrix[t], t, acts, scratch);
    }
    measure(m, m->output ? m->output : m->embedding, SYN_MODEL_OUTPUT, acts, scratch);
}

/* Rows of a tile, and numbers of the longest row. */
static int64_t tile_rows(const syn_model_config *c) {
    int64_t group = c->heads / c->kv_heads;
    return group > TILE_ROWS ? group : TILE_ROWS;
}

static int64_t longest(const syn_model_config *c) {
    int64_t queries = c->heads * c->head_dim, n = c->hidden > c->ffn ? c->hidden : c->ffn;
    return n > queries ? n : queries;
}

static void measure_threads(syn_model *m, size_t scratch) {
    const syn_model_config *c = &m->config;
    syn_workspace *w = &m->work;
    size_t rows = (size_t)tile_rows(c);
    w->gemm_bytes = lines(scratch);
    w->attend_bytes = lines((size_t)syn_attention_scratch((int64_t)rows) * sizeof(float));
    w->query_bytes = lines(rows * (size_t)c->head_dim * sizeof(float));
    w->thread_bytes = w->gemm_bytes + w->attend_bytes + w->query_bytes +
                      lines((size_t)longest(c) * sizeof(float));
}

int syn_workspace_new(syn_model *m) {
    const syn_model_config *c = &m->config;
    syn_workspace *w = &m->work;
    size_t acts[2 * FORMS] = {0}, scratch = 0, total = 0, at[2 * FORMS + 8];
    measure_all(m, acts, &scratch);
    measure_threads(m, scratch);
    int64_t queries = c->heads * c->head_dim, keys = c->kv_heads * c->head_dim;
    const int64_t floats[] = {queries, keys, keys, queries, c->ffn, c->ffn, c->hidden};
    for (int i = 0; i < 2 * FORMS; i++) at[i] = total, total += SPAN * acts[i];
    for (int i = 0; i < 7; i++)
        at[2 * FORMS + i] = total, total += lines(SPAN * (size_t)floats[i] * sizeof(float));
    at[2 * FORMS + 7] = total;
    total += (size_t)syn_pool_threads(m->pool) * w->thread_bytes;
    char *memory = aligned_alloc(LINE, total);
    if (!memory) return FAIL(SYN_E_MEMORY, "no memory for a workspace of %zu bytes", total);
    w->memory = memory;
    w->bytes = total;
    for (int i = 0; i < 2 * FORMS; i++) w->acts[i] = memory + at[i];
    float **places[] = {&w->q, &w->k, &w->v, &w->attended, &w->gate, &w->up, &w->projected};
    for (int i = 0; i < 7; i++) *places[i] = (float *)(void *)(memory + at[2 * FORMS + i]);
    w->threads = memory + at[2 * FORMS + 7];
    return 0;
}

static int grow(void **place, size_t count, size_t size) {
    free(*place);
    *place = aligned_alloc(LINE, lines(count * size));
    if (*place) return 0;
    return FAIL(SYN_E_MEMORY, "no memory for %zu rows", count);
}

int syn_rows_reserve(syn_model *m, int64_t rows) {
    const syn_model_config *c = &m->config;
    syn_rows *r = &m->rows;
    if (rows <= r->capacity) return 0;
    size_t n = ((size_t)rows + 63) / 64 * 64, spans = n / SPAN + 1;
    size_t angles = (size_t)(c->ropes * (c->head_dim / 2)) * n;
    r->capacity = 0; /* until all of it is there */
    int status = grow((void **)&r->x, n * (size_t)c->hidden, sizeof *r->x);
    if (!status) status = grow((void **)&r->cosine, 2 * angles, sizeof *r->cosine);
    if (!status) status = grow((void **)&r->tiles, 2 * n, sizeof *r->tiles);
    if (!status) status = grow((void **)&r->spans, spans, sizeof *r->spans);
    if (status) return status;
    r->sine = r->cosine + angles;
    r->capacity = (int64_t)n;
    return 0;
}
