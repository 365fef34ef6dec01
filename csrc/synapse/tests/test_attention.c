/* SPDX-License-Identifier: BUSL-1.1 */
/* A row of attention has the same bits in every tile and on every instruction set. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "math_scalar.h"
#include "ops.h"
#include "random.h"

#define BLOCKS 9
#define HEADS 2
#define POSITIONS 200
#define MOST_ROWS 64

typedef struct scene {
    syn_kv kv;
    int32_t table[BLOCKS];
    int64_t head_dim;
    float *keys, *values; /* [POSITIONS][HEADS][head_dim] as they were stored */
    float *queries;       /* [MOST_ROWS][head_dim] */
    float *out, *wanted;
    float *scratch;
} scene;

static float *floats(int64_t n) {
    float *x = aligned_alloc(64, (size_t)(n * 4 + 63) / 64 * 64);
    CHECK(x);
    random_floats(x, n, 1);
    return x;
}

static scene make_scene(int type, int64_t head_dim) {
    scene s = {.head_dim = head_dim};
    CHECK_EQUAL(syn_kv_new(&s.kv, type, 1, BLOCKS, HEADS, head_dim), 0);
    for (int32_t i = 0; i < BLOCKS; i++) s.table[i] = (i * 4 + 3) % BLOCKS;
    s.keys = floats(POSITIONS * HEADS * head_dim);
    s.values = floats(POSITIONS * HEADS * head_dim);
    s.queries = floats(MOST_ROWS * head_dim);
    s.out = floats(MOST_ROWS * head_dim);
    s.wanted = floats(MOST_ROWS * head_dim);
    s.scratch = floats(syn_attention_scratch(MOST_ROWS));
    for (int64_t p = 0; p < POSITIONS; p++) {
        for (int64_t h = 0; h < HEADS; h++) {
            char *unit = kv_unit(&s.kv, 0, s.table[p / BLOCK], h);
            int64_t at = (p * HEADS + h) * head_dim;
            syn_ops_reference.store(&s.kv, unit, p % BLOCK, s.keys + at, s.values + at);
        }
    }
    return s;
}

static void end_scene(scene *s) {
    float *all[] = {s->keys, s->values, s->queries, s->out, s->wanted, s->scratch};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    syn_kv_free(&s->kv);
}

static syn_attention task(const scene *s, int64_t position, int64_t tokens, int64_t group,
                          int64_t window) {
    return (syn_attention){.kv = &s->kv,
                           .head = 1,
                           .table = s->table,
                           .position = position,
                           .tokens = tokens,
                           .group = group,
                           .window = window,
                           .queries = s->queries,
                           .out = s->out,
                           .stride = group * s->head_dim,
                           .scratch = s->scratch};
}

static void check_same(const float *a, const float *b, int64_t n) {
    for (int64_t i = 0; i < n; i++) CHECK_EQUAL(f32_bits(a[i]), f32_bits(b[i]));
}

/* The tile at once and row by row, on every instruction set, against the reference's rows. */
static void check_tile(scene *s, syn_attention a) {
    int64_t numbers = a.tokens * a.group * s->head_dim;
    a.out = s->wanted;
    syn_attend_reference(&a);
    a.out = s->out;
    for (int isa = SYN_REFERENCE; isa <= SYN_AMX; isa++) {
        if (!syn_isa_available(isa)) continue;
        memset(s->out, 0xff, (size_t)numbers * sizeof(float));
        syn_ops_for(isa)->attend(&a);
        check_same(s->out, s->wanted, numbers);
        for (int64_t t = 0; t < a.tokens; t++) {
            syn_attention one = a;
            one.position += t;
            one.tokens = 1;
            one.queries += t * a.group * s->head_dim;
            one.out += t * a.stride;
            syn_ops_for(isa)->attend(&one);
        }
        check_same(s->out, s->wanted, numbers);
    }
}

static void tiles_and_instruction_sets_agree(void) {
    const int64_t head_dims[] = {16, 48, 64, 80, 128}, groups[] = {1, 3, 7}, windows[] = {0, 5, 40};
    for (int type = SYN_KV_BF16; type <= SYN_KV_F32; type++) {
        for (int d = 0; d < 5; d++) {
            scene s = make_scene(type, head_dims[d]);
            for (int i = 0; i < 9; i++) {
                int64_t group = groups[i % 3], window = windows[i / 3];
                int64_t tokens = 1 + random_below(MOST_ROWS / group);
                int64_t position = random_below(POSITIONS - tokens + 1);
                check_tile(&s, task(&s, position, tokens, group, window));
            }
            end_scene(&s);
        }
    }
}

/* In doubles, from the numbers before they went to the cache. */
static double expected(const scene *s, int64_t position, int64_t window, int64_t d) {
    double sum = 0, weighted = 0;
    for (int64_t p = window && position >= window ? position - window + 1 : 0; p <= position; p++) {
        double score = 0;
        const float *key = s->keys + (p * HEADS + 1) * s->head_dim;
        for (int64_t i = 0; i < s->head_dim; i++) score += (double)s->queries[i] * key[i];
        sum += exp(score);
        weighted += exp(score) * s->values[(p * HEADS + 1) * s->head_dim + d];
    }
    return weighted / sum;
}

static void it_is_attention(void) {
    const double tolerances[] = {[SYN_KV_BF16] = 3e-2, [SYN_KV_F16] = 4e-3, [SYN_KV_INT8] = 6e-2,
                                 [SYN_KV_F32] = 2e-5};
    for (int type = SYN_KV_BF16; type <= SYN_KV_F32; type++) {
        scene s = make_scene(type, 32);
        for (int64_t position = 0; position < POSITIONS; position += 13) {
            for (int64_t window = 0; window < 80; window += 33) {
                syn_attention a = task(&s, position, 1, 1, window);
                syn_attend_reference(&a);
                for (int64_t d = 0; d < 32; d++)
                    CHECK(fabs(s.out[d] - expected(&s, position, window, d)) < tolerances[type]);
            }
        }
        end_scene(&s);
    }
}

static void large_scores_overflow_nothing(void) {
    scene s = make_scene(SYN_KV_F32, 16);
    for (int64_t i = 0; i < MOST_ROWS * 16; i++) s.queries[i] *= 1e4f;
    check_tile(&s, task(&s, 150, 20, 3, 0));
    for (int64_t i = 0; i < 60 * 16; i++) CHECK(isfinite(s.out[i]));
    end_scene(&s);
}

static void a_cleared_block_is_zero(void) {
    syn_kv kv;
    CHECK_EQUAL(syn_kv_new(&kv, SYN_KV_BF16, 2, 3, HEADS, 16), 0);
    memset(kv.data, 1, kv.bytes);
    syn_kv_clear(&kv, 1, 1);
    const char *block = kv_unit(&kv, 1, 1, 0), *next = kv_unit(&kv, 1, 2, 0);
    for (const char *p = kv.data; p < kv.data + kv.bytes; p++)
        CHECK_EQUAL(*p, !(p >= block && p < next));
    syn_kv_free(&kv);
}

int main(void) {
    RUN(tiles_and_instruction_sets_agree);
    RUN(it_is_attention);
    RUN(large_scores_overflow_nothing);
    RUN(a_cleared_block_is_zero);
    return 0;
}
