/* SPDX-License-Identifier: BUSL-1.1 */
/* Tensors as they lie in a model file: their types, their sizes, their values. */

/* GGUF's numbers. */
enum syn_type {
    SYN_F32 = 0,
    SYN_F16 = 1,
    SYN_Q4_0 = 2,
    SYN_Q4_1 = 3,
    SYN_Q5_0 = 6,
    SYN_Q5_1 = 7,
    SYN_Q8_0 = 8,
    SYN_Q4_K = 12,
    SYN_Q5_K = 13,
    SYN_Q6_K = 14,
    SYN_BF16 = 30,
};

/* "Q4_1"; NULL: not one of ours. */
const char *syn_type_name(int type);

/* Bytes of a row of `columns` values, or a negative status: an unknown type, no whole blocks. */
int64_t syn_row_bytes(int type, int64_t columns);

/* The float32 values of `rows` rows. `data` has `bytes` bytes; fewer than the rows need is an
 * error of the file. out: [rows, columns] */
int syn_dequantise(int type, const void *data, uint64_t bytes, int64_t rows, int64_t columns,
                   float *out);
