/* SPDX-License-Identifier: BUSL-1.1 */
/* Number formats: half floats, and the blocks that GGUF's quantised types are made of. */
#ifndef SYN_QUANT_H
#define SYN_QUANT_H

#include <string.h>

#include "matmul.h"

enum { SYN_BLOCK = 32 /* values that share a scale */, SYN_SUPER = 256 /* values of a K block */ };

/* Blocks of 32. value = d * (q - 8), d * q + m, d * (q - 16), d * q + m, d * q. Byte i of qs holds
 * the low four bits of values i and i + 16; bit k of qh is the fifth bit of value k. */
typedef struct { uint16_t d; uint8_t qs[16]; } block_q4_0;
typedef struct { uint16_t d, m; uint8_t qs[16]; } block_q4_1;
typedef struct { uint16_t d; uint8_t qh[4], qs[16]; } block_q5_0;
typedef struct { uint16_t d, m; uint8_t qh[4], qs[16]; } block_q5_1;
typedef struct { uint16_t d; int8_t qs[32]; } block_q8_0;

/* Blocks of 256. value = d * scale * q - dmin * minimum per 32 values (Q4_K, Q5_K), or
 * d * scale * (q - 32) per 16 values (Q6_K). */
typedef struct { uint16_t d, dmin; uint8_t scales[12], qs[128]; } block_q4_k;
typedef struct { uint16_t d, dmin; uint8_t scales[12], qh[32], qs[128]; } block_q5_k;
typedef struct { uint8_t ql[128], qh[64]; int8_t scales[16]; uint16_t d; } block_q6_k;

_Static_assert(sizeof(block_q4_0) == 18 && sizeof(block_q4_1) == 20, "as in the file");
_Static_assert(sizeof(block_q5_0) == 22 && sizeof(block_q5_1) == 24, "as in the file");
_Static_assert(sizeof(block_q8_0) == 34 && sizeof(block_q4_k) == 144, "as in the file");
_Static_assert(sizeof(block_q5_k) == 176 && sizeof(block_q6_k) == 210, "as in the file");

/* One block of any type, taken apart: codes as stored, scales as they multiply. A block of 32 has
 * one scale; a K block of 256 has `scale` per 32 or 16 values on top of d. */
typedef struct {
    uint8_t q[SYN_SUPER]; /* codes; int8 for Q8_0 */
    uint16_t d, m;        /* half floats: scale and minimum, or d and dmin */
    int8_t scale[16];
    uint8_t minimum[8];
} syn_codes;

typedef struct {
    int type;
    const char *name;
    int values, bytes; /* of a block */
    void (*split)(const void *block, syn_codes *codes);
} syn_type_info;

/* NULL: an unknown type. */
const syn_type_info *syn_type_find(int type);

static inline float syn_bits_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float syn_bf16_float(uint16_t bits) { return syn_bits_float((uint32_t)bits << 16); }

static inline float syn_half_float(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7fff;
    if (magnitude >= 0x7c00) return syn_bits_float(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
    /* The exponent's bias differs by 112; the product is exact, subnormals included. */
    float value = syn_bits_float(magnitude << 13) * 0x1p112f;
    return sign ? -value : value;
}

#endif
