/* SPDX-License-Identifier: BUSL-1.1 */
/* What all phases of a forward pass see. */
#ifndef SYN_FORWARD_H
#define SYN_FORWARD_H

#include "model.h"
#include "quantise.h"

typedef struct syn_forward {
    syn_model *m;
    const syn_batch *b;
    float *logits, *states;
    int spans;
} syn_forward;

/* One thread's part in one layer of one span. */
typedef struct syn_step {
    const syn_forward *f;
    syn_model *m;
    int thread, threads;
    int64_t layer;
    const syn_span *span;
    int number; /* of the span */
    int last;   /* layer: from attention on, only wanted rows count */
    syn_seat seat;
} syn_step;

enum { MANY = 32 /* rows that make a phase long enough to be shared out in small pieces */ };

/* Take part in a phase that is `count` units of work for `rows` rows: [*begin, *end) is this
 * thread's next piece; 0: the phase is over for all. Short phases have a piece for each thread,
 * since a product of few rows takes longer in pieces; long ones have two, so that whoever was
 * descheduled leaves something to the others. */
static inline int step_next(syn_step *s, int64_t count, int64_t rows, int64_t *begin,
                            int64_t *end) {
    int64_t pieces = s->threads == 1 ? 1 : s->threads * (rows < MANY ? 1 : 2);
    if (pieces > count) pieces = count;
    int64_t piece = syn_pool_piece(s->m->pool, &s->seat, pieces);
    if (piece < 0) return 0;
    syn_share(count, piece, pieces, begin, end);
    return 1;
}

/* Row `row` of the activations of a tensor, from a column on that begins a block. */
static inline void *step_acts(const syn_step *s, int tensor, int form, int64_t columns,
                              int64_t row, int64_t column) {
    size_t size = form == SYN_ACT_8 ? sizeof(syn_act8) : sizeof(syn_act16);
    size_t at = form == SYN_ACT_F32 ? (size_t)column * sizeof(float)
                                    : (size_t)(column / SYN_BLOCK) * size;
    char *rows = s->m->work.acts[syn_acts_of(tensor, form)];
    return rows + (size_t)row * syn_act_bytes(form, columns) + at;
}

/* This thread's memory. */
static inline char *step_gemm(const syn_step *s) {
    return s->m->work.threads + (size_t)s->thread * s->m->work.thread_bytes;
}
static inline float *step_attend(const syn_step *s) {
    return (float *)(void *)(step_gemm(s) + s->m->work.gemm_bytes);
}
static inline float *step_queries(const syn_step *s) {
    return (float *)(void *)(step_gemm(s) + s->m->work.gemm_bytes + s->m->work.attend_bytes);
}
static inline float *step_row(const syn_step *s) {
    return (float *)(void *)((char *)step_queries(s) + s->m->work.query_bytes);
}

/* Where a row's cosines and sines for the layer's rope begin. */
static inline int64_t step_angles(const syn_step *s, int64_t row) {
    return (s->m->layers[s->layer].rope * s->f->b->rows + row) * (s->m->config.head_dim / 2);
}

static inline char *row_unit(const syn_step *s, int64_t row, int64_t head) {
    const syn_batch *b = s->f->b;
    const int32_t *table = b->tables + (int64_t)b->sequences[row] * b->tables_columns;
    return kv_unit(&s->m->kv, s->layer, table[b->positions[row] / BLOCK], head);
}

/* forward_attention.c: keys and values of the span go to the cache; then its tiles attend, and
 * what they saw becomes activations of the output projection. */
void syn_step_store(syn_step *s);
void syn_step_attend(syn_step *s);

#endif
