/* SPDX-License-Identifier: BUSL-1.1 */
/* Sampling: from one row of logits to one token.
 *
 * A row's token depends on its logits, its parameters and (seed, position, choice) and on
 * nothing else: there is no state, so any worker draws the same token for it. */

struct syn_pool;

#define SYN_MAX_LOGPROBS 20

/* What a row's token may be when there is none. */
#define SYN_TOKEN_NOT_FINITE -1 /* a logit is NaN or infinite */
#define SYN_TOKEN_NONE_LEFT -2  /* mask and bans together forbid every token */

/* One sequence's wishes, in the order in which they are applied. */
typedef struct {
    const uint32_t *mask;    /* bit i % 32 of word i / 32: token i is allowed; NULL: all are */
    const int32_t *bias_ids; /* [biases]; added to the logits of these tokens */
    const float *bias;       /* [biases] */
    const int32_t *history;  /* the sequence's tokens, the prompt first */
    const int32_t *banned;   /* [banneds]; forbidden before min_tokens are generated */
    uint64_t seed;
    int32_t biases;
    int32_t banneds;
    int32_t prompt;            /* of the history, how much is the prompt */
    int32_t min_tokens;
    float repetition_penalty;  /* 1: none; over prompt and generated tokens */
    float presence_penalty;    /* 0: none; over generated tokens, as the next one */
    float frequency_penalty;
    float temperature;         /* 0: the most likely token, the lowest id among equals */
    int32_t top_k;             /* 0: all */
    float top_p;               /* 1: all */
    float min_p;               /* 0: all; relative to the most likely token */
    int32_t choice;            /* of several answers to one prompt */
    int32_t logprobs;          /* -1: none; else how many alternatives, to SYN_MAX_LOGPROBS */
} syn_sampling;

/* Bytes of scratch that a call needs for each thread; < 0: no such vocabulary. It is aligned to
 * 64, all zeros at the first call, and left alone between calls. */
int64_t syn_sample_scratch(int64_t vocab);

/* Draw a token for each row.
 *
 * logits: (rows, stride) f32, of which the first `vocab` of a row count; row r belongs to the
 * sequence params[slots[r]], whose history has lengths[slots[r]] tokens.
 * tokens: (rows) the token, or SYN_TOKEN_*.
 * logprobs: (rows) of the chosen token; top_ids, top_logprobs: (rows, SYN_MAX_LOGPROBS), the
 * most likely first. All are of the softmax of the logits as they came, and written only for
 * rows that ask. With a pool (which may be NULL) its threads share the rows. */
int syn_sample(int isa, const float *logits, int64_t stride, int64_t rows, int64_t vocab,
               const syn_sampling *params, const int32_t *slots, const int32_t *lengths,
               int32_t *tokens, float *logprobs, int32_t *top_ids, float *top_logprobs,
               void *scratch, struct syn_pool *pool);
