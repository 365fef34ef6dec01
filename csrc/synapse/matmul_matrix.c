/* SPDX-License-Identifier: BUSL-1.1 */
/* A matrix over packed bytes, and its weights one by one. */
#include <stdlib.h>

#include "pack.h"

int syn_matrix_view(syn_matrix **out, int type, int64_t rows, int64_t columns, const void *packed,
                    uint64_t bytes) {
    int64_t needed = syn_packed_bytes(type, rows, columns);
    if (needed < 0) return (int)needed;
    if (bytes < (uint64_t)needed)
        return FAIL(SYN_E_ARGUMENT, "the packed matrix has %llu bytes, %lld are needed",
                    (unsigned long long)bytes, (long long)needed);
    if ((uintptr_t)packed % 64)
        return FAIL(SYN_E_ARGUMENT, "packed bytes start at a multiple of 64");
    syn_matrix *w = calloc(1, sizeof *w);
    if (!w) return FAIL(SYN_E_MEMORY, "no memory for a matrix");
    w->layout = *syn_layout_find(type);
    w->rows = rows;
    w->columns = columns;
    w->panels = (rows + SYN_PANEL - 1) / SYN_PANEL;
    w->panel_bytes = syn_layout_panel_bytes(&w->layout, columns);
    w->data = packed;
    *out = w;
    return SYN_OK;
}

void syn_matrix_free(syn_matrix *w) { free(w); }

int64_t syn_matrix_rows(const syn_matrix *w) { return w->rows; }
int64_t syn_matrix_columns(const syn_matrix *w) { return w->columns; }
int64_t syn_matrix_panels(const syn_matrix *w) { return w->panels; }

int syn_matrix_form(const syn_matrix *w, int wanted) {
    return w->layout.bits ? wanted : SYN_ACT_F32;
}

/* The code of input k, output n. */
static int code_at(const syn_layout *l, const uint8_t *block, int k, int n) {
    if (l->bits == 8) return (int8_t)block[64 * (k / 4) + 4 * n + k % 4];
    int byte = block[64 * (k % 16 / 4) + 4 * n + k % 4];
    int code = k < 16 ? byte & 15 : byte >> 4;
    for (int plane = 4; plane < l->bits; plane++) {
        int bits = block[64 * plane + 8 * (k / 4) + n / 2] >> n % 2 * 4;
        code |= (bits >> k % 4 & 1) << plane;
    }
    return code;
}

static float half_at(const uint8_t *halves, int n) {
    uint16_t half;
    memcpy(&half, halves + 2 * n, 2);
    return syn_half_float(half);
}

static void scales_at(const syn_layout *l, const uint8_t *panel, int64_t block, int n,
                      syn_weights *out) {
    const uint8_t *scales = panel + syn_layout_block_at(l, block) + syn_layout_codes_bytes(l);
    if (!l->k_block) {
        out->d[0][n] = out->d[1][n] = half_at(scales, n);
        out->m[n] = l->minima ? half_at(scales + 32, n) : 0;
        return;
    }
    const uint8_t *head = panel + syn_layout_block_at(l, block / 8 * 8) - syn_layout_head_bytes(l);
    for (int h = 0; h < 2; h++)
        out->d[h][n] = half_at(head, n) * (float)(int8_t)scales[16 * (h % l->halves) + n];
    out->m[n] = l->minima ? -(half_at(head + 32, n) * (float)scales[16 * l->halves + n]) : 0;
}

void syn_unpack_block(const syn_matrix *w, int64_t panel, int64_t block, syn_weights *out) {
    const uint8_t *data = w->data + (size_t)panel * w->panel_bytes;
    const uint8_t *codes = data + syn_layout_block_at(&w->layout, block);
    for (int n = 0; n < SYN_PANEL; n++) {
        scales_at(&w->layout, data, block, n, out);
        for (int k = 0; k < SYN_BLOCK; k++)
            out->q[k][n] = (int8_t)(code_at(&w->layout, codes, k, n) - w->layout.offset);
    }
}

float syn_float_weight(const syn_matrix *w, int64_t panel, int64_t k, int n) {
    const uint8_t *data = w->data + (size_t)panel * w->panel_bytes;
    size_t index = (size_t)k * SYN_PANEL + (size_t)n;
    if (w->layout.type == SYN_F32) {
        float value;
        memcpy(&value, data + 4 * index, 4);
        return value;
    }
    uint16_t bits;
    memcpy(&bits, data + 2 * index, 2);
    return w->layout.type == SYN_F16 ? syn_half_float(bits) : syn_bf16_float(bits);
}

/* The values of output n: d * q is exact, so that adding m is the only rounding. */
static void quantised_row(const syn_matrix *w, int64_t panel, int n, float *out) {
    const syn_layout *l = &w->layout;
    const uint8_t *data = w->data + (size_t)panel * w->panel_bytes;
    syn_weights scales;
    for (int64_t b = 0; b < w->columns / SYN_BLOCK; b++) {
        const uint8_t *codes = data + syn_layout_block_at(l, b);
        scales_at(l, data, b, n, &scales);
        for (int k = 0; k < SYN_BLOCK; k++) {
            float value = scales.d[k / 16][n] * (float)(code_at(l, codes, k, n) - l->offset);
            out[b * SYN_BLOCK + k] = l->minima ? value + scales.m[n] : value;
        }
    }
}

int syn_matrix_row(const syn_matrix *w, int64_t row, float *out) {
    if (row < 0 || row >= w->rows)
        return FAIL(SYN_E_ARGUMENT, "row %lld of a matrix with %lld", (long long)row,
                    (long long)w->rows);
    int64_t panel = row / SYN_PANEL;
    int n = (int)(row % SYN_PANEL);
    if (w->layout.bits)
        quantised_row(w, panel, n, out);
    else
        for (int64_t k = 0; k < w->columns; k++) out[k] = syn_float_weight(w, panel, k, n);
    return SYN_OK;
}
