/* SPDX-License-Identifier: BUSL-1.1 */
/* The paged cache of keys and values.
 *
 * A unit holds one KV head's keys and values of one layer for one block of 32 positions:
 * keys transposed [head_dim][32], so that 32 positions are the lanes of q.k, then values
 * [32][head_dim], so that head_dim are the lanes of p.v; for INT8 then the scales of the 32
 * keys and of the 32 values, one F32 each. */
#ifndef SYN_KV_H
#define SYN_KV_H

#include "base.h"
#include "synapse/model_api.h"

enum { BLOCK = SYN_KV_BLOCK };

typedef struct syn_kv {
    int type; /* syn_kv_type */
    int64_t layers, blocks, heads, head_dim;
    int64_t unit; /* bytes, a multiple of 64 */
    char *data;   /* [layers][blocks][heads] units */
    uint64_t bytes;
} syn_kv;

/* Memory of zeros; it is there once it is touched. */
int syn_kv_new(syn_kv *kv, int type, int64_t layers, int64_t blocks, int64_t heads,
               int64_t head_dim);
void syn_kv_free(syn_kv *kv);

static inline int64_t kv_element_bytes(int type) {
    return type == SYN_KV_F32 ? 4 : type == SYN_KV_INT8 ? 1 : 2;
}
static inline char *kv_unit(const syn_kv *kv, int64_t layer, int64_t block, int64_t head) {
    return kv->data + ((layer * kv->blocks + block) * kv->heads + head) * kv->unit;
}
static inline char *kv_values(const syn_kv *kv, char *unit) {
    return unit + BLOCK * kv->head_dim * kv_element_bytes(kv->type);
}
static inline float *kv_scales(const syn_kv *kv, char *unit) {
    return (float *)(void *)(unit + 2 * BLOCK * kv->head_dim * kv_element_bytes(kv->type));
}

/* Whoever takes a block into use clears it: what an earlier sequence left (an infinity, say)
 * must not reach a result, even times zero. */
void syn_kv_clear(const syn_kv *kv, int64_t layer, int64_t block);

#endif
