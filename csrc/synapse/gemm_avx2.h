/* SPDX-License-Identifier: BUSL-1.1 */
/* A block of half a panel (8 outputs) in AVX2 registers; side: 0 or 1, which half. */
#ifndef SYN_GEMM_AVX2_H
#define SYN_GEMM_AVX2_H

#include <immintrin.h>

#include "gemm_kernel.h"

/* All ones in the bytes whose bit is set. */
SYN_INLINE __m256i syn_spread_256(uint32_t bits) {
    const __m256i byte = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202,
                                            0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((int64_t)0x8040201008040201);
    __m256i x = _mm256_shuffle_epi8(_mm256_set1_epi32((int32_t)bits), byte);
    return _mm256_cmpeq_epi8(_mm256_and_si256(x, bit), bit);
}

/* Weights of inputs 4g .. 4g + 3 as [8 n][4] int8. */
SYN_INLINE __m256i syn_weights_256(syn_layout l, const uint8_t *codes, int g, int side) {
    const uint8_t *at = codes + 32 * side;
    if (l.bits == 8) return _mm256_loadu_si256((const __m256i *)(at + 64 * g));
    __m256i x = _mm256_loadu_si256((const __m256i *)(at + 64 * (g % 4)));
    x = _mm256_and_si256(g < 4 ? x : _mm256_srli_epi16(x, 4), _mm256_set1_epi8(15));
    for (int plane = 4; plane < l.bits; plane++) {
        uint32_t set;
        memcpy(&set, codes + 64 * plane + 8 * g + 4 * side, sizeof set);
        __m256i bit = _mm256_set1_epi8((char)(1 << plane));
        x = _mm256_add_epi8(x, _mm256_and_si256(syn_spread_256(set), bit));
    }
    return l.offset ? _mm256_sub_epi8(x, _mm256_set1_epi8((char)l.offset)) : x;
}

SYN_INLINE __m256 syn_halves_256(const uint8_t *at, int side) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(at + 16 * side)));
}

/* Scales [8 n] of half h of the block. */
SYN_INLINE __m256 syn_scale_256(syn_layout l, syn_place at, int h, int side) {
    if (!l.k_block) return syn_halves_256(at.scales, side);
    __m128i sc = _mm_loadl_epi64((const __m128i *)(at.scales + 16 * h + 8 * side));
    __m256 scale = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(sc));
    return _mm256_mul_ps(syn_halves_256(at.head, side), scale);
}

SYN_INLINE __m256 syn_minimum_256(syn_layout l, syn_place at, int side) {
    if (!l.minima) return _mm256_setzero_ps();
    if (!l.k_block) return syn_halves_256(at.scales + 32, side);
    __m128i mn = _mm_loadl_epi64((const __m128i *)(at.scales + 16 * l.halves + 8 * side));
    __m256 m = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(mn));
    return _mm256_xor_ps(_mm256_mul_ps(syn_halves_256(at.head + 32, side), m),
                         _mm256_set1_ps(-0.0f));
}

/* Lanes below the matrix's last output. */
SYN_INLINE __m256i syn_tail_256(int64_t rows, int64_t n0) {
    int64_t n = rows - n0;
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int32_t)(n < 8 ? n : 8)), lane);
}

SYN_INLINE void syn_write_256(const syn_gemm_call *c, int64_t row, int64_t n0, __m256 acc) {
    float *out = c->out + row * c->ldo + n0;
    __m256i mask = syn_tail_256(c->w->rows, n0);
    if (c->add) acc = _mm256_add_ps(_mm256_maskload_ps(out, mask), acc);
    _mm256_maskstore_ps(out, mask, acc);
}

#endif
