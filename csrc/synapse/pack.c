/* SPDX-License-Identifier: BUSL-1.1 */
/* From the file's order of weights to that of the kernels. */
#include "pack.h"

static const syn_layout layouts[] = {
    {SYN_F32, 0, 0, 0, 0, 0},  {SYN_F16, 0, 0, 0, 0, 0},  {SYN_BF16, 0, 0, 0, 0, 0},
    {SYN_Q4_0, 4, 8, 0, 0, 1}, {SYN_Q4_1, 4, 0, 1, 0, 1}, {SYN_Q5_0, 5, 16, 0, 0, 1},
    {SYN_Q5_1, 5, 0, 1, 0, 1}, {SYN_Q8_0, 8, 0, 0, 0, 1}, {SYN_Q4_K, 4, 0, 1, 1, 1},
    {SYN_Q5_K, 5, 0, 1, 1, 1}, {SYN_Q6_K, 6, 32, 0, 1, 2},
};

const syn_layout *syn_layout_find(int type) {
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        if (layouts[i].type == type) return &layouts[i];
    }
    return NULL;
}

size_t syn_layout_panel_bytes(const syn_layout *l, int64_t columns) {
    if (!l->bits) return (size_t)columns * SYN_PANEL * (size_t)syn_type_find(l->type)->bytes;
    size_t blocks = (size_t)columns / SYN_BLOCK;
    return blocks * syn_layout_block_bytes(l) + blocks / 8 * syn_layout_head_bytes(l);
}

int64_t syn_packed_bytes(int type, int64_t rows, int64_t columns) {
    int64_t row = syn_row_bytes(type, columns), bytes;
    if (row < 0) return row;
    if (rows < 1 || rows > INT32_MAX)
        return FAIL(SYN_E_FORMAT, "a matrix of %lld rows", (long long)rows);
    int64_t panels = (rows + SYN_PANEL - 1) / SYN_PANEL;
    int64_t panel = (int64_t)syn_layout_panel_bytes(syn_layout_find(type), columns);
    if (__builtin_mul_overflow(panels, panel, &bytes) || bytes > INT64_MAX - 64)
        return FAIL(SYN_E_FORMAT, "a matrix of %lld x %lld does not fit into memory",
                    (long long)rows, (long long)columns);
    return (bytes + 63) / 64 * 64;
}

/* codes: [32] of output n -> its share of the block */
static void put_codes(const syn_layout *l, const uint8_t *q, int n, uint8_t *block) {
    for (int j = 0; j < 4; j++) {
        uint32_t low, high;
        memcpy(&low, q + 4 * j, 4);
        memcpy(&high, q + 4 * j + 16, 4);
        low = (low & 0x0f0f0f0f) | (high & 0x0f0f0f0f) << 4;
        memcpy(block + 64 * j + 4 * n, &low, 4);
    }
    for (int plane = 4; plane < l->bits; plane++) {
        for (int g = 0; g < 8; g++) {
            int bits = 0;
            for (int t = 0; t < 4; t++) bits |= (q[4 * g + t] >> plane & 1) << t;
            block[64 * plane + 8 * g + n / 2] |= (uint8_t)(bits << n % 2 * 4);
        }
    }
}

static void put_half(uint8_t *at, int n, uint16_t half) { memcpy(at + 2 * n, &half, 2); }

/* Blocks of 32 all lie in the file as d, m if there are minima, fifth bits, codes; and nibbles are
 * paired as ours are. So codes move in words of four.
 * from: the block of output n -> its share of the packed one */
static void put_plain(const syn_layout *l, const uint8_t *from, int n, uint8_t *block) {
    const uint8_t *fifth = from + 2 * (1 + l->minima), *codes = fifth + (l->bits == 5 ? 4 : 0);
    uint8_t *scales = block + syn_layout_codes_bytes(l);
    for (int j = 0; j < (l->bits == 8 ? 8 : 4); j++)
        memcpy(block + 64 * j + 4 * n, codes + 4 * j, 4);
    for (int g = 0; l->bits == 5 && g < 8; g++) {
        int bits = fifth[g / 2] >> g % 2 * 4 & 15;
        block[256 + 8 * g + n / 2] |= (uint8_t)(bits << n % 2 * 4);
    }
    memcpy(scales + 2 * n, from, 2);
    if (l->minima) memcpy(scales + 32 + 2 * n, from + 2, 2);
}

/* head: in front of eight blocks */
static void put_super(const syn_layout *l, const syn_codes *c, int n, uint8_t *head) {
    put_half(head, n, c->d);
    if (l->minima) put_half(head + 32, n, c->m);
    for (int b = 0; b < 8; b++) {
        uint8_t *block = head + syn_layout_head_bytes(l) + (size_t)b * syn_layout_block_bytes(l);
        uint8_t *scales = block + syn_layout_codes_bytes(l);
        put_codes(l, c->q + SYN_BLOCK * b, n, block);
        for (int h = 0; h < l->halves; h++)
            scales[16 * h + n] = (uint8_t)c->scale[b * l->halves + h];
        if (l->minima) scales[16 * l->halves + n] = c->minimum[b];
    }
}

/* data: `outputs` rows of the file -> one panel */
static void pack_plain(const syn_layout *l, const uint8_t *data, int outputs, int64_t columns,
                       uint8_t *panel) {
    size_t size = (size_t)syn_type_find(l->type)->bytes, step = syn_layout_block_bytes(l);
    size_t row = (size_t)(columns / SYN_BLOCK) * size;
    for (int64_t b = 0; b < columns / SYN_BLOCK; b++, data += size, panel += step) {
        if (outputs < SYN_PANEL || l->bits == 5) memset(panel, 0, step);
        for (int n = 0; n < outputs; n++) put_plain(l, data + (size_t)n * row, n, panel);
    }
}

static void pack_k(const syn_layout *l, const uint8_t *data, int outputs, int64_t columns,
                   uint8_t *panel) {
    const syn_type_info *info = syn_type_find(l->type);
    int64_t count = columns / SYN_SUPER;
    size_t step = 8 * syn_layout_block_bytes(l) + syn_layout_head_bytes(l);
    syn_codes codes = {0};
    memset(panel, 0, syn_layout_panel_bytes(l, columns));
    for (int64_t i = 0; i < count; i++) {
        for (int n = 0; n < outputs; n++) {
            info->split(data + (n * count + i) * info->bytes, &codes);
            put_super(l, &codes, n, panel + (size_t)i * step);
        }
    }
}

/* Inlined with a constant size. All but the last panel have 16 outputs, a constant too. */
static inline __attribute__((always_inline)) void transpose(size_t size, const uint8_t *data,
                                                            int outputs, int64_t columns,
                                                            uint8_t *panel) {
    for (int64_t k = 0; k < columns; k++, panel += SYN_PANEL * size) {
        for (int n = 0; n < outputs; n++)
            memcpy(panel + (size_t)n * size, data + (size_t)(n * columns + k) * size, size);
    }
}

static void pack_floats(size_t size, const uint8_t *data, int outputs, int64_t columns,
                        uint8_t *panel) {
    if (outputs < SYN_PANEL) {
        memset(panel, 0, (size_t)columns * SYN_PANEL * size);
        transpose(size, data, outputs, columns, panel);
    } else if (size == 4) {
        transpose(4, data, SYN_PANEL, columns, panel);
    } else {
        transpose(2, data, SYN_PANEL, columns, panel);
    }
}

static int bad_range(int64_t rows, int64_t row0, int64_t row1) {
    return row0 < 0 || row1 > rows || row0 > row1 || row0 % SYN_PANEL ||
           (row1 % SYN_PANEL && row1 != rows);
}

int syn_pack(int type, const void *data, uint64_t bytes, int64_t rows, int64_t columns,
             int64_t row0, int64_t row1, void *packed) {
    int64_t total = syn_packed_bytes(type, rows, columns), row = syn_row_bytes(type, columns);
    if (total < 0) return (int)total;
    if (bad_range(rows, row0, row1))
        return FAIL(SYN_E_ARGUMENT, "rows %lld to %lld of %lld are no whole panels",
                    (long long)row0, (long long)row1, (long long)rows);
    if (bytes / (uint64_t)row < (uint64_t)rows)
        return FAIL(SYN_E_FORMAT, "%llu bytes are not enough for %lld rows of %lld",
                    (unsigned long long)bytes, (long long)rows, (long long)row);
    const syn_layout *l = syn_layout_find(type);
    size_t size = syn_layout_panel_bytes(l, columns);
    for (int64_t n = row0; n < row1; n += SYN_PANEL) {
        const uint8_t *from = (const uint8_t *)data + n * row;
        uint8_t *panel = (uint8_t *)packed + (size_t)(n / SYN_PANEL) * size;
        int outputs = (int)(row1 - n < SYN_PANEL ? row1 - n : SYN_PANEL);
        if (l->bits)
            (l->k_block ? pack_k : pack_plain)(l, from, outputs, columns, panel);
        else
            pack_floats((size_t)syn_type_find(type)->bytes, from, outputs, columns, panel);
    }
    return SYN_OK;
}
