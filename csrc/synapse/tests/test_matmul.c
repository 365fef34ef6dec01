/* SPDX-License-Identifier: BUSL-1.1 */
/* Every kernel against the reference, bit by bit, in arrays that end where they have to. */
#include <math.h>
#include <string.h>

#include "check.h"
#include "gemm.h"

static const int types[] = {SYN_F32,  SYN_F16,  SYN_BF16, SYN_Q4_0, SYN_Q4_1, SYN_Q5_0,
                            SYN_Q5_1, SYN_Q8_0, SYN_Q4_K, SYN_Q5_K, SYN_Q6_K};
/* After the instruction sets: tiles in plain C, on AVX-512. */
enum { EMULATED = SYN_AMX + 1 };
static const float guard = -12345.0f;
static uint32_t state = 1;

static uint32_t number(void) {
    state = state * 1664525 + 1013904223;
    return state >> 8;
}

static float uniform(void) { return (float)number() / 0x1p23f - 1; }

/* Random bytes, which for float types are random bits: infinities and NaNs among them. */
static uint8_t *random_bytes(int64_t bytes) {
    uint8_t *data = malloc((size_t)bytes);
    CHECK(data);
    for (int64_t i = 0; i < bytes; i++) data[i] = (uint8_t)number();
    return data;
}

static uint8_t *random_weights(int type, int64_t rows, int64_t columns) {
    int64_t bytes = rows * syn_row_bytes(type, columns);
    uint8_t *data = random_bytes(bytes);
    if (type == SYN_F32) {
        for (int64_t i = 0; i < rows * columns; i++) {
            float value = uniform();
            memcpy(data + 4 * i, &value, 4);
        }
    }
    return data;
}

static syn_matrix *pack(int type, int64_t rows, int64_t columns, void **packed) {
    uint8_t *data = random_weights(type, rows, columns);
    int64_t size = syn_packed_bytes(type, rows, columns);
    syn_matrix *w = NULL;
    *packed = aligned_alloc(64, (size_t)size);
    CHECK(*packed);
    uint64_t bytes = (uint64_t)(rows * syn_row_bytes(type, columns));
    int64_t middle = rows / 32 * 16;
    CHECK(syn_pack(type, data, bytes, rows, columns, middle, rows, *packed) == SYN_OK);
    CHECK(syn_pack(type, data, bytes, rows, columns, 0, middle, *packed) == SYN_OK);
    CHECK(syn_matrix_view(&w, type, rows, columns, *packed, (uint64_t)size) == SYN_OK);
    free(data);
    return w;
}

static void *room(size_t bytes) {
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    CHECK(memory);
    return memory;
}

/* One row in eight has a zero block, a huge one, a tiny one, an infinity or a NaN. */
static void fill_row(float *x, int64_t columns) {
    static const float odd[] = {0, 1e30f, 1e-39f, INFINITY, NAN, 3.4e38f};
    for (int64_t k = 0; k < columns; k++) x[k] = uniform() * 3 + 1;
    if (number() % 8) return;
    float value = odd[number() % (sizeof odd / sizeof *odd)];
    for (int64_t k = 0; k < columns && k < 32; k++) x[k] = value * uniform();
    if (!isfinite(value)) x[number() % (uint32_t)columns] = value;
}

static int same(float a, float b) { return (isnan(a) && isnan(b)) || !memcmp(&a, &b, sizeof a); }

typedef struct {
    const syn_matrix *w;
    int form;
    const float *x;
    int64_t m, ldo, p0, p1;
    int add;
} job;

/* out: m rows of ldo floats, the last one without its tail */
static float *multiply(int isa, const job *j) {
    int64_t rows = syn_matrix_rows(j->w), columns = syn_matrix_columns(j->w);
    int64_t size = (j->m - 1) * j->ldo + rows;
    size_t stride = syn_act_bytes(j->form, columns);
    float *out = malloc((size_t)size * sizeof *out);
    uint8_t *acts = room((size_t)j->m * stride), *scratch = room(syn_gemm_scratch(j->w));
    CHECK(out);
    for (int64_t i = 0; i < size; i++) out[i] = guard;
    int set = isa == EMULATED ? SYN_AVX512 : isa;
    for (int64_t i = 0; i < j->m; i++)
        syn_act_quantise(set, j->form, j->x + i * columns, columns, acts + (size_t)i * stride);
    syn_gemm_call call = {
        .w = j->w, .form = j->form, .acts = acts, .stride = stride, .m = j->m, .out = out,
        .ldo = j->ldo, .p0 = j->p0, .p1 = j->p1, .add = j->add, .scratch = scratch,
    };
    if (isa == EMULATED && j->form != SYN_ACT_F32)
        syn_gemm_emulated(&call);
    else
        syn_gemm(set, j->w, j->form, acts, j->m, out, j->ldo, j->p0, j->p1, j->add, scratch);
    free(acts);
    free(scratch);
    return out;
}

static void compare(int isa, const job *j) {
    int64_t rows = syn_matrix_rows(j->w);
    float *wanted = multiply(SYN_REFERENCE, j), *got = multiply(isa, j);
    for (int64_t i = 0; i < (j->m - 1) * j->ldo + rows; i++) {
        int64_t n = i % j->ldo;
        int inside = n >= 16 * j->p0 && n < 16 * j->p1 && n < rows;
        CHECK(same(got[i], wanted[i]));
        CHECK(inside || same(got[i], guard));
    }
    free(wanted);
    free(got);
}

static void compare_all(int type, int64_t rows, int64_t columns, int64_t m) {
    void *packed;
    syn_matrix *w = pack(type, rows, columns, &packed);
    float *x = malloc((size_t)(m * columns) * sizeof *x);
    CHECK(x);
    for (int64_t i = 0; i < m; i++) fill_row(x + i * columns, columns);
    for (int form = SYN_ACT_8; form <= SYN_ACT_16; form++) {
        int64_t panels = syn_matrix_panels(w), p0 = number() % (uint32_t)panels;
        int64_t p1 = p0 + 1 + number() % (uint32_t)(panels - p0);
        job j = {w, syn_matrix_form(w, form), x, m, rows + number() % 5, 0, panels, 0};
        job part = {w, j.form, x, m, j.ldo, p0, p1, 1};
        for (int isa = SYN_AVX2; isa <= EMULATED; isa++) {
            if (!syn_isa_available(isa == EMULATED ? SYN_AVX512 : isa)) continue;
            compare(isa, &j);
            compare(isa, &part);
        }
    }
    syn_matrix_free(w);
    free(packed);
    free(x);
}

static void kernels_equal_the_reference(void) {
    static const int64_t shapes[][3] = {
        /* outputs, blocks of inputs, rows of activations */
        {16, 1, 1}, {1, 1, 1},   {33, 2, 2},  {48, 3, 3},   {17, 1, 4},  {31, 2, 5},
        {80, 1, 7}, {15, 3, 12}, {64, 1, 13}, {129, 1, 16}, {24, 2, 33}, {40, 1, 67},
    };
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        int64_t block = types[t] >= SYN_Q4_K && types[t] <= SYN_Q6_K ? 256 : 32;
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            compare_all(types[t], shapes[s][0], shapes[s][1] * block, shapes[s][2]);
    }
}

static void floats_take_any_number_of_inputs(void) {
    static const int floats[] = {SYN_F32, SYN_F16, SYN_BF16};
    for (int t = 0; t < 3; t++) {
        for (int64_t columns = 1; columns < 20; columns += 6)
            compare_all(floats[t], 19, columns, 14);
    }
}

int main(void) {
    RUN(kernels_equal_the_reference);
    RUN(floats_take_any_number_of_inputs);
    return 0;
}
