/* SPDX-License-Identifier: BUSL-1.1 */
/* From logits to tokens. A row without wishes is read where it lies; any other is copied into
 * scratch first. What top-k, top-p and min-p leave over is a list of candidates; without them
 * the draw is over the whole vocabulary. */
#include "sample.h"

#include <math.h>
#include <string.h>

#include "pool.h"
#include "sample_random.h"

enum { WORTH_SHARING = 4 }; /* rows */

typedef struct {
    float *x;         /* (vocab) the logits after mask, bias, penalties and bans */
    float *e;         /* (vocab) weights relative to the largest */
    int32_t *counts;  /* (vocab) all zero between rows, and calls */
    double *sums;     /* (blocks) of weights */
    candidate *items; /* (2 * vocab, and some) */
} workspace;

typedef struct {
    const sample_kernels *kernels;
    int64_t vocab, room;
    workspace space;
} sampler;

static int64_t rounded(int64_t bytes) { return (bytes + 63) / 64 * 64; }

static int64_t blocks_of(int64_t vocab) { return (vocab + SAMPLE_BLOCK - 1) / SAMPLE_BLOCK; }

/* Twice the largest top-k, and a block that may be written beyond. */
static int64_t room_for(int64_t vocab) { return 2 * vocab + 2 * SAMPLE_BLOCK; }

int64_t syn_sample_scratch(int64_t vocab) {
    if (vocab < 1 || vocab > 1 << 24)
        return FAIL(SYN_E_ARGUMENT, "a vocabulary of %lld tokens", (long long)vocab);
    return 3 * rounded(vocab * 4) + rounded(blocks_of(vocab) * 8) +
           rounded(room_for(vocab) * (int64_t)sizeof(candidate));
}

static workspace divide(void *scratch, int64_t vocab) {
    char *at = scratch;
    workspace space;
    space.x = (float *)at;
    space.e = (float *)(at += rounded(vocab * 4));
    space.counts = (int32_t *)(at += rounded(vocab * 4));
    space.sums = (double *)(at += rounded(vocab * 4));
    space.items = (candidate *)(at + rounded(blocks_of(vocab) * 8));
    return space;
}

/* -- what changes logits ----------------------------------------------------------------------- */

static int penalises(const syn_sampling *p) {
    return p->repetition_penalty != 1 || p->presence_penalty != 0 || p->frequency_penalty != 0;
}

static int bans(const syn_sampling *p, int32_t length) {
    return p->banneds > 0 && length - p->prompt < p->min_tokens;
}

static void apply_mask(float *x, int64_t vocab, const uint32_t *mask) {
    for (int64_t w = 0; w * 32 < vocab; w++) {
        if (mask[w] == 0xffffffffu) continue;
        int64_t end = vocab - w * 32 < 32 ? vocab - w * 32 : 32;
        for (int64_t b = 0; b < end; b++)
            if (!(mask[w] >> b & 1)) x[w * 32 + b] = -INFINITY;
    }
}

/* counts: bit 0: the token occurs; above it: how often it was generated. */
static void apply_penalties(float *x, int64_t vocab, const syn_sampling *p, int32_t length,
                            int32_t *counts) {
    for (int32_t i = 0; i < length; i++) {
        int32_t id = p->history[i];
        if (id < 0 || id >= vocab) continue;
        counts[id] = (counts[id] | 1) + (i >= p->prompt ? 2 : 0);
    }
    for (int32_t i = 0; i < length; i++) {
        int32_t id = p->history[i];
        if (id < 0 || id >= vocab || counts[id] == 0) continue;
        float times = (float)(counts[id] >> 1);
        counts[id] = 0;
        x[id] = x[id] > 0 ? x[id] / p->repetition_penalty : x[id] * p->repetition_penalty;
        x[id] -= p->frequency_penalty * times;
        if (times > 0) x[id] -= p->presence_penalty;
    }
}

static void apply_wishes(const sampler *s, const float *logits, const syn_sampling *p,
                         int32_t length) {
    float *x = s->space.x;
    memcpy(x, logits, (size_t)s->vocab * 4);
    if (p->mask) apply_mask(x, s->vocab, p->mask);
    for (int32_t i = 0; i < p->biases; i++)
        if (p->bias_ids[i] >= 0 && p->bias_ids[i] < s->vocab) x[p->bias_ids[i]] += p->bias[i];
    if (penalises(p)) apply_penalties(x, s->vocab, p, length, s->space.counts);
    for (int32_t i = 0; bans(p, length) && i < p->banneds; i++)
        if (p->banned[i] >= 0 && p->banned[i] < s->vocab) x[p->banned[i]] = -INFINITY;
}

/* -- selection --------------------------------------------------------------------------------- */

/* The k best of x into items; k <= vocab. */
static void best_of(const sampler *s, const float *x, int64_t k) {
    candidate *items = s->space.items;
    int64_t n = 0, at = 0, room = 2 * k + SAMPLE_BLOCK;
    float bound = -INFINITY;
    while ((at = s->kernels->gather(x, at, s->vocab, bound, items, &n, room)) < s->vocab) {
        syn_select(items, n, k);
        n = k;
        bound = items[0].value;
        for (int64_t j = 1; j < k; j++) bound = items[j].value < bound ? items[j].value : bound;
    }
    syn_select(items, n, k);
    for (; n < k; n++) items[n] = (candidate){-INFINITY, 0}; /* fewer are allowed than asked for */
}

/* All with a weight above the bound into items; how many, and their mass. */
static int64_t heavier(const sampler *s, float bound, double *mass) {
    int64_t n = 0;
    s->kernels->gather(s->space.e, 0, s->vocab, bound, s->space.items, &n, s->room);
    *mass = 0;
    for (int64_t i = 0; i < n; i++) *mass += (double)s->space.items[i].value;
    return n;
}

static double total_of(const double *sums, int64_t n) {
    double total = 0;
    for (int64_t i = 0; i < n; i++) total += sums[i];
    return total;
}

static int64_t top_p_of_all(const sampler *s, float top_p) {
    static const float bounds[] = {0x1p-6f, 0x1p-12f, 0x1p-24f, 0};
    double mass, wanted = (double)top_p * total_of(s->space.sums, blocks_of(s->vocab));
    int64_t n = 0;
    for (int i = 0; i < 4; i++) {
        n = heavier(s, bounds[i], &mass);
        if (mass >= wanted) break;
    }
    return syn_select_mass(s->space.items, n, wanted);
}

static int64_t top_k_and_p(const sampler *s, const float *x, float max, const syn_sampling *p) {
    candidate *items = s->space.items;
    int64_t n = p->top_k;
    double total = 0;
    best_of(s, x, n);
    while (n > 1 && items[n - 1].value == -INFINITY) n--;
    /* Through the same kernel as all weights, a block at a time. */
    for (int64_t at = 0; at < n; at += SAMPLE_BLOCK) {
        int64_t size = n - at < SAMPLE_BLOCK ? n - at : SAMPLE_BLOCK;
        float in[SAMPLE_BLOCK], out[SAMPLE_BLOCK];
        double sum;
        for (int64_t i = 0; i < size; i++) in[i] = items[at + i].value;
        s->kernels->weights(in, size, max, 1 / p->temperature, out, &sum);
        for (int64_t i = 0; i < size; i++) {
            items[at + i].value = out[i];
            total += (double)out[i];
        }
    }
    return p->top_p < 1 ? syn_select_mass(items, n, (double)p->top_p * total) : n;
}

static int64_t drop_below(candidate *items, int64_t n, float least) {
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++)
        if (items[i].value >= least) items[kept++] = items[i];
    return kept;
}

/* -- drawing ----------------------------------------------------------------------------------- */

static int32_t draw_candidate(const candidate *items, int64_t n, double random) {
    double total = 0, sum = 0;
    int32_t last = items[0].id;
    for (int64_t i = 0; i < n; i++) total += (double)items[i].value;
    for (int64_t i = 0; i < n; i++) {
        if (!(items[i].value > 0)) continue;
        sum += (double)items[i].value;
        last = items[i].id;
        if (sum > random * total) break;
    }
    return last;
}

static int32_t draw_any(const sampler *s, double random) {
    const double *sums = s->space.sums;
    const float *e = s->space.e;
    double goal = random * total_of(sums, blocks_of(s->vocab)), sum = 0;
    int64_t block = 0, last = 0;
    while (block < blocks_of(s->vocab) - 1 && sum + sums[block] <= goal) sum += sums[block++];
    int64_t end = (block + 1) * SAMPLE_BLOCK < s->vocab ? (block + 1) * SAMPLE_BLOCK : s->vocab;
    for (int64_t i = block * SAMPLE_BLOCK; i < end; i++) {
        if (!(e[i] > 0)) continue;
        last = i;
        sum += (double)e[i];
        if (sum > goal) break;
    }
    return (int32_t)last;
}

static int32_t draw(const sampler *s, const float *x, float max, const syn_sampling *p,
                    int32_t position) {
    double random = random_at(p->seed, (uint32_t)position, (uint32_t)p->choice);
    int few = p->top_k > 0 && p->top_k < s->vocab;
    int64_t n;
    if (few) {
        n = top_k_and_p(s, x, max, p);
    } else {
        s->kernels->weights(x, s->vocab, max, 1 / p->temperature, s->space.e, s->space.sums);
        if (p->top_p >= 1 && p->min_p <= 0) return draw_any(s, random);
        double mass;
        n = p->top_p < 1 ? top_p_of_all(s, p->top_p)
                         : heavier(s, nextafterf(p->min_p, 0), &mass);
    }
    if (p->min_p > 0) n = drop_below(s->space.items, n, p->min_p);
    return draw_candidate(s->space.items, n, random);
}

/* -- rows -------------------------------------------------------------------------------------- */

static void log_probabilities(const sampler *s, const float *x, float max, int32_t token,
                              int64_t wanted, float *chosen, int32_t *ids, float *values) {
    s->kernels->weights(x, s->vocab, max, 1, s->space.e, s->space.sums);
    double norm = (double)max + log(total_of(s->space.sums, blocks_of(s->vocab)));
    *chosen = (float)((double)x[token] - norm);
    if (wanted > SYN_MAX_LOGPROBS) wanted = SYN_MAX_LOGPROBS;
    if (wanted > s->vocab) wanted = s->vocab;
    if (wanted <= 0) return;
    best_of(s, x, wanted);
    syn_sort_few(s->space.items, wanted);
    for (int64_t i = 0; i < wanted; i++) {
        ids[i] = s->space.items[i].id;
        values[i] = (float)((double)s->space.items[i].value - norm);
    }
}

/* One row; `raw_max` is of the logits as they came. */
static int32_t sample_row(const sampler *s, const float *logits, const syn_sampling *p,
                          int32_t length, float *raw_max) {
    const float *x = logits;
    int64_t best;
    if (!s->kernels->peak(x, s->vocab, 0, raw_max, &best)) return SYN_TOKEN_NOT_FINITE;
    float max = *raw_max;
    if (p->mask || p->biases || penalises(p) || bans(p, length)) {
        apply_wishes(s, logits, p, length);
        x = s->space.x;
        if (!s->kernels->peak(x, s->vocab, 1, &max, &best)) return SYN_TOKEN_NOT_FINITE;
        if (max == -INFINITY) return SYN_TOKEN_NONE_LEFT;
    }
    return p->temperature > 0 ? draw(s, x, max, p, length) : (int32_t)best;
}

static const sample_kernels *kernels_for(int isa) {
#if defined(__x86_64__)
    if (isa >= SYN_AVX512) return &sample_avx512;
    if (isa >= SYN_AVX2) return &sample_avx2;
#endif
    (void)isa;
    return &sample_baseline;
}

/* A call's arguments. */
typedef struct {
    const sample_kernels *kernels;
    const float *logits;
    int64_t stride, rows, vocab;
    const syn_sampling *params;
    const int32_t *slots, *lengths;
    int32_t *tokens, *top_ids;
    float *logprobs, *top_logprobs;
    char *scratch;
    syn_pool *pool;
} call;

static void do_row(const call *c, const sampler *s, int64_t r) {
    const syn_sampling *p = c->params + c->slots[r];
    const float *x = c->logits + r * c->stride;
    float max = 0;
    int32_t token = c->tokens[r] = sample_row(s, x, p, c->lengths[c->slots[r]], &max);
    if (p->logprobs < 0 || token < 0) return;
    log_probabilities(s, x, max, token, p->logprobs, c->logprobs + r,
                      c->top_ids + r * SYN_MAX_LOGPROBS, c->top_logprobs + r * SYN_MAX_LOGPROBS);
}

static sampler sampler_of(const call *c, int thread) {
    void *scratch = c->scratch + thread * syn_sample_scratch(c->vocab);
    return (sampler){c->kernels, c->vocab, room_for(c->vocab), divide(scratch, c->vocab)};
}

static void do_some(void *arg, int thread, int threads) {
    (void)threads;
    const call *c = arg;
    sampler s = sampler_of(c, thread);
    syn_seat seat = {0};
    for (int64_t r; (r = syn_pool_piece(c->pool, &seat, c->rows)) >= 0;) do_row(c, &s, r);
}

int syn_sample(int isa, const float *logits, int64_t stride, int64_t rows, int64_t vocab,
               const syn_sampling *params, const int32_t *slots, const int32_t *lengths,
               int32_t *tokens, float *logprobs, int32_t *top_ids, float *top_logprobs,
               void *scratch, struct syn_pool *pool) {
    if (syn_sample_scratch(vocab) < 0) return SYN_E_ARGUMENT;
    if (rows < 0 || stride < vocab)
        return FAIL(SYN_E_ARGUMENT, "%lld rows of %lld logits for a vocabulary of %lld",
                    (long long)rows, (long long)stride, (long long)vocab);
    if ((uintptr_t)scratch % 64) return FAIL(SYN_E_ARGUMENT, "the scratch is not aligned to 64");
    call c = {kernels_for(isa), logits, stride, rows, vocab, params, slots, lengths,
              tokens, top_ids, logprobs, top_logprobs, scratch, pool};
    if (pool && rows >= WORTH_SHARING) return syn_pool_flow(pool, do_some, &c);
    sampler s = sampler_of(&c, 0);
    for (int64_t r = 0; r < rows; r++) do_row(&c, &s, r);
    return SYN_OK;
}
