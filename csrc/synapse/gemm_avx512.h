/* SPDX-License-Identifier: BUSL-1.1 */
/* A block of a panel in AVX-512 registers. Functions are inlined with a constant layout, so that
 * every test on it is gone from the code. */
#ifndef SYN_GEMM_AVX512_H
#define SYN_GEMM_AVX512_H

#include <immintrin.h>

#include "gemm_kernel.h"

/* Weights of inputs 4g .. 4g + 3 as [16 n][4] int8. */
SYN_INLINE __m512i syn_weights_512(syn_layout l, const uint8_t *codes, int g) {
    if (l.bits == 8) return _mm512_loadu_si512(codes + 64 * g);
    __m512i x = _mm512_loadu_si512(codes + 64 * (g % 4));
    x = _mm512_and_si512(g < 4 ? x : _mm512_srli_epi16(x, 4), _mm512_set1_epi8(15));
    for (int plane = 4; plane < l.bits; plane++) {
        __mmask64 set;
        memcpy(&set, codes + 64 * plane + 8 * g, sizeof set);
        x = _mm512_mask_add_epi8(x, set, x, _mm512_set1_epi8((char)(1 << plane)));
    }
    return l.offset ? _mm512_sub_epi8(x, _mm512_set1_epi8((char)l.offset)) : x;
}

SYN_INLINE __m512 syn_halves_512(const uint8_t *at) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)at));
}

/* Scales [16 n] of half h of the block. */
SYN_INLINE __m512 syn_scale_512(syn_layout l, syn_place at, int h) {
    if (!l.k_block) return syn_halves_512(at.scales);
    __m128i sc = _mm_loadu_si128((const __m128i *)(at.scales + 16 * h));
    return _mm512_mul_ps(syn_halves_512(at.head), _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(sc)));
}

SYN_INLINE __m512 syn_minimum_512(syn_layout l, syn_place at) {
    if (!l.minima) return _mm512_setzero_ps();
    if (!l.k_block) return syn_halves_512(at.scales + 32);
    __m128i mn = _mm_loadu_si128((const __m128i *)(at.scales + 16 * l.halves));
    __m512 m = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(mn));
    return _mm512_xor_ps(_mm512_mul_ps(syn_halves_512(at.head + 32), m), _mm512_set1_ps(-0.0f));
}

#endif
