/* SPDX-License-Identifier: BUSL-1.1 */
/* The model in memory: weights by layer, the cache, and the rows on their way through. */
#ifndef SYN_MODEL_H
#define SYN_MODEL_H

#include "kv.h"
#include "matmul.h"
#include "ops.h"
#include "pool.h"

enum {
    SPAN = 128, /* rows that go through a layer together: they fit the second cache */
    TILE_ROWS = 48, /* query rows that share the loads of a block of keys and values */
    MAX_BATCH = 65536,
    FORMS = 3,
};

typedef struct syn_layer {
    syn_matrix *matrix[SYN_MODEL_EMBEDDING];
    const float *vector[SYN_MODEL_TENSORS]; /* NULL: the model has none */
    int64_t window;
    int rope;
} syn_layer;

/* Consecutive tokens of one sequence that attend together. */
typedef struct syn_tile {
    int64_t row, count; /* rows of the batch */
    int64_t out;        /* index of the first among the span's results */
} syn_tile;

/* Tiles of a span: [first, end) of a list. */
typedef struct syn_span {
    int64_t begin, end;           /* rows */
    int64_t wanted, wanted_end;   /* of the wanted rows */
    int64_t tiles, tiles_end;     /* for all layers but the last */
    int64_t last, last_end;       /* for the last layer: wanted rows alone */
    int alone;                    /* no row reads what another row of the span writes */
} syn_span;

/* Grown to the largest batch seen. */
typedef struct syn_rows {
    int64_t capacity;
    int shared;           /* a sequence reads a block that another one writes in this step */
    float *x;             /* [rows][hidden]: the residual */
    float *cosine, *sine; /* [ropes][rows][head_dim / 2] */
    syn_tile *tiles;      /* [2 rows] */
    syn_span *spans;
} syn_rows;

/* For SPAN rows. */
typedef struct syn_workspace {
    char *acts[2 * FORMS]; /* rows of activations in each form; see syn_acts_of */
    float *q, *k, *v;   /* [SPAN][heads or kv_heads * head_dim] */
    float *attended;    /* [SPAN][heads * head_dim] */
    float *gate, *up;   /* [SPAN][ffn] */
    float *projected;   /* [SPAN][hidden]: before a post norm */
    char *threads;      /* [threads] of thread_bytes: what follows, then the longest row */
    size_t gemm_bytes, attend_bytes, query_bytes, thread_bytes;
    void *memory;
    size_t bytes;
} syn_workspace;

struct syn_model {
    syn_model_config config; /* its pointers are our copies */
    syn_pool *pool;
    const syn_ops *ops;
    syn_layer *layers;
    syn_matrix *embedding, *output; /* output is NULL if tied */
    const float *output_norm;
    syn_kv kv;
    syn_rows rows;
    syn_workspace work;
    int32_t *writers; /* [kv_blocks]: who writes the block in this step, see batch.c */
    int ready;
};

/* The form in which rows meet a matrix of layer `tensor`s (model.c). */
int syn_model_form(const syn_model *model, int tensor, const syn_matrix *matrix);

/* Inputs of O and DOWN have rows of their own: they are made while those of others are in use. */
static inline int syn_acts_of(int tensor, int form) {
    return tensor == SYN_MODEL_O || tensor == SYN_MODEL_DOWN ? FORMS + form : form;
}

/* Every index of the batch is checked here, and nowhere after. */
int syn_batch_check(syn_model *model, const syn_batch *batch);

/* The spans and tiles of a batch. Returns the number of spans. */
int syn_batch_plan(syn_model *model, const syn_batch *batch);

int syn_workspace_new(syn_model *model);

/* Room for a batch of `rows`. */
int syn_rows_reserve(syn_model *model, int64_t rows);

#endif
