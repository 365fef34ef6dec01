/* SPDX-License-Identifier: BUSL-1.1 */
/* Attention of some consecutive positions of one sequence, for one KV head and the query heads
 * that share it.
 *
 * A row (one query head at one position) walks the blocks of 32 absolute positions it can see,
 * in order, with an online softmax: what it computes depends on its position and its sequence,
 * not on the rows beside it, nor on when the keys and values came into the cache. */
#ifndef SYN_ATTENTION_H
#define SYN_ATTENTION_H

#include "kv.h"

typedef struct syn_attention {
    const syn_kv *kv;
    int64_t layer, head;   /* which KV head */
    const int32_t *table;  /* the sequence's blocks */
    int64_t position;      /* of the first token */
    int64_t tokens, group; /* query heads per KV head; row = token * group + query head */
    int64_t window;        /* how many positions a row sees, itself included; 0: all */
    const float *queries;  /* [tokens * group][head_dim], already scaled */
    float *out;            /* token t, query head g: out + t * stride + g * head_dim */
    int64_t stride;
    float *scratch; /* syn_attention_scratch() floats */
} syn_attention;

static inline int64_t syn_attention_scratch(int64_t rows) { return rows * (BLOCK + 16 + 4); }

/* The first position that a token at `position` sees. */
static inline int64_t attention_start(const syn_attention *a, int64_t position) {
    return a->window && position >= a->window ? position - a->window + 1 : 0;
}

/* Bit j: position 32 block + j is seen from `position`. */
static inline uint32_t attention_mask(const syn_attention *a, int64_t position, int64_t block) {
    int64_t from = attention_start(a, position) - block * BLOCK, to = position - block * BLOCK;
    uint32_t mask = ~(uint32_t)0;
    if (from > 0) mask &= ~(uint32_t)0 << from;
    if (to < BLOCK - 1) mask &= ~(~(uint32_t)0 << (to + 1));
    return mask;
}

void syn_attend_reference(const syn_attention *a);
#if defined(__x86_64__)
void syn_attend_avx2(const syn_attention *a);
void syn_attend_avx512(const syn_attention *a);
#endif

#endif
