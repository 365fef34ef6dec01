/* SPDX-License-Identifier: BUSL-1.1 */
/* One model file, whatever is in it: parsed, every array of strings walked, every tensor that is
 * small enough dequantised and packed. Under sanitizers this must only ever return.
 *
 * The entry is libFuzzer's (clang -fsanitize=fuzzer,address,undefined); test_fuzz_gguf.c drives
 * it without clang. */
#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "synapse/gguf_api.h"
#include "synapse/matrix_api.h"
#include "synapse/tensor_api.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { MOST_ELEMENTS = 1 << 14 };

static void walk_strings(const syn_gguf *gguf, const void *data, uint64_t bytes) {
    for (int64_t i = 0; i < syn_gguf_values(gguf); i++) {
        const syn_gguf_value *value = syn_gguf_value_at(gguf, i);
        if (value->kind != SYN_GGUF_ARRAY || value->element != SYN_GGUF_STRING) continue;
        uint64_t *places = calloc(value->count + 1, 2 * sizeof *places);
        if (syn_gguf_strings(value, data, bytes, places, places + value->count)) abort();
        for (uint64_t j = 0; j < value->count; j++)
            if (places[j] > places[value->count + j] || places[value->count + j] > bytes) abort();
        free(places);
    }
}

/* Through the packed form and back; its room is exactly what was announced. */
static void pack(const syn_gguf_tensor *t, const void *data, float *row) {
    int64_t size = syn_packed_bytes(t->type, t->rows, t->columns);
    if (size < 0) return;
    void *packed = aligned_alloc(64, (size_t)size);
    syn_matrix *matrix;
    if (packed &&
        !syn_pack(t->type, data, t->bytes, t->rows, t->columns, 0, t->rows, packed) &&
        !syn_matrix_view(&matrix, t->type, t->rows, t->columns, packed, (uint64_t)size)) {
        syn_matrix_row(matrix, t->rows - 1, row);
        syn_matrix_free(matrix);
    }
    free(packed);
}

static void compute(const syn_gguf_tensor *t, const uint8_t *data, uint64_t bytes) {
    if (t->offset > bytes || t->bytes > bytes - t->offset) abort();
    if (t->columns > MOST_ELEMENTS || t->rows > MOST_ELEMENTS / t->columns) return;
    float *out = malloc((size_t)(t->rows * t->columns) * sizeof *out);
    if (!syn_dequantise(t->type, data + t->offset, t->bytes, t->rows, t->columns, out))
        pack(t, data + t->offset, out);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes) {
    /* A block of its own, so that one byte too far is noticed. */
    uint8_t *data = malloc(bytes ? bytes : 1);
    memcpy(data, input, bytes);
    syn_gguf *gguf;
    if (!syn_gguf_open(&gguf, data, bytes)) {
        walk_strings(gguf, data, bytes);
        for (int64_t i = 0; i < syn_gguf_tensors(gguf); i++)
            compute(syn_gguf_tensor_at(gguf, i), data, bytes);
        syn_gguf_free(gguf);
    }
    free(data);
    return 0;
}
