/* SPDX-License-Identifier: BUSL-1.1 */
/* Sampling over awkward vocabularies and parameters: no access outside the arrays, equal tokens
 * on every instruction set, and what can be said without a reference. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool.h"
#include "sample.h"
#include "sample_random.h"

#define EXPECT(condition)                                                                \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            fprintf(stderr, "%s:%d: not %s\n", __FILE__, __LINE__, #condition);          \
            exit(1);                                                                     \
        }                                                                                \
    } while (0)

enum { ROWS = 4, HISTORY = 40, THREADS = 3 };

typedef struct {
    int64_t vocab;
    float *logits;
    uint32_t *mask;
    void *scratch;
    int32_t history[HISTORY];
} fixture;

static uint64_t state = 1;

static uint32_t next(void) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

static float real(void) { return (float)next() / 2147483648.0f; }

static fixture make(int64_t vocab) {
    fixture f = {vocab, malloc((size_t)(ROWS * vocab) * 4), malloc((size_t)(vocab + 31) / 32 * 4),
                 aligned_alloc(64, (size_t)(THREADS * syn_sample_scratch(vocab))), {0}};
    memset(f.scratch, 0, (size_t)(THREADS * syn_sample_scratch(vocab)));
    for (int64_t i = 0; i < ROWS * vocab; i++) f.logits[i] = 8 * real() + 8 * real() - 8;
    for (int64_t i = 0; i < (vocab + 31) / 32; i++) f.mask[i] = next() | 1;
    for (int i = 0; i < HISTORY; i++) f.history[i] = (int32_t)(next() % (uint32_t)vocab);
    return f;
}

static void drop(fixture *f) {
    free(f->logits);
    free(f->mask);
    free(f->scratch);
}

static syn_sampling plain(void) {
    return (syn_sampling){.repetition_penalty = 1, .top_p = 1, .logprobs = -1};
}

static syn_sampling random_wishes(fixture *f) {
    static const int32_t ids[2] = {0, 1 << 23};
    static const float bias[2] = {1.5f, 2};
    syn_sampling p = plain();
    p.seed = next();
    p.temperature = next() % 4 ? real() * 2 : 0;
    if (next() % 2) p.top_k = (int32_t)(next() % (uint32_t)(f->vocab + 3));
    if (next() % 2) p.top_p = real();
    if (next() % 2) p.min_p = real();
    if (next() % 3 == 0) p.mask = f->mask;
    if (next() % 3 == 0) {
        p.bias_ids = ids, p.bias = bias, p.biases = 2;
        p.banned = ids, p.banneds = 2, p.min_tokens = f->vocab > 1 ? HISTORY : 0;
    }
    if (next() % 3 == 0) p.repetition_penalty = 1.3f, p.presence_penalty = 0.5f;
    p.history = f->history;
    p.prompt = HISTORY / 2;
    p.logprobs = (int32_t)(next() % 23) - 1;
    return p;
}

typedef struct {
    int32_t tokens[ROWS], ids[ROWS * SYN_MAX_LOGPROBS];
    float logprobs[ROWS], values[ROWS * SYN_MAX_LOGPROBS];
} outcome;

static outcome sample_with(fixture *f, int isa, const syn_sampling *params, syn_pool *pool) {
    int32_t slots[ROWS] = {2, 0, 3, 1}, lengths[ROWS] = {HISTORY, HISTORY, 1, 0};
    outcome o;
    memset(&o, 0, sizeof o);
    EXPECT(syn_sample(isa, f->logits, f->vocab, ROWS, f->vocab, params, slots, lengths, o.tokens,
                      o.logprobs, o.ids, o.values, f->scratch, pool) == SYN_OK);
    return o;
}

static outcome sample(fixture *f, int isa, const syn_sampling *params) {
    return sample_with(f, isa, params, NULL);
}

static void every_set_draws_the_same_with_any_threads(void) {
    syn_pool *pool = syn_pool_new(THREADS);
    static const int64_t sizes[] = {1, 2, 15, 17, 255, 256, 257, 1000, 4099};
    for (size_t at = 0; at < sizeof sizes / sizeof *sizes; at++) {
        fixture f = make(sizes[at]);
        for (int turn = 0; turn < 60; turn++) {
            syn_sampling params[ROWS];
            for (int i = 0; i < ROWS; i++) params[i] = random_wishes(&f);
            outcome judge = sample(&f, SYN_REFERENCE, params);
            for (int isa = SYN_AVX2; isa <= syn_isa_best(); isa++) {
                outcome other = sample(&f, isa, params);
                EXPECT(memcmp(&judge, &other, sizeof judge) == 0);
            }
            outcome shared = sample_with(&f, syn_isa_best(), params, pool);
            EXPECT(memcmp(&judge, &shared, sizeof judge) == 0);
            for (int i = 0; i < ROWS; i++)
                EXPECT(judge.tokens[i] >= SYN_TOKEN_NONE_LEFT && judge.tokens[i] < f.vocab);
        }
        drop(&f);
    }
    syn_pool_free(pool);
}

static void what_is_not_finite_is_told_wherever_it_lies(void) {
    fixture f = make(1000);
    syn_sampling params[ROWS];
    for (int i = 0; i < ROWS; i++) params[i] = plain();
    static const float odd[] = {NAN, INFINITY, -INFINITY};
    for (int64_t i = 0; i < f.vocab; i += 37)
        for (int o = 0; o < 3; o++)
            for (int isa = 0; isa <= syn_isa_best(); isa++) {
                float was = f.logits[f.vocab + i];
                f.logits[f.vocab + i] = odd[o];
                outcome got = sample(&f, isa, params);
                EXPECT(got.tokens[1] == SYN_TOKEN_NOT_FINITE && got.tokens[0] >= 0);
                f.logits[f.vocab + i] = was;
            }
    drop(&f);
}

static void a_mask_that_forbids_all_is_told(void) {
    fixture f = make(70);
    memset(f.mask, 0, 12);
    syn_sampling params[ROWS];
    for (int i = 0; i < ROWS; i++) params[i] = plain(), params[i].mask = f.mask;
    EXPECT(sample(&f, syn_isa_best(), params).tokens[3] == SYN_TOKEN_NONE_LEFT);
    f.mask[2] = 1u << 5;
    for (int k = 0; k < 3; k++) {
        params[0].temperature = 1, params[0].top_k = k * 20;
        EXPECT(sample(&f, syn_isa_best(), params).tokens[1] == 69);
    }
    drop(&f);
}

static void the_generator_is_philox(void) {
    /* The known answers of its authors' library. */
    uint32_t zero[4] = {0, 0, 0, 0}, ones[4] = {~0u, ~0u, ~0u, ~0u};
    philox(zero, 0);
    EXPECT(zero[0] == 0x6627e8d5 && zero[1] == 0xe169c58d && zero[2] == 0xbc57ac4c &&
           zero[3] == 0x9b00dbd8);
    philox(ones, ~0ull);
    EXPECT(ones[0] == 0x408f276d && ones[1] == 0x41c83b0e && ones[2] == 0xa20bc7c6 &&
           ones[3] == 0x6d5451fd);
}

static void bad_arguments_are_refused(void) {
    EXPECT(syn_sample_scratch(0) < 0 && syn_sample_scratch(1ll << 40) < 0);
    EXPECT(syn_sample(0, NULL, 5, 1, 6, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
                      NULL) == SYN_E_ARGUMENT);
}

int main(void) {
    every_set_draws_the_same_with_any_threads();
    what_is_not_finite_is_told_wherever_it_lies();
    a_mask_that_forbids_all_is_told();
    the_generator_is_philox();
    bad_arguments_are_refused();
    return 0;
}
