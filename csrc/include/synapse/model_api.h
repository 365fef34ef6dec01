/* SPDX-License-Identifier: BUSL-1.1 */
/* A decoder-only transformer over packed weights and a paged cache: tokens in, logits out.
 *
 * A row (a token at a position of a sequence) gives the same bits alone and in any batch, whether
 * it came with a long prompt or by itself, on every instruction set, with any number of threads. */

struct syn_pool;
typedef struct syn_model syn_model;

enum { SYN_KV_BLOCK = 32 /* positions of a block of the cache */ };

enum syn_kv_type { SYN_KV_BF16 = 0, SYN_KV_F16 = 1, SYN_KV_INT8 = 2, SYN_KV_F32 = 3 };

enum syn_activation { SYN_SILU = 0, SYN_GELU_TANH = 1 };

/* What activations become before they meet quantised weights. */
enum syn_precision {
    SYN_MIXED = 0,  /* 12 bits for q, k and v, 8 for all others */
    SYN_EIGHT = 1,  /* 8 bits for all */
    SYN_TWELVE = 2, /* 12 bits for all */
};

/* Counts of elements, but for the enums above. */
typedef struct {
    int64_t vocab, hidden, layers, heads, kv_heads, head_dim, ffn, context;
    float norm_eps, embedding_scale, attention_scale;
    float logit_softcap; /* 0: none */
    int activation, precision, kv_type, isa;
    int64_t kv_blocks;
    int64_t ropes;
    const float *frequencies;      /* [ropes][head_dim / 2] */
    const int32_t *interleaved;    /* [ropes] */
    const int32_t *windows;        /* [layers], 0: all */
    const int32_t *rope_of_layer;  /* [layers] */
} syn_model_config;

/* Matrices first; those up to DOWN and all vectors from ATTN_NORM on belong to a layer. */
enum syn_model_tensor {
    SYN_MODEL_Q = 0, /* [heads * head_dim, hidden] */
    SYN_MODEL_K = 1, /* [kv_heads * head_dim, hidden] */
    SYN_MODEL_V = 2,
    SYN_MODEL_O = 3,    /* [hidden, heads * head_dim] */
    SYN_MODEL_GATE = 4, /* [ffn, hidden] */
    SYN_MODEL_UP = 5,
    SYN_MODEL_DOWN = 6,      /* [hidden, ffn] */
    SYN_MODEL_EMBEDDING = 7, /* [vocab, hidden] */
    SYN_MODEL_OUTPUT = 8,    /* [vocab, hidden]; without it the embedding is used */
    SYN_MODEL_OUTPUT_NORM = 9,
    SYN_MODEL_ATTN_NORM = 10,
    SYN_MODEL_FFN_NORM = 11,
    SYN_MODEL_Q_BIAS = 12, /* this and all that follow may be absent */
    SYN_MODEL_K_BIAS = 13,
    SYN_MODEL_V_BIAS = 14,
    SYN_MODEL_Q_NORM = 15, /* [head_dim] */
    SYN_MODEL_K_NORM = 16,
    SYN_MODEL_POST_ATTN_NORM = 17,
    SYN_MODEL_POST_FFN_NORM = 18,
    SYN_MODEL_TENSORS = 19,
    SYN_MODEL_MATRICES = 9,
};

/* Checks the configuration and reserves the cache. The pool is borrowed. */
int syn_model_new(syn_model **out, const syn_model_config *config, struct syn_pool *pool);
void syn_model_free(syn_model *model);

/* The shape of a tensor; rows is 1 for a vector. */
int syn_model_shape(const syn_model *model, int tensor, int64_t *rows, int64_t *columns);

/* Use a tensor: a matrix in its packed form, or a vector of float32, at a multiple of 64. `layer`
 * is 0 for those that belong to none. The bytes must outlive the model. */
int syn_model_bind(syn_model *model, int tensor, int64_t layer, int type, const void *packed,
                   uint64_t bytes);

/* Bytes of the cache. */
int64_t syn_model_kv_bytes(const syn_model *model);

/* The rows of one step. Rows of a sequence are consecutive and their positions ascend by one. */
typedef struct {
    int64_t rows;
    const int32_t *tokens, *positions; /* [rows] */
    const int32_t *sequences;          /* [rows], index into tables */
    int64_t tables_rows, tables_columns;
    const int32_t *tables; /* [tables_rows][tables_columns]: block of each 32 positions */
    int64_t wanted_count;
    const int32_t *wanted; /* rows whose results are asked for, ascending */
} syn_batch;

/* Compute. logits: [wanted][vocab] or NULL; states (after the final norm): [wanted][hidden] or
 * NULL. A block that one sequence writes and another reads must be written by earlier rows. */
int syn_model_forward(syn_model *model, const syn_batch *batch, float *logits, float *states);

/* One tensor to pack: from the file's bytes into syn_packed_bytes at `packed`. */
typedef struct {
    int type;
    int64_t rows, columns;
    const void *data;
    uint64_t bytes;
    void *packed;
} syn_pack_job;

/* Pack tensors with all threads of the pool. */
int syn_pack_all(struct syn_pool *pool, const syn_pack_job *jobs, int64_t count);
