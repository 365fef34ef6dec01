/* SPDX-License-Identifier: BUSL-1.1 */
/* Making a model: its configuration is checked, its tensors are bound. */
#include "model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SIZE ((int64_t)1 << 20)
#define MAX_CONTEXT ((int64_t)1 << 24)
#define MAX_LAYERS 4096

static int check_size(const char *what, int64_t n, int64_t limit, int64_t multiple) {
    if (n < 1 || n > limit)
        return FAIL(SYN_E_FORMAT, "%s is %lld: not between 1 and %lld", what, (long long)n,
                    (long long)limit);
    if (n % multiple)
        return FAIL(SYN_E_UNSUPPORTED, "%s is %lld: not a multiple of %lld", what, (long long)n,
                    (long long)multiple);
    return 0;
}

static int check_sizes(const syn_model_config *c) {
    const struct {
        const char *what;
        int64_t n, limit, multiple;
    } sizes[] = {
        {"the vocabulary", c->vocab, MAX_SIZE * 4, 1},
        {"the hidden size", c->hidden, MAX_SIZE, 16},
        {"the number of layers", c->layers, MAX_LAYERS, 1},
        {"the number of KV heads", c->kv_heads, 4096, 1},
        {"the number of heads", c->heads, 4096, 1},
        {"the head size", c->head_dim, 4096, 16},
        {"the feed-forward size", c->ffn, MAX_SIZE, 16},
        {"the context length", c->context, MAX_CONTEXT, 1},
        {"the number of KV blocks", c->kv_blocks, INT32_MAX, 1},
        {"the number of ropes", c->ropes, 16, 1},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int status =
            check_size(sizes[i].what, sizes[i].n, sizes[i].limit, sizes[i].multiple);
        if (status) return status;
    }
    if (c->heads % c->kv_heads)
        return FAIL(SYN_E_FORMAT, "%lld heads cannot share %lld KV heads", (long long)c->heads,
                    (long long)c->kv_heads);
    return 0;
}

static int check_choices(const syn_model_config *c) {
    if (c->activation != SYN_SILU && c->activation != SYN_GELU_TANH)
        return FAIL(SYN_E_ARGUMENT, "activation %d is unknown", c->activation);
    if (c->precision < SYN_MIXED || c->precision > SYN_TWELVE)
        return FAIL(SYN_E_ARGUMENT, "precision %d is unknown", c->precision);
    if (c->kv_type < SYN_KV_BF16 || c->kv_type > SYN_KV_F32)
        return FAIL(SYN_E_ARGUMENT, "KV type %d is unknown", c->kv_type);
    if (!syn_isa_available(c->isa))
        return FAIL(SYN_E_UNSUPPORTED, "this machine lacks instruction set %d", c->isa);
    if (!(c->norm_eps >= 0) || !isfinite(c->embedding_scale) || !isfinite(c->attention_scale) ||
        !(c->logit_softcap >= 0))
        return FAIL(SYN_E_FORMAT, "a scale of the configuration is not a sensible number");
    for (int64_t i = 0; i < c->layers; i++) {
        if (c->windows[i] < 0 || c->rope_of_layer[i] < 0 || c->rope_of_layer[i] >= c->ropes)
            return FAIL(SYN_E_FORMAT, "layer %lld has window %d and rope %d", (long long)i,
                        c->windows[i], c->rope_of_layer[i]);
    }
    return 0;
}

static void *copy_of(const void *from, size_t bytes) {
    void *copy = malloc(bytes);
    return copy ? memcpy(copy, from, bytes) : NULL;
}

static int allocate(syn_model *m) {
    syn_model_config *c = &m->config;
    m->layers = calloc((size_t)c->layers, sizeof *m->layers);
    m->writers = calloc((size_t)c->kv_blocks, sizeof *m->writers);
    c->frequencies = copy_of(
        c->frequencies, (size_t)(c->ropes * (c->head_dim / 2)) * sizeof *c->frequencies);
    c->interleaved = copy_of(c->interleaved, (size_t)c->ropes * sizeof *c->interleaved);
    if (!m->layers || !m->writers || !c->frequencies || !c->interleaved)
        return FAIL(SYN_E_MEMORY, "no memory for a model of %lld layers", (long long)c->layers);
    for (int64_t i = 0; i < c->layers; i++) {
        m->layers[i].window = c->windows[i];
        m->layers[i].rope = c->rope_of_layer[i];
    }
    c->windows = c->rope_of_layer = NULL;
    return syn_kv_new(&m->kv, c->kv_type, c->layers, c->kv_blocks, c->kv_heads, c->head_dim);
}

int syn_model_new(syn_model **out, const syn_model_config *config, syn_pool *pool) {
    int status = check_sizes(config);
    if (!status) status = check_choices(config);
    if (status) return status;
    syn_model *m = calloc(1, sizeof *m);
    if (!m) return FAIL(SYN_E_MEMORY, "no memory for a model");
    m->config = *config;
    m->pool = pool;
    m->ops = syn_ops_for(config->isa);
    status = allocate(m);
    if (status) {
        syn_model_free(m);
        return status;
    }
    *out = m;
    return 0;
}

void syn_model_free(syn_model *m) {
    if (!m) return;
    for (int64_t i = 0; m->layers && i < m->config.layers; i++) {
        for (int t = 0; t < SYN_MODEL_EMBEDDING; t++) syn_matrix_free(m->layers[i].matrix[t]);
    }
    syn_matrix_free(m->embedding);
    syn_matrix_free(m->output);
    syn_kv_free(&m->kv);
    free((void *)m->config.frequencies);
    free((void *)m->config.interleaved);
    free(m->layers);
    free(m->writers);
    free(m->rows.x);
    free(m->rows.cosine);
    free(m->rows.tiles);
    free(m->rows.spans);
    free(m->work.memory);
    free(m);
}

static int shape(const syn_model_config *c, int tensor, int64_t *rows, int64_t *columns) {
    int64_t queries = c->heads * c->head_dim, keys = c->kv_heads * c->head_dim;
    const int64_t shapes[SYN_MODEL_TENSORS][2] = {
        [SYN_MODEL_Q] = {queries, c->hidden},
        [SYN_MODEL_K] = {keys, c->hidden},
        [SYN_MODEL_V] = {keys, c->hidden},
        [SYN_MODEL_O] = {c->hidden, queries},
        [SYN_MODEL_GATE] = {c->ffn, c->hidden},
        [SYN_MODEL_UP] = {c->ffn, c->hidden},
        [SYN_MODEL_DOWN] = {c->hidden, c->ffn},
        [SYN_MODEL_EMBEDDING] = {c->vocab, c->hidden},
        [SYN_MODEL_OUTPUT] = {c->vocab, c->hidden},
        [SYN_MODEL_OUTPUT_NORM] = {1, c->hidden},
        [SYN_MODEL_ATTN_NORM] = {1, c->hidden},
        [SYN_MODEL_FFN_NORM] = {1, c->hidden},
        [SYN_MODEL_Q_BIAS] = {1, queries},
        [SYN_MODEL_K_BIAS] = {1, keys},
        [SYN_MODEL_V_BIAS] = {1, keys},
        [SYN_MODEL_Q_NORM] = {1, c->head_dim},
        [SYN_MODEL_K_NORM] = {1, c->head_dim},
        [SYN_MODEL_POST_ATTN_NORM] = {1, c->hidden},
        [SYN_MODEL_POST_FFN_NORM] = {1, c->hidden},
    };
    if (tensor < 0 || tensor >= SYN_MODEL_TENSORS)
        return FAIL(SYN_E_ARGUMENT, "there is no tensor %d", tensor);
    *rows = shapes[tensor][0];
    *columns = shapes[tensor][1];
    return 0;
}

int syn_model_shape(const syn_model *m, int tensor, int64_t *rows, int64_t *columns) {
    return shape(&m->config, tensor, rows, columns);
}

static syn_matrix **matrix_place(syn_model *m, int tensor, int64_t layer) {
    if (tensor == SYN_MODEL_EMBEDDING) return &m->embedding;
    if (tensor == SYN_MODEL_OUTPUT) return &m->output;
    return &m->layers[layer].matrix[tensor];
}

static int bind_vector(syn_model *m, int tensor, int64_t layer, int type, const void *data,
                       uint64_t bytes, int64_t n) {
    if (type != SYN_F32 || bytes < (uint64_t)n * sizeof(float))
        return FAIL(SYN_E_ARGUMENT, "tensor %d must be %lld float32 numbers", tensor, (long long)n);
    if (tensor == SYN_MODEL_OUTPUT_NORM)
        m->output_norm = data;
    else
        m->layers[layer].vector[tensor] = data;
    return 0;
}

int syn_model_bind(syn_model *m, int tensor, int64_t layer, int type, const void *packed,
                   uint64_t bytes) {
    int64_t rows, columns;
    int status = syn_model_shape(m, tensor, &rows, &columns);
    if (status) return status;
    if (layer < 0 || layer >= m->config.layers)
        return FAIL(SYN_E_ARGUMENT, "there is no layer %lld", (long long)layer);
    if (m->ready) return FAIL(SYN_E_ARGUMENT, "the model is already at work");
    if (tensor >= SYN_MODEL_MATRICES)
        return bind_vector(m, tensor, layer, type, packed, bytes, columns);
    syn_matrix *matrix;
    status = syn_matrix_view(&matrix, type, rows, columns, packed, bytes);
    if (status) return status;
    syn_matrix **place = matrix_place(m, tensor, layer);
    syn_matrix_free(*place);
    *place = matrix;
    return 0;
}

int syn_model_form(const syn_model *m, int tensor, const syn_matrix *matrix) {
    int attention = tensor <= SYN_MODEL_V;
    int twelve = m->config.precision == SYN_TWELVE ||
                 (m->config.precision == SYN_MIXED && attention);
    return syn_matrix_form(matrix, twelve ? SYN_ACT_16 : SYN_ACT_8);
}

int64_t syn_model_kv_bytes(const syn_model *m) { return (int64_t)m->kv.bytes; }
