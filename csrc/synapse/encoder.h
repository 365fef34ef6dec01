/* SPDX-License-Identifier: BUSL-1.1 */
#ifndef SYN_ENCODER_H
#define SYN_ENCODER_H

#include "encoder_kernels.h"
#include "matmul.h"
#include "pool.h"
#include "synapse/encoder_api.h"

#define SYN_ENCODER_MATRICES (SYN_ENCODER_DOWN - SYN_ENCODER_QUERY + 1)
#define SYN_ENCODER_VECTORS (SYN_ENCODER_TENSORS - SYN_ENCODER_QUERY_BIAS)

/* A table of rows that stay in the caller's memory, in their own type. */
typedef struct {
    const char *data;
    int64_t row_bytes;
    int type;
} syn_encoder_table;

typedef struct {
    void *packed[SYN_ENCODER_MATRICES];
    syn_matrix *matrices[SYN_ENCODER_MATRICES]; /* QUERY .. DOWN */
    float *vectors[SYN_ENCODER_VECTORS];        /* QUERY_BIAS .. OUTPUT_NORM_BIAS */
} syn_encoder_layer;

struct syn_encoder {
    syn_encoder_config config;
    syn_encoder_table tables[3];
    float *norm, *norm_bias;
    syn_encoder_layer *layers;
    float *work; /* for a pass: grows when a longer one comes */
    int64_t work_floats;
};

static inline const float *syn_encoder_vector(const syn_encoder_layer *layer, int tensor) {
    return layer->vectors[tensor - SYN_ENCODER_QUERY_BIAS];
}

static inline const syn_matrix *syn_encoder_matrix(const syn_encoder_layer *layer, int tensor) {
    return layer->matrices[tensor - SYN_ENCODER_QUERY];
}

#endif
