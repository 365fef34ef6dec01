/* SPDX-License-Identifier: BUSL-1.1 */
/* Running an encoder over a batch: input checked, memory found, sequences taken in groups of
 * about ROWS tokens, so that a pass's activations stay in the caches. */
#include <stdlib.h>

#include "encoder_pass.h"

#define ROWS 256

typedef syn_encoder_pass Pass;

/* --- memory --------------------------------------------------------------------------------- */

static int64_t scratch_floats(const syn_encoder *e) {
    size_t most = (size_t)syn_round16(e->config.hidden) * sizeof(float);
    for (int i = 0; i < SYN_ENCODER_MATRICES; i++) {
        size_t bytes = syn_gemm_scratch(e->layers[0].matrices[i]);
        if (bytes > most) most = bytes;
    }
    return syn_round16((int64_t)(most / sizeof(float)) + 1);
}

/* Where everything lies, for `rows` tokens in sequences of at most `longest`. */
static int64_t lay_out(Pass *p, float *work, int64_t rows, int64_t longest, int threads) {
    const syn_encoder_config *c = &p->e->config;
    p->wide = syn_round16(c->hidden);
    p->ffn_wide = syn_round16(c->ffn);
    p->scratch_floats = scratch_floats(p->e);
    p->own_floats =
        p->scratch_floats + syn_round16(syn_encoder_room(longest, c->hidden / c->heads));
    int64_t wide = rows * p->wide, own = threads * p->own_floats;
    if (work) {
        p->x = work;
        for (int i = 0; i < 3; i++) p->qkv[i] = work + (i + 1) * wide;
        p->ffn = work + 4 * wide;
        p->own = p->ffn + rows * p->ffn_wide;
    }
    return 4 * wide + rows * p->ffn_wide + own;
}

static int reserve(syn_encoder *e, int64_t floats) {
    if (floats <= e->work_floats) return SYN_OK;
    free(e->work);
    e->work_floats = 0;
    size_t bytes = (size_t)syn_round16(floats) * sizeof(float);
    e->work = aligned_alloc(64, bytes);
    if (!e->work) return FAIL(SYN_E_MEMORY, "no memory for a pass of %zu bytes", bytes);
    e->work_floats = floats;
    return SYN_OK;
}

/* --- checks --------------------------------------------------------------------------------- */

static int check_complete(const syn_encoder *e) {
    for (int i = 0; i < 3; i++)
        if (!e->tables[i].data) return FAIL(SYN_E_ARGUMENT, "tensor %d is missing", i);
    if (!e->norm || !e->norm_bias) return FAIL(SYN_E_ARGUMENT, "the first norm is missing");
    for (int64_t l = 0; l < e->config.layers; l++) {
        for (int i = SYN_ENCODER_QUERY; i < SYN_ENCODER_TENSORS; i++) {
            int there = i < SYN_ENCODER_QUERY_BIAS
                            ? syn_encoder_matrix(&e->layers[l], i) != NULL
                            : syn_encoder_vector(&e->layers[l], i) != NULL;
            if (!there)
                return FAIL(SYN_E_ARGUMENT, "tensor %d of layer %lld is missing", i, (long long)l);
        }
    }
    return SYN_OK;
}

static int check_tokens(const syn_encoder *e, const int32_t *tokens, const int64_t *offsets,
                        int64_t sequences) {
    if (sequences < 0 || offsets[0] < 0)
        return FAIL(SYN_E_ARGUMENT, "a negative number of sequences or first offset");
    for (int64_t i = 0; i < sequences; i++) {
        int64_t length = offsets[i + 1] - offsets[i];
        if (length < 1 || length > e->config.positions)
            return FAIL(SYN_E_ARGUMENT, "sequence %lld has %lld tokens, 1 to %lld are possible",
                        (long long)i, (long long)length, (long long)e->config.positions);
        for (int64_t j = offsets[i]; j < offsets[i + 1]; j++)
            if (tokens[j] < 0 || tokens[j] >= e->config.words)
                return FAIL(SYN_E_ARGUMENT, "sequence %lld has the token %d; there are %lld",
                            (long long)i, tokens[j], (long long)e->config.words);
    }
    return SYN_OK;
}

/* How many of the sequences make the next group; gives its rows and longest sequence. */
static int64_t next_group(const int64_t *offsets, int64_t sequences, int64_t *rows,
                          int64_t *longest) {
    int64_t count = 0;
    *rows = *longest = 0;
    while (count < sequences) {
        int64_t length = offsets[count + 1] - offsets[count];
        if (count && *rows + length > ROWS) break;
        *rows += length;
        if (length > *longest) *longest = length;
        count++;
    }
    return count;
}

int syn_encoder_run(syn_encoder *e, syn_pool *pool, int isa, const int32_t *tokens,
                    const int64_t *offsets, int64_t sequences, float *out) {
    int status = check_complete(e);
    if (status >= 0) status = check_tokens(e, tokens, offsets, sequences);
    if (status < 0) return status;
    if (!syn_isa_available(isa)) return FAIL(SYN_E_UNSUPPORTED, "instruction set %d", isa);
    Pass pass = {.e = e, .pool = pool, .isa = isa, .tokens = tokens};
    pass.kernels = syn_encoder_kernels_of(isa);
    int threads = syn_pool_threads(pool);
    while (sequences && status >= 0) {
        pass.sequences = next_group(offsets, sequences, &pass.rows, &pass.longest);
        pass.offsets = offsets;
        pass.out = out;
        status = reserve(e, lay_out(&pass, NULL, pass.rows, pass.longest, threads));
        if (status < 0) break;
        lay_out(&pass, e->work, pass.rows, pass.longest, threads);
        status = syn_pool_run(pool, syn_encoder_forward, &pass);
        offsets += pass.sequences;
        sequences -= pass.sequences;
        out += pass.sequences * e->config.hidden;
    }
    return status;
}
