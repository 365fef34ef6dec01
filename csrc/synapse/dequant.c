/* SPDX-License-Identifier: BUSL-1.1 */
/* The values of tensors as they lie in a model file. */
#include "pack.h"

static void floats(int type, const uint8_t *data, int64_t count, float *out) {
    for (int64_t i = 0; i < count; i++) {
        uint16_t bits;
        memcpy(&bits, data + 2 * i, 2);
        out[i] = type == SYN_F16 ? syn_half_float(bits) : syn_bf16_float(bits);
    }
}

/* Products of scales and codes are exact in float32: adding the minimum is the only rounding. */
static void values(const syn_layout *l, const syn_codes *c, int count, float *out) {
    int each = SYN_BLOCK / l->halves;
    float d = syn_half_float(c->d), m = syn_half_float(c->m);
    for (int k = 0; k < count; k++) {
        int q = l->bits == 8 ? (int8_t)c->q[k] : c->q[k] - l->offset;
        float scale = l->k_block ? d * (float)c->scale[k / each] : d;
        float minimum = l->k_block ? -(m * (float)c->minimum[k / SYN_BLOCK]) : m;
        out[k] = l->minima ? scale * (float)q + minimum : scale * (float)q;
    }
}

int syn_dequantise(int type, const void *data, uint64_t bytes, int64_t rows, int64_t columns,
                   float *out) {
    int64_t row = syn_row_bytes(type, columns);
    if (row < 0) return (int)row;
    if (rows < 0 || bytes / (uint64_t)row < (uint64_t)rows)
        return FAIL(SYN_E_FORMAT, "%llu bytes are not enough for %lld rows of %lld",
                    (unsigned long long)bytes, (long long)rows, (long long)row);
    const syn_type_info *info = syn_type_find(type);
    if (type == SYN_F32) {
        memcpy(out, data, (size_t)(rows * row));
    } else if (!info->split) {
        floats(type, data, rows * columns, out);
    } else {
        syn_codes codes = {0};
        const uint8_t *block = data;
        for (int64_t i = 0; i < rows * columns; i += info->values, block += info->bytes) {
            info->split(block, &codes);
            values(syn_layout_find(type), &codes, info->values, out + i);
        }
    }
    return SYN_OK;
}
