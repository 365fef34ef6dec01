/* SPDX-License-Identifier: BUSL-1.1 */
/* An encoder's weights: sizes checked, matrices packed, vectors as floats. */
#include "encoder.h"

#include <stdlib.h>
#include <string.h>

#define TYPE_F32 0
#define TYPE_F16 1
#define TYPE_BF16 30

/* Far above any model, far below where a product of two could overflow. */
#define MOST (INT64_C(1) << 28)

static int check_sizes(const syn_encoder_config *c) {
    const int64_t sizes[] = {c->words, c->positions, c->types, c->hidden, c->layers, c->heads,
                             c->ffn};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (sizes[i] < 1 || sizes[i] > MOST)
            return FAIL(SYN_E_ARGUMENT, "a size of %lld is not possible", (long long)sizes[i]);
    if (c->layers > 4096) return FAIL(SYN_E_ARGUMENT, "%lld layers", (long long)c->layers);
    if (c->hidden % c->heads)
        return FAIL(SYN_E_ARGUMENT, "%lld heads do not divide a width of %lld",
                    (long long)c->heads, (long long)c->hidden);
    if (!(c->eps >= 0.0f)) return FAIL(SYN_E_ARGUMENT, "eps is negative or no number");
    if (c->pooling != SYN_POOLING_MEAN && c->pooling != SYN_POOLING_CLS)
        return FAIL(SYN_E_ARGUMENT, "pooling %d is unknown", c->pooling);
    return SYN_OK;
}

int syn_encoder_new(syn_encoder **out, const syn_encoder_config *config) {
    *out = NULL;
    int status = check_sizes(config);
    if (status < 0) return status;
    syn_encoder *e = calloc(1, sizeof *e);
    if (!e) return FAIL(SYN_E_MEMORY, "no memory for an encoder");
    e->config = *config;
    e->layers = calloc((size_t)config->layers, sizeof *e->layers);
    if (!e->layers) {
        free(e);
        return FAIL(SYN_E_MEMORY, "no memory for %lld layers", (long long)config->layers);
    }
    *out = e;
    return SYN_OK;
}

static void free_layer(syn_encoder_layer *layer) {
    for (int i = 0; i < SYN_ENCODER_MATRICES; i++) {
        syn_matrix_free(layer->matrices[i]);
        free(layer->packed[i]);
    }
    for (int i = 0; i < SYN_ENCODER_VECTORS; i++) free(layer->vectors[i]);
}

void syn_encoder_free(syn_encoder *e) {
    if (!e) return;
    for (int64_t i = 0; i < e->config.layers; i++) free_layer(&e->layers[i]);
    free(e->layers);
    free(e->norm);
    free(e->norm_bias);
    free(e->work);
    free(e);
}

static void shape_of_matrix(const syn_encoder_config *c, int tensor, int64_t *rows,
                            int64_t *columns) {
    *rows = tensor == SYN_ENCODER_UP ? c->ffn : c->hidden;
    *columns = tensor == SYN_ENCODER_DOWN ? c->ffn : c->hidden;
}

int syn_encoder_shape(const syn_encoder_config *c, int tensor, int64_t *rows, int64_t *columns) {
    *rows = 1;
    *columns = tensor == SYN_ENCODER_UP_BIAS ? c->ffn : c->hidden;
    if (tensor == SYN_ENCODER_WORDS)
        *rows = c->words;
    else if (tensor == SYN_ENCODER_POSITIONS)
        *rows = c->positions;
    else if (tensor == SYN_ENCODER_TYPES)
        *rows = c->types;
    else if (tensor >= SYN_ENCODER_QUERY && tensor <= SYN_ENCODER_DOWN)
        shape_of_matrix(c, tensor, rows, columns);
    else if (tensor < 0 || tensor >= SYN_ENCODER_TENSORS)
        return FAIL(SYN_E_ARGUMENT, "an encoder has no tensor %d", tensor);
    return SYN_OK;
}

static int set_table(syn_encoder_table *table, int type, const void *data, int64_t row_bytes) {
    *table = (syn_encoder_table){data, row_bytes, type};
    return SYN_OK;
}

static int set_vector(float **slot, int type, const void *data, uint64_t bytes, int64_t columns) {
    if (!*slot) *slot = malloc((size_t)columns * sizeof **slot);
    if (!*slot) return FAIL(SYN_E_MEMORY, "no memory for %lld numbers", (long long)columns);
    return syn_dequantise(type, data, bytes, 1, columns, *slot);
}

static int set_matrix(syn_encoder_layer *layer, int index, int type, const void *data,
                      uint64_t bytes, int64_t rows, int64_t columns) {
    int64_t size = syn_packed_bytes(type, rows, columns);
    if (size < 0) return (int)size;
    void *packed = aligned_alloc(64, (size_t)size);
    if (!packed) return FAIL(SYN_E_MEMORY, "no memory for a matrix of %lld bytes", (long long)size);
    syn_matrix *matrix = NULL;
    int status = syn_pack(type, data, bytes, rows, columns, 0, rows, packed);
    if (status >= 0)
        status = syn_matrix_view(&matrix, type, rows, columns, packed, (uint64_t)size);
    if (status < 0) {
        free(packed);
        return status;
    }
    syn_matrix_free(layer->matrices[index]);
    free(layer->packed[index]);
    layer->matrices[index] = matrix;
    layer->packed[index] = packed;
    return SYN_OK;
}

int syn_encoder_set(syn_encoder *e, int tensor, int64_t layer, int type, const void *data,
                    uint64_t bytes) {
    int64_t rows, columns;
    int status = syn_encoder_shape(&e->config, tensor, &rows, &columns);
    if (status < 0) return status;
    if (type != TYPE_F32 && type != TYPE_F16 && type != TYPE_BF16)
        return FAIL(SYN_E_UNSUPPORTED, "an encoder's tensors are floats, not of type %d", type);
    if (tensor >= SYN_ENCODER_QUERY && (layer < 0 || layer >= e->config.layers))
        return FAIL(SYN_E_ARGUMENT, "there is no layer %lld", (long long)layer);
    int64_t row_bytes = columns * (type == TYPE_F32 ? 4 : 2);
    if ((uint64_t)(rows * row_bytes) != bytes)
        return FAIL(SYN_E_ARGUMENT, "tensor %d has %llu bytes instead of %lld", tensor,
                    (unsigned long long)bytes, (long long)(rows * row_bytes));
    if (tensor <= SYN_ENCODER_TYPES) return set_table(&e->tables[tensor], type, data, row_bytes);
    if (tensor == SYN_ENCODER_NORM) return set_vector(&e->norm, type, data, bytes, columns);
    if (tensor == SYN_ENCODER_NORM_BIAS)
        return set_vector(&e->norm_bias, type, data, bytes, columns);
    syn_encoder_layer *at = &e->layers[layer];
    if (tensor >= SYN_ENCODER_QUERY_BIAS)
        return set_vector(&at->vectors[tensor - SYN_ENCODER_QUERY_BIAS], type, data, bytes,
                          columns);
    return set_matrix(at, tensor - SYN_ENCODER_QUERY, type, data, bytes, rows, columns);
}
