/* SPDX-License-Identifier: BUSL-1.1 */
/* A BERT encoder: token ids in, one vector per sequence out.
 *
 * Post-norm blocks, absolute positions, exact GELU; every sequence attends to all of itself and
 * to nothing else, and none is padded. A sequence's vector has the same bits alone, in any batch,
 * with any number of threads and on every instruction set. */

struct syn_pool;
typedef struct syn_encoder syn_encoder;

enum syn_pooling {
    SYN_POOLING_MEAN = 0, /* of all tokens' vectors */
    SYN_POOLING_CLS = 1,  /* the first token's vector */
};

/* Sizes are counts of elements; `norm` asks for vectors of Euclidean length 1. */
typedef struct {
    int64_t words, positions, types;
    int64_t hidden, layers, heads, ffn;
    float eps;
    int pooling, norm;
} syn_encoder_config;

/* Linear maps have the shape [outputs, inputs]. From QUERY on a tensor belongs to one layer. */
enum syn_encoder_tensor {
    SYN_ENCODER_WORDS = 0,     /* [words, hidden] */
    SYN_ENCODER_POSITIONS = 1, /* [positions, hidden] */
    SYN_ENCODER_TYPES = 2,     /* [types, hidden]; the first row alone is used */
    SYN_ENCODER_NORM = 3,      /* [hidden] */
    SYN_ENCODER_NORM_BIAS = 4,
    SYN_ENCODER_QUERY = 5, /* [hidden, hidden] */
    SYN_ENCODER_KEY = 6,
    SYN_ENCODER_VALUE = 7,
    SYN_ENCODER_PROJECTION = 8,
    SYN_ENCODER_UP = 9,          /* [ffn, hidden] */
    SYN_ENCODER_DOWN = 10,       /* [hidden, ffn] */
    SYN_ENCODER_QUERY_BIAS = 11, /* [hidden], as all that follow but UP_BIAS, [ffn] */
    SYN_ENCODER_KEY_BIAS = 12,
    SYN_ENCODER_VALUE_BIAS = 13,
    SYN_ENCODER_PROJECTION_BIAS = 14,
    SYN_ENCODER_UP_BIAS = 15,
    SYN_ENCODER_DOWN_BIAS = 16,
    SYN_ENCODER_ATTENTION_NORM = 17,
    SYN_ENCODER_ATTENTION_NORM_BIAS = 18,
    SYN_ENCODER_OUTPUT_NORM = 19,
    SYN_ENCODER_OUTPUT_NORM_BIAS = 20,
    SYN_ENCODER_TENSORS = 21,
};

int syn_encoder_new(syn_encoder **out, const syn_encoder_config *config);
void syn_encoder_free(syn_encoder *encoder);

/* The shape that `config` gives a tensor; rows is 1 for a vector. */
int syn_encoder_shape(const syn_encoder_config *config, int tensor, int64_t *rows,
                      int64_t *columns);

/* Take a tensor in. `type` is F32, F16 or BF16 by GGUF's numbers. The three tables are read where
 * they lie for as long as the encoder lives; all others are copied. */
int syn_encoder_set(syn_encoder *encoder, int tensor, int64_t layer, int type, const void *data,
                    uint64_t bytes);

/* Embed `sequences` sequences; sequence i is tokens[offsets[i]] .. tokens[offsets[i + 1] - 1].
 *
 * out: [sequences, hidden]. One call at a time. */
int syn_encoder_run(syn_encoder *encoder, struct syn_pool *pool, int isa,
                    const int32_t *tokens, const int64_t *offsets, int64_t sequences, float *out);
