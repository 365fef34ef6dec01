/* SPDX-License-Identifier: BUSL-1.1 */
/* One pass of an encoder.
 *
 * Sequences are taken in groups of about ROWS tokens, so that a pass's activations stay in the
 * caches. In a group every phase is shared out between the threads: matrix products by panels of
 * outputs, attention by (sequence, head), all else by rows. No result depends on the share, nor on
 * what else is in the group: each row has its own order of additions. */
#include "encoder.h"

#include <math.h>
#include <stdlib.h>

#define ROWS 256

/* A group on its way. Rows are tokens, `wide` and `ffn_wide` floats apart. */
typedef struct {
    const syn_encoder *e;
    const syn_encoder_kernels *kernels;
    syn_pool *pool;
    int isa;
    const int32_t *tokens;
    const int64_t *offsets; /* of the group's sequences, into tokens */
    int64_t sequences, rows, longest;
    int64_t wide, ffn_wide;
    float *x;        /* [rows, wide] */
    float *qkv[3];   /* [rows, wide] each; the first becomes the heads' answers */
    float *ffn;      /* [rows, ffn_wide] */
    float *own;      /* per thread: scratch of gemm, room of attention */
    int64_t own_floats, scratch_floats;
    float *out; /* [sequences, hidden] */
} Pass;

static float *own_of(const Pass *p, int thread) { return p->own + thread * p->own_floats; }

/* --- phases; each takes thread t of n ------------------------------------------------------- */

static void table_row(const syn_encoder_table *table, int64_t row, int64_t width, float *out) {
    syn_dequantise(table->type, table->data + row * table->row_bytes, (uint64_t)table->row_bytes,
                   1, width, out);
}

/* The sequence that row `row` of the group belongs to, looking from `from` on. */
static int64_t sequence_of(const Pass *p, int64_t row, int64_t from) {
    while (p->offsets[from + 1] - p->offsets[0] <= row) from++;
    return from;
}

static void embed(Pass *p, int t, int n) {
    const syn_encoder *e = p->e;
    int64_t begin, end, sequence = 0, width = e->config.hidden;
    float *part = own_of(p, t);
    syn_share(p->rows, t, n, &begin, &end);
    for (int64_t row = begin; row < end; row++) {
        float *x = p->x + row * p->wide;
        sequence = sequence_of(p, row, sequence);
        table_row(&e->tables[SYN_ENCODER_WORDS], p->tokens[p->offsets[0] + row], width, x);
        table_row(&e->tables[SYN_ENCODER_TYPES], 0, width, part);
        for (int64_t i = 0; i < width; i++) x[i] += part[i];
        int64_t position = row - (p->offsets[sequence] - p->offsets[0]);
        table_row(&e->tables[SYN_ENCODER_POSITIONS], position, width, part);
        for (int64_t i = 0; i < width; i++) x[i] += part[i];
    }
    p->kernels->norm(p->x + begin * p->wide, end - begin, p->wide, width, e->norm, e->norm_bias,
                     e->config.eps);
}

/* out[:, panels p0..p1] = (keep ? out : 0) + bias + x W^T */
static void linear(Pass *p, int t, const syn_encoder_layer *layer, int tensor, const float *x,
                   float *out, int64_t stride, int64_t p0, int64_t p1, int keep) {
    const syn_matrix *w = syn_encoder_matrix(layer, tensor);
    const float *bias =
        syn_encoder_vector(layer, tensor - SYN_ENCODER_QUERY + SYN_ENCODER_QUERY_BIAS);
    int64_t n0 = p0 * SYN_PANEL, n1 = p1 * SYN_PANEL, outputs = syn_matrix_rows(w);
    if (n1 > outputs) n1 = outputs;
    for (int64_t row = 0; row < p->rows; row++) {
        float *to = out + row * stride;
        for (int64_t i = n0; i < n1; i++) to[i] = keep ? to[i] + bias[i] : bias[i];
    }
    syn_gemm(p->isa, w, SYN_ACT_F32, x, p->rows, out, stride, p0, p1, 1, own_of(p, t));
}

static void query_key_value(Pass *p, const syn_encoder_layer *layer, int t, int n) {
    int64_t panels = syn_matrix_panels(layer->matrices[0]), begin, end;
    syn_share(3 * panels, t, n, &begin, &end);
    for (int i = 0; i < 3; i++) {
        int64_t p0 = begin - i * panels, p1 = end - i * panels;
        if (p0 < 0) p0 = 0;
        if (p1 > panels) p1 = panels;
        if (p0 < p1)
            linear(p, t, layer, SYN_ENCODER_QUERY + i, p->x, p->qkv[i], p->wide, p0, p1, 0);
    }
}

static void attention(Pass *p, int t, int n) {
    int64_t heads = p->e->config.heads, width = p->e->config.hidden / heads, begin, end;
    float scale = 1.0f / sqrtf((float)width);
    syn_share(p->sequences * heads, t, n, &begin, &end);
    for (int64_t task = begin; task < end; task++) {
        int64_t sequence = task / heads, first = p->offsets[sequence];
        int64_t at = (first - p->offsets[0]) * p->wide + task % heads * width;
        p->kernels->attend(p->qkv[0] + at, p->qkv[1] + at, p->qkv[2] + at, p->qkv[0] + at,
                           p->offsets[sequence + 1] - first, p->wide, width, scale,
                           own_of(p, t) + p->scratch_floats);
    }
}

static void project(Pass *p, const syn_encoder_layer *layer, int t, int n) {
    int64_t begin, end;
    syn_share(syn_matrix_panels(syn_encoder_matrix(layer, SYN_ENCODER_PROJECTION)), t, n, &begin,
              &end);
    linear(p, t, layer, SYN_ENCODER_PROJECTION, p->qkv[0], p->x, p->wide, begin, end, 1);
}

static void up(Pass *p, const syn_encoder_layer *layer, int t, int n) {
    int64_t begin, end;
    syn_share(syn_matrix_panels(syn_encoder_matrix(layer, SYN_ENCODER_UP)), t, n, &begin, &end);
    linear(p, t, layer, SYN_ENCODER_UP, p->x, p->ffn, p->ffn_wide, begin, end, 0);
    int64_t n0 = begin * SYN_PANEL, n1 = end * SYN_PANEL, ffn = p->e->config.ffn;
    if (n1 > ffn) n1 = ffn;
    p->kernels->gelu(p->ffn + n0, p->rows, p->ffn_wide, n1 - n0);
}

static void down(Pass *p, const syn_encoder_layer *layer, int t, int n) {
    int64_t begin, end;
    syn_share(syn_matrix_panels(syn_encoder_matrix(layer, SYN_ENCODER_DOWN)), t, n, &begin, &end);
    linear(p, t, layer, SYN_ENCODER_DOWN, p->ffn, p->x, p->wide, begin, end, 1);
}

static void norm(Pass *p, const syn_encoder_layer *layer, int tensor, int t, int n) {
    int64_t begin, end;
    syn_share(p->rows, t, n, &begin, &end);
    p->kernels->norm(p->x + begin * p->wide, end - begin, p->wide, p->e->config.hidden,
                     syn_encoder_vector(layer, tensor), syn_encoder_vector(layer, tensor + 1),
                     p->e->config.eps);
}

static void pool_tokens(Pass *p, int t, int n) {
    const syn_encoder_config *c = &p->e->config;
    int64_t begin, end;
    syn_share(p->sequences, t, n, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        const float *x = p->x + (p->offsets[i] - p->offsets[0]) * p->wide;
        int64_t rows = c->pooling == SYN_POOLING_MEAN ? p->offsets[i + 1] - p->offsets[i] : 1;
        float *out = p->out + i * c->hidden;
        p->kernels->mean(x, rows, p->wide, c->hidden, out);
        if (c->norm) p->kernels->unit(out, c->hidden);
    }
}

/* --- the pass ------------------------------------------------------------------------------- */

static void block(Pass *p, const syn_encoder_layer *layer, int t, int n) {
    query_key_value(p, layer, t, n);
    syn_pool_barrier(p->pool);
    attention(p, t, n);
    syn_pool_barrier(p->pool);
    project(p, layer, t, n);
    syn_pool_barrier(p->pool);
    norm(p, layer, SYN_ENCODER_ATTENTION_NORM, t, n);
    syn_pool_barrier(p->pool);
    up(p, layer, t, n);
    syn_pool_barrier(p->pool);
    down(p, layer, t, n);
    syn_pool_barrier(p->pool);
    norm(p, layer, SYN_ENCODER_OUTPUT_NORM, t, n);
    syn_pool_barrier(p->pool);
}

static void work(void *arg, int t, int n) {
    Pass *p = arg;
    embed(p, t, n);
    syn_pool_barrier(p->pool);
    for (int64_t i = 0; i < p->e->config.layers; i++) block(p, &p->e->layers[i], t, n);
    pool_tokens(p, t, n);
}

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
        status = syn_pool_run(pool, work, &pass);
        offsets += pass.sequences;
        sequences -= pass.sequences;
        out += pass.sequences * e->config.hidden;
    }
    return status;
}
