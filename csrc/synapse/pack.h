/* SPDX-License-Identifier: BUSL-1.1 */
/* Packed matrices: one layout for every instruction set.
 *
 * A matrix is a row of panels of 16 outputs n (the last one padded with zeros). A panel of float
 * weights is [columns][16] numbers. A panel of quantised weights is a row of blocks of 32 inputs:
 *
 *     codes   4 bits: [4][16 n][4] bytes, byte (j, n, t) with the codes of inputs 4j + t (low) and
 *             4j + t + 16 (high), so that the low and the high nibbles of 64 bytes are each a
 *             vector [16 n][4 k] as the dot instructions want it
 *     planes  5 and 6 bits: [1 or 2][8][64 bits], bit (g, 4n + t) for input 4g + t
 *             8 bits: instead of both, [8][16 n][4] int8
 *     scales  d [16] half floats, then m [16] half floats if there are minima
 *
 * K types have, in front of each eight blocks, d [16] and (with minima) dmin [16] half floats, and
 * as each block's scales sc [1 or 2][16] int8, then (with minima) mn [16] uint8. Then the scale is
 * d * sc and the minimum -dmin * mn, both exact in float32. */
#ifndef SYN_PACK_H
#define SYN_PACK_H

#include "matmul.h"
#include "quant.h"

typedef struct {
    int type;
    int bits;    /* of a code: 4, 5, 6 or 8; 0: float weights */
    int offset;  /* q = code - offset */
    int minima;  /* there is an m */
    int k_block; /* a K type */
    int halves;  /* scales per block of 32 inputs */
} syn_layout;

struct syn_matrix {
    syn_layout layout;
    int64_t rows, columns, panels;
    size_t panel_bytes;
    const uint8_t *data;
};

/* NULL: an unknown type. */
const syn_layout *syn_layout_find(int type);

size_t syn_layout_panel_bytes(const syn_layout *layout, int64_t columns);

/* A block of one panel as numbers, for whom speed is nothing. */
typedef struct {
    int8_t q[SYN_BLOCK][SYN_PANEL];
    float d[2][SYN_PANEL], m[SYN_PANEL]; /* scale of each half */
} syn_weights;

void syn_unpack_block(const syn_matrix *w, int64_t panel, int64_t block, syn_weights *out);

/* Weight (k, n of the panel) of a float matrix. */
float syn_float_weight(const syn_matrix *w, int64_t panel, int64_t k, int n);

static inline size_t syn_layout_codes_bytes(const syn_layout *l) { return 64 * (size_t)l->bits; }

static inline size_t syn_layout_block_bytes(const syn_layout *l) {
    size_t scales = l->k_block ? 16 * (size_t)(l->halves + l->minima)
                               : 32 * (size_t)(1 + l->minima);
    return syn_layout_codes_bytes(l) + scales;
}

/* In front of each eight blocks. */
static inline size_t syn_layout_head_bytes(const syn_layout *l) {
    return l->k_block ? 32 * (size_t)(1 + l->minima) : 0;
}

/* Where a block begins in its panel. */
static inline size_t syn_layout_block_at(const syn_layout *l, int64_t block) {
    size_t heads = l->k_block ? (size_t)(block / 8 + 1) : 0;
    return (size_t)block * syn_layout_block_bytes(l) + heads * syn_layout_head_bytes(l);
}

#endif
