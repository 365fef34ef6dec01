/* SPDX-License-Identifier: BUSL-1.1 */
/* Every instruction set does to a row what the reference does, to the last bit. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "math_scalar.h"
#include "ops.h"
#include "random.h"

#define LONGEST 640

static int fast[3], fasts;

static void find_fast(void) {
    for (int isa = SYN_AVX2; isa <= SYN_AMX; isa++) {
        if (syn_isa_available(isa)) fast[fasts++] = isa;
    }
}

static void check_same(const float *a, const float *b, int64_t n) {
    for (int64_t i = 0; i < n; i++) CHECK_EQUAL(f32_bits(a[i]), f32_bits(b[i]));
}

static const int64_t lengths[] = {16, 32, 48, 576, LONGEST};
#define LENGTHS (sizeof lengths / sizeof *lengths)

typedef struct inputs {
    float x[LONGEST], y[LONGEST];
} inputs;

static inputs make_inputs(float width) {
    inputs in;
    random_floats(in.x, LONGEST, width);
    random_floats(in.y, LONGEST, width);
    return in;
}

static void norms_agree(void) {
    for (size_t l = 0; l < LENGTHS; l++) {
        inputs in = make_inputs(3);
        float wanted[LONGEST], got[LONGEST];
        syn_ops_reference.norm(in.x, in.y, 1e-5f, lengths[l], wanted);
        for (int i = 0; i < fasts; i++) {
            syn_ops_for(fast[i])->norm(in.x, in.y, 1e-5f, lengths[l], got);
            check_same(got, wanted, lengths[l]);
        }
    }
}

static void a_norm_is_the_norm(void) {
    inputs in = make_inputs(2);
    float got[LONGEST];
    double squares = 0;
    syn_ops_reference.norm(in.x, in.y, 1e-5f, LONGEST, got);
    for (int i = 0; i < LONGEST; i++) squares += (double)in.x[i] * in.x[i];
    for (int i = 0; i < LONGEST; i++) {
        double wanted = in.x[i] / sqrt(squares / LONGEST + 1e-5) * in.y[i];
        CHECK(fabs(got[i] - wanted) <= 1e-6 * fabs(wanted) + 1e-12);
    }
}

typedef void (*change)(const syn_ops *ops, float *x, const float *y, int64_t n);

static void do_add(const syn_ops *o, float *x, const float *y, int64_t n) { o->add(x, y, n); }
static void do_scale(const syn_ops *o, float *x, const float *y, int64_t n) {
    o->scale(x, y[0], n);
}
static void do_softcap(const syn_ops *o, float *x, const float *y, int64_t n) {
    (void)y;
    o->softcap(x, 1.5f, n - 3);
}
static void do_silu(const syn_ops *o, float *x, const float *y, int64_t n) {
    o->gate(SYN_SILU, x, y, n, x);
}
static void do_gelu(const syn_ops *o, float *x, const float *y, int64_t n) {
    o->gate(SYN_GELU_TANH, x, y, n, x);
}
static void do_rope(const syn_ops *o, float *x, const float *y, int64_t n) {
    o->rope(x, y, y + n / 2, n / 2, 0);
}
static void do_interleaved_rope(const syn_ops *o, float *x, const float *y, int64_t n) {
    o->rope(x, y, y + n / 2, n / 2, 1);
}

static void changes_agree(void) {
    const change changes[] = {do_add,  do_scale, do_softcap,         do_silu,
                              do_gelu, do_rope,  do_interleaved_rope};
    const float widths[] = {1e-3f, 1, 30, 1e4f};
    for (size_t c = 0; c < sizeof changes / sizeof *changes; c++) {
        for (size_t l = 0; l < LENGTHS * 4; l++) {
            inputs in = make_inputs(widths[l % 4]), wanted = in;
            changes[c](&syn_ops_reference, wanted.x, wanted.y, lengths[l / 4]);
            for (int i = 0; i < fasts; i++) {
                inputs got = in;
                changes[c](syn_ops_for(fast[i]), got.x, got.y, lengths[l / 4]);
                check_same(got.x, wanted.x, LONGEST);
            }
        }
    }
}

static void exp_is_right_to_two_units(void) {
    for (float x = -86.9f; x < 88; x += 0.0137f) {
        double wanted = exp((double)x);
        CHECK(fabs(f32_exp(x) - wanted) <= wanted * 0x1p-23);
    }
    CHECK(f32_exp(0) == 1 && f32_exp(-0.0f) == 1);
    CHECK(f32_exp(-INFINITY) == 0 && f32_exp(-100) == 0);
    CHECK(f32_exp(INFINITY) == f32_exp(88));
}

static void activations_are_the_activations(void) {
    for (float x = -20; x < 20; x += 0.0371f) {
        double silu = x / (1 + exp(-(double)x)), inner = 0.7978845608 * (x + 0.044715 * x * x * x);
        double gelu = 0.5 * x * (1 + tanh(inner));
        CHECK(fabs(f32_silu(x) - silu) <= 4e-7 * fabs(silu) + 1e-12);
        CHECK(fabs(f32_gelu_tanh(x) - gelu) <= 2e-6 * fabs(gelu) + 1e-6);
        CHECK(fabs(f32_tanh(x) - tanh((double)x)) <= 3e-7);
    }
}

static void extremes_become_what_they_become_everywhere(void) {
    const float extremes[16] = {INFINITY, -INFINITY, NAN,    -NAN,  0,     -0.0f,  1e38f,  -1e38f,
                                65519,    65520,     -7e4f,  1e-40f, 6e-8f, -87.1f, -86.9f, 88.5f};
    float ones[16];
    for (int i = 0; i < 16; i++) ones[i] = 1;
    for (int i = 0; i < fasts; i++) {
        float got[16], wanted[16];
        for (int kind = SYN_SILU; kind <= SYN_GELU_TANH; kind++) {
            syn_ops_reference.gate(kind, extremes, ones, 16, wanted);
            syn_ops_for(fast[i])->gate(kind, extremes, ones, 16, got);
            for (int j = 0; j < 16; j++)
                CHECK(isnan(wanted[j]) ? isnan(got[j]) : got[j] == wanted[j]);
        }
    }
}

static void stores_agree_for(int type, int64_t head_dim, float width) {
    syn_kv wanted, got;
    CHECK_EQUAL(syn_kv_new(&wanted, type, 1, 1, 1, head_dim), 0);
    CHECK_EQUAL(syn_kv_new(&got, type, 1, 1, 1, head_dim), 0);
    for (int i = 0; i < fasts; i++) {
        for (int64_t slot = 0; slot < BLOCK; slot++) {
            inputs in = make_inputs(slot == 7 ? 0 : width);
            if (slot == 9) in.x[3] = INFINITY, in.y[5] = -1e30f;
            if (slot == 9 && type == SYN_KV_INT8) in.x[3] = in.y[5] = 1;
            syn_ops_reference.store(&wanted, wanted.data, slot, in.x, in.y);
            syn_ops_for(fast[i])->store(&got, got.data, slot, in.x, in.y);
        }
        CHECK(!memcmp(got.data, wanted.data, wanted.bytes));
    }
    syn_kv_free(&wanted);
    syn_kv_free(&got);
}

static void stores_agree(void) {
    for (int type = SYN_KV_BF16; type <= SYN_KV_F32; type++) {
        stores_agree_for(type, 16, 1);
        stores_agree_for(type, 80, 1e-6f);
        stores_agree_for(type, 128, 300);
    }
}

static void bf16_rounds_to_the_nearest_even(void) {
    CHECK_EQUAL(bf16_from_f32(f32_from_bits(0x3f808000)), 0x3f80);
    CHECK_EQUAL(bf16_from_f32(f32_from_bits(0x3f818000)), 0x3f82);
    CHECK_EQUAL(bf16_from_f32(f32_from_bits(0x3f808001)), 0x3f81);
    CHECK_EQUAL(bf16_from_f32(INFINITY), 0x7f80);
    CHECK(isnan(bf16_to_f32(bf16_from_f32(f32_from_bits(0x7f800001)))));
    CHECK(f16_to_f32(f16_from_f32(1e9f)) == F16_MAX);
}

int main(void) {
    find_fast();
    RUN(norms_agree);
    RUN(a_norm_is_the_norm);
    RUN(changes_agree);
    RUN(exp_is_right_to_two_units);
    RUN(activations_are_the_activations);
    RUN(extremes_become_what_they_become_everywhere);
    RUN(stores_agree);
    RUN(bf16_rounds_to_the_nearest_even);
    return 0;
}
