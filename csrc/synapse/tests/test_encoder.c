/* SPDX-License-Identifier: BUSL-1.1 */
/* An encoder of random weights and awkward sizes: kernels against the reference, sequences alone
 * against batches, every instruction set and number of threads against one another; bitwise. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "encoder.h"
#include "encoder_math.h"

static uint64_t state = 7;

static uint32_t next(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

static float real(float size) { return ((float)next() / 1073741824.0f - 1.0f) * size; }

static float *reals(int64_t count, float size) {
    float *x = aligned_alloc(64, ((size_t)count * 4 + 63) / 64 * 64);
    CHECK(x);
    for (int64_t i = 0; i < count; i++) x[i] = real(size);
    return x;
}

static float *copy_of(const float *x, int64_t count) {
    float *copy = reals(count, 0);
    memcpy(copy, x, (size_t)count * 4);
    return copy;
}

static int same(const float *a, const float *b, int64_t count) {
    return !memcmp(a, b, (size_t)count * 4);
}

static const int isas[] = {SYN_AVX2, SYN_AVX512};

#define EACH_ISA(isa)                                                                              \
    for (size_t isa##_i = 0; isa##_i < sizeof isas / sizeof *isas; isa##_i++)                      \
        for (int isa = isas[isa##_i], once = syn_isa_available(isa); once; once = 0)

/* --- kernels -------------------------------------------------------------------------------- */

static void gelu_is_within_two_units_of_the_exact_one(void) {
    for (int i = 0; i < 200000; i++) {
        float x = i < 100000 ? real(10) : real(1), got = f32_gelu(x);
        double exact = 0.5 * x * erfc(-x * 0.70710678118654752);
        double allowed = x > 0 ? 2.5e-7 * x : 4e-7 * fabs(x) + 0;
        CHECK(fabs(got - exact) <= allowed);
        if (x < 0 && x > -4) CHECK(fabs(got - exact) <= 4e-6 * fabs(exact));
    }
    CHECK(f32_gelu(0.0f) == 0.0f && f32_gelu(30.0f) == 30.0f && fabsf(f32_gelu(-1e6f)) < 1e-8f);
}

static void rows_come_out_as_in_the_reference(void) {
    static const int64_t widths[] = {1, 15, 16, 17, 26, 48, 384, 391};
    EACH_ISA(isa) for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        const syn_encoder_kernels *k = syn_encoder_kernels_of(isa), *r = &syn_encoder_reference;
        int64_t width = widths[i], stride = width + 5, rows = 7;
        float *a = reals(rows * stride, 6), *b = copy_of(a, rows * stride);
        float *w = reals(width, 2), *c = reals(width, 1);
        float *out_a = reals(width, 1), *out_b = reals(width, 1);
        k->gelu(a, rows, stride, width), r->gelu(b, rows, stride, width);
        CHECK(same(a, b, rows * stride));
        k->norm(a, rows, stride, width, w, c, 1e-12f), r->norm(b, rows, stride, width, w, c, 1e-12f);
        CHECK(same(a, b, rows * stride));
        k->mean(a, rows, stride, width, out_a), r->mean(b, rows, stride, width, out_b);
        CHECK(same(out_a, out_b, width));
        k->unit(out_a, width), r->unit(out_b, width);
        CHECK(same(out_a, out_b, width));
        free(a), free(b), free(w), free(c), free(out_a), free(out_b);
    }
}

static void attention_comes_out_as_in_the_reference(void) {
    static const int64_t lengths[] = {1, 2, 8, 15, 16, 17, 33, 100};
    static const int64_t widths[] = {1, 16, 26, 32};
    EACH_ISA(isa) for (int i = 0; i < 8 * 4; i++) {
        int64_t length = lengths[i / 4], width = widths[i % 4], stride = width + 3;
        int64_t room = syn_encoder_room(length, width);
        float *q = reals(length * stride, 3), *k = reals(length * stride, 3);
        float *v = reals(length * stride, 3), *p = copy_of(q, length * stride);
        float *at = reals(room, 1);
        syn_encoder_kernels_of(isa)->attend(q, k, v, q, length, stride, width, 0.3f, at);
        syn_encoder_reference.attend(p, k, v, p, length, stride, width, 0.3f, at);
        CHECK(same(p, q, length * stride));
        free(q), free(k), free(v), free(p), free(at);
    }
}

/* --- the encoder ---------------------------------------------------------------------------- */

typedef struct {
    syn_encoder_config config;
    syn_encoder *encoder;
    float *tables[3];
} Fixture;

static Fixture make(int64_t hidden, int64_t heads, int64_t ffn, int pooling) {
    Fixture f = {.config = {.words = 50, .positions = 40, .types = 2, .hidden = hidden,
                            .layers = 2, .heads = heads, .ffn = ffn, .eps = 1e-12f,
                            .pooling = pooling, .norm = 1}};
    CHECK_EQUAL(syn_encoder_new(&f.encoder, &f.config), SYN_OK);
    for (int layer = 0; layer < 2; layer++) {
        for (int i = 0; i < SYN_ENCODER_TENSORS; i++) {
            int64_t rows, columns;
            CHECK_EQUAL(syn_encoder_shape(&f.config, i, &rows, &columns), SYN_OK);
            float *data = reals(rows * columns, 0.3f);
            if (i < 3) free(f.tables[i]), f.tables[i] = data;
            CHECK_EQUAL(syn_encoder_set(f.encoder, i, layer, 0, data,
                                        (uint64_t)(rows * columns) * 4), SYN_OK);
            if (i >= 3) free(data);
        }
    }
    return f;
}

static void drop(Fixture *f) {
    syn_encoder_free(f->encoder);
    for (int i = 0; i < 3; i++) free(f->tables[i]);
}

enum { SEQUENCES = 24 };

/* Lengths from 1 to 40; offsets: [SEQUENCES + 1]. */
static int32_t *random_batch(int64_t *offsets) {
    int32_t *tokens = malloc(SEQUENCES * 40 * sizeof *tokens);
    offsets[0] = 0;
    for (int i = 0; i < SEQUENCES; i++) offsets[i + 1] = offsets[i] + 1 + next() % 40;
    for (int64_t i = 0; i < offsets[SEQUENCES]; i++) tokens[i] = (int32_t)(next() % 50);
    return tokens;
}

static void a_vector_is_the_same_alone_and_in_any_batch(void) {
    static const int64_t sizes[][3] = {{48, 3, 64}, {26, 2, 40}, {16, 1, 16}};
    for (int i = 0; i < 3; i++) {
        Fixture f = make(sizes[i][0], sizes[i][1], sizes[i][2], i % 2);
        int64_t width = f.config.hidden, offsets[SEQUENCES + 1];
        int32_t *tokens = random_batch(offsets);
        float *alone = reals(SEQUENCES * width, 1), *joined = reals(SEQUENCES * width, 1);
        syn_pool *one = syn_pool_new(1);
        for (int s = 0; s < SEQUENCES; s++)
            CHECK_EQUAL(syn_encoder_run(f.encoder, one, SYN_REFERENCE, tokens, offsets + s, 1,
                                        alone + s * width), SYN_OK);
        for (int threads = 1; threads <= 3; threads++) {
            syn_pool *pool = syn_pool_new(threads);
            for (int isa = 0; isa <= SYN_AMX; isa++) {
                if (!syn_isa_available(isa)) continue;
                memset(joined, 0, (size_t)(SEQUENCES * width) * 4);
                CHECK_EQUAL(syn_encoder_run(f.encoder, pool, isa, tokens, offsets, SEQUENCES,
                                            joined), SYN_OK);
                CHECK(same(alone, joined, SEQUENCES * width));
            }
            syn_pool_free(pool);
        }
        syn_pool_free(one);
        free(tokens), free(alone), free(joined);
        drop(&f);
    }
}

static void bad_input_is_refused(void) {
    Fixture f = make(16, 1, 16, 0);
    syn_pool *pool = syn_pool_new(1);
    float out[2 * 16], data[16] = {0};
    int32_t tokens[41] = {0};
    int64_t whole[] = {0, 41}, empty[] = {0, 1, 1}, back[] = {3, 1};
    CHECK_EQUAL(syn_encoder_run(f.encoder, pool, 0, tokens, whole, 1, out), SYN_E_ARGUMENT);
    CHECK_EQUAL(syn_encoder_run(f.encoder, pool, 0, tokens, empty, 2, out), SYN_E_ARGUMENT);
    CHECK_EQUAL(syn_encoder_run(f.encoder, pool, 0, tokens, back, 1, out), SYN_E_ARGUMENT);
    CHECK_EQUAL(syn_encoder_run(f.encoder, pool, 9, tokens, empty, 1, out), SYN_E_UNSUPPORTED);
    for (int bad = 0; bad < 2; bad++) {
        tokens[0] = bad ? 50 : -1;
        CHECK_EQUAL(syn_encoder_run(f.encoder, pool, 0, tokens, empty, 1, out), SYN_E_ARGUMENT);
    }
    CHECK_EQUAL(syn_encoder_set(f.encoder, 3, 0, 0, data, 63), SYN_E_ARGUMENT);
    CHECK_EQUAL(syn_encoder_set(f.encoder, 99, 0, 0, data, 64), SYN_E_ARGUMENT);
    CHECK_EQUAL(syn_encoder_set(f.encoder, SYN_ENCODER_OUTPUT_NORM, 2, 0, data, 64),
                SYN_E_ARGUMENT);
    CHECK_EQUAL(syn_encoder_set(f.encoder, 3, 0, 8, data, 64), SYN_E_UNSUPPORTED);
    syn_pool_free(pool);
    drop(&f);
}

static void sizes_are_checked(void) {
    syn_encoder_config good = {.words = 5, .positions = 5, .types = 1, .hidden = 16, .layers = 1,
                               .heads = 2, .ffn = 16};
    int32_t token = 0;
    int64_t offsets[] = {0, 1};
    float out[16];
    syn_encoder *e;
    syn_pool *pool = syn_pool_new(1);
    CHECK_EQUAL(syn_encoder_new(&e, &good), SYN_OK);
    CHECK_EQUAL(syn_encoder_run(e, pool, 0, &token, offsets, 1, out), SYN_E_ARGUMENT);
    syn_encoder_free(e);
    syn_encoder_config bad[] = {good, good, good, good, good};
    bad[0].heads = 3, bad[1].hidden = 0, bad[2].words = INT64_MAX, bad[3].pooling = 7;
    bad[4].eps = NAN;
    for (int i = 0; i < 5; i++) {
        CHECK_EQUAL(syn_encoder_new(&e, &bad[i]), SYN_E_ARGUMENT);
        CHECK(!e);
    }
    syn_pool_free(pool);
}

int main(void) {
    RUN(gelu_is_within_two_units_of_the_exact_one);
    RUN(rows_come_out_as_in_the_reference);
    RUN(attention_comes_out_as_in_the_reference);
    RUN(a_vector_is_the_same_alone_and_in_any_batch);
    RUN(bad_input_is_refused);
    RUN(sizes_are_checked);
    return 0;
}
