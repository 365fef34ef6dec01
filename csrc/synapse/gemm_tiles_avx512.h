/* SPDX-License-Identifier: BUSL-1.1 */
/* Quantised weights on int8 tiles: 16 rows of activations at a time; fewer go to the vectors.
 *
 * A tile instruction multiplies a block of 32 inputs: 16 rows x 16 outputs at once. Its sums are
 * stored and taken into the float sums by vectors, since every block has its own scales; that, not
 * the tiles, is the limit. 12-bit activations are cut into a low and a high byte:
 *     isum = sum(low * q) + 256 * sum(high * q) */
#ifndef SYN_GEMM_TILES_AVX512_H
#define SYN_GEMM_TILES_AVX512_H

#include "amx_tiles.h"
#include "gemm_walk_avx512.h"

enum { TALL = 16 /* rows of a tile */ };

/* In c->scratch. */
typedef struct {
    sums sum;                          /* first: the walk knows it */
    int32_t high[ROWS * PANELS][SYN_PANEL]; /* like sum.isum, of the high bytes */
    uint8_t weights[2][PANELS][8][64]; /* of each half of a block, or of all of it in the first */
    uint8_t planes[];                  /* [ROWS][blocks][low 32, high 32] of 12-bit activations */
} tile_scratch;

/* int16 -> low and high bytes, in the order that they lie in (0 2 1 3 of each four). */
static void split_planes(const syn_gemm_call *c, int64_t i0, int64_t rows) {
    int64_t blocks = c->w->columns / SYN_BLOCK;
    uint8_t *to = ((tile_scratch *)c->scratch)->planes;
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t b = 0; b < blocks; b++, to += 64) {
            __m512i x = _mm512_loadu_si512(activations(c, i0 + i, b));
            _mm256_storeu_si256((__m256i *)to, _mm512_cvtepi16_epi8(x));
            __m512i high = _mm512_srai_epi16(x, 8);
            _mm256_storeu_si256((__m256i *)(to + 32), _mm512_cvtepi16_epi8(high));
        }
    }
}

/* Each half's tile has zeros where the other half's inputs are.
 * total: sum of weights of a half, as the low 16 bits of 32 */
SYN_INLINE void unpack(syn_layout l, int form, const syn_place at, int p, tile_scratch *s,
                       __m512i *total) {
    const __m512i order = _mm512_set4_epi32(0x0f0d0e0c, 0x0b090a08, 0x07050604, 0x03010200);
    const __m512i zero = _mm512_setzero_si512(), ones = _mm512_set1_epi8(1);
    total[0] = total[1] = zero;
    for (int g = 0; g < 8; g++) {
        int h = l.halves == 2 ? g / 4 : 0;
        __m512i w = syn_weights_512(l, at.codes, g);
        total[h] = _mm512_dpbusd_epi32(total[h], ones, w);
        if (form == SYN_ACT_16) w = _mm512_shuffle_epi8(w, order);
        _mm512_store_si512(s->weights[h][p][g], w);
        if (l.halves == 2) _mm512_store_si512(s->weights[!h][p][g], zero);
    }
    for (int h = 0; h < 2; h++) total[h] = _mm512_and_si512(total[h], _mm512_set1_epi32(0xffff));
}

/* Sums of TALL rows from row i with the weights in tiles 6 and 7 -> s->sum.isum, s->high. */
SYN_INLINE void multiply(int form, int count, const syn_gemm_call *c, int64_t i0, int64_t i,
                         int64_t b, tile_scratch *s) {
    const size_t across = (size_t)count * sizeof s->high[0];
    tile_zero(TILE_SUM(0));
    tile_zero(TILE_SUM(1));
    if (form == SYN_ACT_8) {
        tile_load(TILE_ACT(0), activations(c, i0 + i, b), c->stride);
        tile_dot_us(TILE_SUM(0), TILE_ACT(0), TILE_WGT(0));
        if (count == 2) tile_dot_us(TILE_SUM(1), TILE_ACT(0), TILE_WGT(1));
    } else {
        size_t stride = 64 * (size_t)(c->w->columns / SYN_BLOCK);
        const uint8_t *low = s->planes + (size_t)i * stride + 64 * (size_t)b;
        tile_zero(TILE_SUM(2));
        tile_zero(TILE_SUM(3));
        tile_load(TILE_ACT(0), low, stride);
        tile_load(TILE_ACT(1), low + 32, stride);
        tile_dot_us(TILE_SUM(0), TILE_ACT(0), TILE_WGT(0));
        tile_dot_ss(TILE_SUM(2), TILE_ACT(1), TILE_WGT(0));
        if (count == 2) {
            tile_dot_us(TILE_SUM(1), TILE_ACT(0), TILE_WGT(1));
            tile_dot_ss(TILE_SUM(3), TILE_ACT(1), TILE_WGT(1));
        }
        tile_store(TILE_SUM(2), s->high[i * count], across);
        if (count == 2) tile_store(TILE_SUM(3), s->high[i * count + 1], across);
    }
    tile_store(TILE_SUM(0), s->sum.isum[i * count], across);
    if (count == 2) tile_store(TILE_SUM(1), s->sum.isum[i * count + 1], across);
}

/* The stored sums of TALL rows into the float ones. */
SYN_INLINE void drain(syn_layout l, int form, int count, const syn_gemm_call *c, int64_t i0,
                      int64_t i, int64_t b, int first, int last, const __m512i *total,
                      const __m512 *d, const __m512 *m, tile_scratch *s) {
    for (int64_t row = i; row < i + TALL; row++) {
        const syn_act8 *a = (const syn_act8 *)activations(c, i0 + row, b);
        const syn_act16 *a16 = (const syn_act16 *)a;
        for (int p = 0; p < count; p++) {
            __m512i isum = _mm512_load_si512(s->sum.isum[row * count + p]), more;
            if (form == SYN_ACT_8)
                more = _mm512_madd_epi16(total[p], _mm512_set1_epi32(a->z));
            else
                more = _mm512_slli_epi32(_mm512_load_si512(s->high[row * count + p]), 8);
            finish(l, _mm512_add_epi32(isum, more), d[p], m[p], form == SYN_ACT_8 ? a->s : a16->s,
                   form == SYN_ACT_8 ? a->x : a16->x, first, last,
                   s->sum.acc[row * count + p]);
        }
    }
}

SYN_INLINE void block(syn_layout l, int form, int count, const syn_place *at,
                      const syn_gemm_call *c, int64_t i0, int64_t rows, int64_t b, int first,
                      sums *out) {
    tile_scratch *s = (tile_scratch *)out;
    __m512i totals[PANELS][2], total[PANELS];
    __m512 d[PANELS], m[PANELS];
    for (int p = 0; p < count; p++) unpack(l, form, at[p], p, s, totals[p]);
    for (int h = 0; h < l.halves; h++) {
        for (int p = 0; p < count; p++) {
            total[p] = totals[p][h];
            d[p] = syn_scale_512(l, at[p], h);
            m[p] = syn_minimum_512(l, at[p]);
        }
        tile_load(TILE_WGT(0), s->weights[h][0], 64);
        if (count == 2) tile_load(TILE_WGT(1), s->weights[h][1], 64);
        /* One group behind: stored tiles take their time to arrive. */
        for (int64_t i = 0; i < rows + TALL; i += TALL) {
            if (i < rows) multiply(form, count, c, i0, i, b, s);
            if (i)
                drain(l, form, count, c, i0, i - TALL, b, first && !h, h == l.halves - 1, total, d,
                      m, s);
        }
    }
}

/* Rows that fill tiles; those that do not are left. */
SYN_INLINE void kernel(syn_layout l, int form, const syn_gemm_call *c) {
    int64_t full = c->m / TALL * TALL;
    for (int64_t i0 = 0; i0 < full; i0 += ROWS) {
        int64_t rows = full - i0 < ROWS ? full - i0 : ROWS;
        if (form == SYN_ACT_16) split_planes(c, i0, rows);
        walk_panels(block, l, form, c, i0, rows);
    }
}

SYN_KERNELS()

static void multiply_by_tiles(const syn_gemm_call *c) {
    int64_t full = c->m / TALL * TALL;
    if (full) {
        tile_configure();
        by_type(c);
        tile_release();
    }
    if (full == c->m) return;
    syn_gemm_call rest = *c;
    rest.acts += (size_t)full * c->stride;
    rest.out += full * c->ldo;
    rest.m -= full;
    syn_gemm_avx512(&rest);
}

#endif
