/* SPDX-License-Identifier: BUSL-1.1 */
/* The forward pass on a tiny model, for the sanitizers: every phase, several threads, rows in any
 * company, and batches that must be refused. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "model.h"
#include "random.h"

#define VOCAB 50
#define HIDDEN 48
#define LAYERS 2
#define HEADS 6
#define KV_HEADS 2
#define HEAD_DIM 32
#define FFN 80
#define TEXT 300
#define KV_BLOCKS 24
#define COLUMNS 10

typedef struct scene {
    syn_pool *pool;
    syn_model *model;
    void *weights[SYN_MODEL_TENSORS * LAYERS];
    int count;
    int32_t tokens[TEXT], positions[TEXT], sequences[TEXT], wanted[TEXT];
    int32_t tables[3][COLUMNS];
} scene;

static syn_model_config config_of(int isa, int kv_type) {
    static float frequencies[2 * HEAD_DIM / 2];
    static const int32_t interleaved[] = {1, 0}, windows[] = {40, 0}, ropes[] = {0, 1};
    for (int i = 0; i < HEAD_DIM; i++)
        frequencies[i] = (float)pow(10000, -(i % (HEAD_DIM / 2)) / (HEAD_DIM / 2.0));
    return (syn_model_config){.vocab = VOCAB,
                              .hidden = HIDDEN,
                              .layers = LAYERS,
                              .heads = HEADS,
                              .kv_heads = KV_HEADS,
                              .head_dim = HEAD_DIM,
                              .ffn = FFN,
                              .context = TEXT + 9,
                              .norm_eps = 1e-5f,
                              .embedding_scale = 2,
                              .attention_scale = 0.2f,
                              .logit_softcap = 5,
                              .activation = SYN_GELU_TANH,
                              .kv_type = kv_type,
                              .isa = isa,
                              .kv_blocks = KV_BLOCKS,
                              .ropes = 2,
                              .frequencies = frequencies,
                              .interleaved = interleaved,
                              .windows = windows,
                              .rope_of_layer = ropes};
}

static float *random_vector(int64_t n) {
    float *x = aligned_alloc(64, (size_t)(n * 4 + 63) / 64 * 64);
    CHECK(x);
    for (int64_t i = 0; i < n; i++) x[i] = 1 + random_float(0.2f);
    return x;
}

static void *packed_matrix(scene *s, int64_t rows, int64_t columns, uint64_t *bytes) {
    float *values = random_vector(rows * columns);
    random_floats(values, rows * columns, 1.5f / sqrtf((float)columns));
    *bytes = (uint64_t)syn_packed_bytes(SYN_F32, rows, columns);
    syn_pack_job job = {SYN_F32, rows, columns, values, (uint64_t)(rows * columns) * 4,
                        aligned_alloc(64, *bytes)};
    CHECK_EQUAL(syn_pack_all(s->pool, &job, 1), 0);
    free(values);
    return job.packed;
}

static void bind(scene *s, int tensor, int64_t layer) {
    int64_t rows, columns;
    CHECK_EQUAL(syn_model_shape(s->model, tensor, &rows, &columns), 0);
    uint64_t bytes = (uint64_t)columns * 4;
    void *data = tensor < SYN_MODEL_MATRICES ? packed_matrix(s, rows, columns, &bytes)
                                             : random_vector(columns);
    CHECK_EQUAL(syn_model_bind(s->model, tensor, layer, SYN_F32, data, bytes), 0);
    s->weights[s->count++] = data;
}

static void bind_all(scene *s) {
    for (int tensor = 0; tensor < SYN_MODEL_TENSORS; tensor++) {
        int shared = tensor >= SYN_MODEL_EMBEDDING && tensor <= SYN_MODEL_OUTPUT_NORM;
        for (int64_t layer = 0; layer < (shared ? 1 : LAYERS); layer++) bind(s, tensor, layer);
    }
}

static scene make_scene(int threads, int isa, int kv_type) {
    scene s = {.pool = syn_pool_new(threads)};
    random_state = 7;
    CHECK(s.pool);
    syn_model_config config = config_of(isa, kv_type);
    CHECK_EQUAL(syn_model_new(&s.model, &config, s.pool), 0);
    bind_all(&s);
    for (int i = 0; i < TEXT; i++) {
        s.tokens[i] = (int32_t)random_below(VOCAB);
        s.positions[i] = s.wanted[i] = i;
    }
    for (int i = 0; i < 2 * COLUMNS; i++) s.tables[i / COLUMNS][i % COLUMNS] = (i * 7 + 3) % 20;
    memcpy(s.tables[2], s.tables[1], sizeof s.tables[2]);
    return s;
}

static void end_scene(scene *s) {
    syn_model_free(s->model);
    syn_pool_free(s->pool);
    for (int i = 0; i < s->count; i++) free(s->weights[i]);
}

static syn_batch whole(const scene *s) {
    return (syn_batch){.rows = TEXT,
                       .tokens = s->tokens,
                       .positions = s->positions,
                       .sequences = s->sequences,
                       .tables_rows = 3,
                       .tables_columns = COLUMNS,
                       .tables = s->tables[0],
                       .wanted_count = TEXT,
                       .wanted = s->wanted};
}

static void check_equal_logits(const float *got, const float *wanted, int64_t rows) {
    CHECK(!memcmp(got, wanted, (size_t)rows * VOCAB * sizeof(float)));
}

/* The text at once, against the text in pieces beside another copy of itself. */
static void company_changes_nothing_with(int threads, int isa, int kv_type) {
    static float wanted[TEXT * VOCAB], got[TEXT * VOCAB];
    scene s = make_scene(threads, isa, kv_type);
    syn_batch all = whole(&s);
    CHECK_EQUAL(syn_model_forward(s.model, &all, wanted, NULL), 0);
    int32_t tokens[TEXT], positions[TEXT], sequences[TEXT], rows[TEXT];
    for (int at[2] = {0, 0}; at[1] < TEXT;) {
        int count = 0, asked = 0;
        for (int q = 0; q < 2; q++) {
            int most = random_below(3) ? 1 : 70, left = TEXT - at[q];
            int take = 1 + (int)random_below(most);
            take = take < left ? take : left;
            for (int i = 0; i < take; i++, at[q]++) {
                tokens[count] = s.tokens[at[q]];
                positions[count] = at[q];
                if (q && (i == take - 1 || random_below(2))) rows[asked++] = count;
                sequences[count++] = q;
            }
        }
        syn_batch b = whole(&s);
        b.rows = count, b.wanted_count = asked;
        b.tokens = tokens, b.positions = positions, b.sequences = sequences, b.wanted = rows;
        CHECK_EQUAL(syn_model_forward(s.model, &b, got, NULL), 0);
        for (int i = 0; i < asked; i++)
            check_equal_logits(got + i * VOCAB, wanted + positions[rows[i]] * VOCAB, 1);
    }
    end_scene(&s);
}

static void company_changes_nothing(void) {
    for (int isa = SYN_REFERENCE; isa <= SYN_AVX512; isa++) {
        if (!syn_isa_available(isa)) continue;
        company_changes_nothing_with(1 + isa, isa, SYN_KV_BF16);
        if (isa) company_changes_nothing_with(4, isa, SYN_KV_INT8);
    }
}

/* Random indices, most of them wrong: an error or a result, never a step outside. */
static void random_batches_are_computed_or_refused(void) {
    static float out[TEXT * VOCAB];
    scene s = make_scene(2, syn_isa_best(), SYN_KV_F32);
    int refused = 0;
    for (int round = 0; round < 3000; round++) {
        int32_t tokens[8], positions[8], sequences[8], wanted[8], tables[3][COLUMNS];
        syn_batch b = whole(&s);
        memcpy(tables, s.tables, sizeof tables);
        tables[2][0] = 21;
        tables[random_below(3)][random_below(3)] = (int32_t)random_below(KV_BLOCKS + 2) - 1;
        b.rows = random_below(9), b.wanted_count = random_below(b.rows + 1);
        b.tables = tables[0];
        b.tables_columns = random_below(20) ? COLUMNS : random_below(2);
        for (int i = 0; i < 8; i++) {
            tokens[i] = random_below(99) ? (int32_t)random_below(VOCAB) : (int32_t)random_bits();
            sequences[i] = random_below(50) ? i / 3 : (int32_t)random_below(5) - 1;
            positions[i] = random_below(50) ? i % 3 + 40 : (int32_t)random_bits();
            wanted[i] = random_below(40) ? i : (int32_t)random_below(10) - 1;
        }
        b.tokens = tokens, b.positions = positions, b.sequences = sequences, b.wanted = wanted;
        int status = syn_model_forward(s.model, &b, out, NULL);
        CHECK(status == 0 || status == SYN_E_ARGUMENT);
        refused += status != 0;
    }
    CHECK(refused > 300 && refused < 2700);
    end_scene(&s);
}

int main(void) {
    RUN(company_changes_nothing);
    RUN(random_batches_are_computed_or_refused);
    return 0;
}
