/* SPDX-License-Identifier: BUSL-1.1 */
/* GGUF's block types, taken apart. */
#include "quant.h"

/* qs: 16 bytes -> 32 codes of four bits */
static void nibbles(const uint8_t *qs, uint8_t *q) {
    for (int i = 0; i < 16; i++) {
        q[i] = qs[i] & 15;
        q[i + 16] = qs[i] >> 4;
    }
}

static void fifth_bits(const uint8_t *qh, uint8_t *q) {
    for (int k = 0; k < 32; k++) q[k] |= (uint8_t)((qh[k / 8] >> k % 8 & 1) << 4);
}

static void split_q4_0(const void *block, syn_codes *c) {
    const block_q4_0 *b = block;
    c->d = b->d;
    nibbles(b->qs, c->q);
}

static void split_q4_1(const void *block, syn_codes *c) {
    const block_q4_1 *b = block;
    c->d = b->d;
    c->m = b->m;
    nibbles(b->qs, c->q);
}

static void split_q5_0(const void *block, syn_codes *c) {
    const block_q5_0 *b = block;
    c->d = b->d;
    nibbles(b->qs, c->q);
    fifth_bits(b->qh, c->q);
}

static void split_q5_1(const void *block, syn_codes *c) {
    const block_q5_1 *b = block;
    c->d = b->d;
    c->m = b->m;
    nibbles(b->qs, c->q);
    fifth_bits(b->qh, c->q);
}

static void split_q8_0(const void *block, syn_codes *c) {
    const block_q8_0 *b = block;
    c->d = b->d;
    memcpy(c->q, b->qs, sizeof b->qs);
}

/* Eight 6-bit scales and minima in 12 bytes: four of each lie plainly, the others are cut into
 * four low bits of their own and two high bits on top of the plain ones. */
static void six_bits(const uint8_t *s, syn_codes *c) {
    for (int j = 0; j < 4; j++) {
        c->scale[j] = (int8_t)(s[j] & 63);
        c->minimum[j] = s[j + 4] & 63;
        c->scale[j + 4] = (int8_t)((s[j + 8] & 15) | s[j] >> 6 << 4);
        c->minimum[j + 4] = (uint8_t)(s[j + 8] >> 4 | s[j + 4] >> 6 << 4);
    }
}

/* Each 32 bytes of qs hold 64 values: the low nibbles, then the high ones. */
static void k_nibbles(const uint8_t *qs, uint8_t *q) {
    for (int j = 0; j < 4; j++) {
        for (int i = 0; i < 32; i++) {
            q[64 * j + i] = qs[32 * j + i] & 15;
            q[64 * j + 32 + i] = qs[32 * j + i] >> 4;
        }
    }
}

static void split_q4_k(const void *block, syn_codes *c) {
    const block_q4_k *b = block;
    c->d = b->d;
    c->m = b->dmin;
    six_bits(b->scales, c);
    k_nibbles(b->qs, c->q);
}

static void split_q5_k(const void *block, syn_codes *c) {
    const block_q5_k *b = block;
    c->d = b->d;
    c->m = b->dmin;
    six_bits(b->scales, c);
    k_nibbles(b->qs, c->q);
    for (int j = 0; j < 8; j++) {
        for (int i = 0; i < 32; i++) c->q[32 * j + i] |= (uint8_t)((b->qh[i] >> j & 1) << 4);
    }
}

/* Per 128 values: 64 bytes of low nibbles (values 0..63 below, 64..127 above) and 32 bytes with
 * the high bit pairs of values i, i + 32, i + 64, i + 96. */
static void split_q6_k(const void *block, syn_codes *c) {
    const block_q6_k *b = block;
    c->d = b->d;
    memcpy(c->scale, b->scales, sizeof b->scales);
    for (int half = 0; half < 2; half++) {
        const uint8_t *ql = b->ql + 64 * half, *qh = b->qh + 32 * half;
        uint8_t *q = c->q + 128 * half;
        for (int i = 0; i < 32; i++) {
            q[i] = (uint8_t)((ql[i] & 15) | (qh[i] & 3) << 4);
            q[i + 32] = (uint8_t)((ql[i + 32] & 15) | (qh[i] >> 2 & 3) << 4);
            q[i + 64] = (uint8_t)(ql[i] >> 4 | (qh[i] >> 4 & 3) << 4);
            q[i + 96] = (uint8_t)(ql[i + 32] >> 4 | (qh[i] >> 6 & 3) << 4);
        }
    }
}

static const syn_type_info types[] = {
    {SYN_F32, "F32", 1, 4, NULL},
    {SYN_F16, "F16", 1, 2, NULL},
    {SYN_BF16, "BF16", 1, 2, NULL},
    {SYN_Q4_0, "Q4_0", SYN_BLOCK, sizeof(block_q4_0), split_q4_0},
    {SYN_Q4_1, "Q4_1", SYN_BLOCK, sizeof(block_q4_1), split_q4_1},
    {SYN_Q5_0, "Q5_0", SYN_BLOCK, sizeof(block_q5_0), split_q5_0},
    {SYN_Q5_1, "Q5_1", SYN_BLOCK, sizeof(block_q5_1), split_q5_1},
    {SYN_Q8_0, "Q8_0", SYN_BLOCK, sizeof(block_q8_0), split_q8_0},
    {SYN_Q4_K, "Q4_K", SYN_SUPER, sizeof(block_q4_k), split_q4_k},
    {SYN_Q5_K, "Q5_K", SYN_SUPER, sizeof(block_q5_k), split_q5_k},
    {SYN_Q6_K, "Q6_K", SYN_SUPER, sizeof(block_q6_k), split_q6_k},
};

const syn_type_info *syn_type_find(int type) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (types[i].type == type) return &types[i];
    }
    return NULL;
}

const char *syn_type_name(int type) {
    const syn_type_info *info = syn_type_find(type);
    return info ? info->name : NULL;
}

int64_t syn_row_bytes(int type, int64_t columns) {
    const syn_type_info *info = syn_type_find(type);
    if (!info) return FAIL(SYN_E_UNSUPPORTED, "tensor type %d is not supported", type);
    if (columns < 1 || columns > INT32_MAX)
        return FAIL(SYN_E_FORMAT, "a row of %lld values", (long long)columns);
    if (columns % info->values)
        return FAIL(SYN_E_FORMAT, "%lld columns are no whole blocks of %d, which %s is made of",
                    (long long)columns, info->values, info->name);
    return columns / info->values * info->bytes;
}
