/* SPDX-License-Identifier: BUSL-1.1 */
/* Weight matrices [rows = outputs, columns = inputs], packed once for the kernels of every
 * instruction set. Packed bytes hold no pointers: they can lie in a file that workers share. */

typedef struct syn_matrix syn_matrix;

/* What activations become before they meet the weights. */
enum syn_form {
    SYN_ACT_F32 = 0, /* as they are: for float weights only */
    SYN_ACT_8 = 1,   /* 8 bits with a zero point, per block of 32 */
    SYN_ACT_16 = 2,  /* 12 bits in int16, symmetric, per block of 32 */
};

/* Bytes of the packed form, a multiple of 64; or a negative status. */
int64_t syn_packed_bytes(int type, int64_t rows, int64_t columns);

/* Pack rows [row0, row1) into their place in `packed`, which has syn_packed_bytes bytes for the
 * whole matrix, starts at a multiple of 64 and is shared by threads with other ranges. Both ends
 * are multiples of 16, or the last row. `data` has `bytes` bytes: the whole matrix as in the
 * file. */
int syn_pack(int type, const void *data, uint64_t bytes, int64_t rows, int64_t columns,
             int64_t row0, int64_t row1, void *packed);

/* A matrix over packed bytes, which must outlive it. */
int syn_matrix_view(syn_matrix **out, int type, int64_t rows, int64_t columns, const void *packed,
                    uint64_t bytes);
void syn_matrix_free(syn_matrix *matrix);

/* The float32 values of one row: an embedding. out: [columns] */
int syn_matrix_row(const syn_matrix *matrix, int64_t row, float *out);

/* The form in which activations meet this matrix, when SYN_ACT_8 or SYN_ACT_16 is asked for. */
int syn_matrix_form(const syn_matrix *matrix, int wanted);

/* out = x W^T on one thread, as the model would compute it: for tests and measurements.
 * x: [m, columns], out: [m, rows]; add: onto what `out` holds. */
int syn_matmul(int isa, const syn_matrix *matrix, int form, const float *x, int64_t m, float *out,
               int add);
