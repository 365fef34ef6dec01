/* SPDX-License-Identifier: BUSL-1.1 */
/* A group of sequences on its way through an encoder. */
#ifndef SYN_ENCODER_PASS_H
#define SYN_ENCODER_PASS_H

#include "encoder.h"

/* Rows are tokens, `wide` and `ffn_wide` floats apart. */
typedef struct {
    const syn_encoder *e;
    const syn_encoder_kernels *kernels;
    syn_pool *pool;
    int isa;
    const int32_t *tokens;
    const int64_t *offsets; /* of the group's sequences, into tokens */
    int64_t sequences, rows, longest;
    int64_t wide, ffn_wide;
    float *x;      /* [rows, wide] */
    float *qkv[3]; /* [rows, wide] each; the first becomes the heads' answers */
    float *ffn;    /* [rows, ffn_wide] */
    float *own;    /* per thread: scratch of gemm, room of attention */
    int64_t own_floats, scratch_floats;
    float *out; /* [sequences, hidden] */
} syn_encoder_pass;

/* Thread `thread` of `threads` takes its part of every phase. arg: a pass. */
void syn_encoder_forward(void *arg, int thread, int threads);

#endif
