/* SPDX-License-Identifier: BUSL-1.1 */
/* What kernels of all instruction sets share: where a block lies, and one function per type.
 *
 * Kernels are inlined with a constant layout, so that every test on it is gone from the code. */
#ifndef SYN_GEMM_KERNEL_H
#define SYN_GEMM_KERNEL_H

#include "gemm.h"

#define SYN_INLINE static inline __attribute__((always_inline))

/* Where block b of a panel and the head of its eight blocks lie. */
typedef struct {
    const uint8_t *codes, *scales, *head;
} syn_place;

SYN_INLINE syn_place syn_block_place(syn_layout l, const uint8_t *panel, int64_t b) {
    const uint8_t *codes = panel + syn_layout_block_at(&l, b);
    const uint8_t *head = l.k_block ? panel + syn_layout_block_at(&l, b & ~7) : codes;
    return (syn_place){codes, codes + syn_layout_codes_bytes(&l), head - syn_layout_head_bytes(&l)};
}

/* A few rows per block keep the processor busy for longer than its window of loads is deep: the
 * block some kilobytes on is asked for now. Measured: 4096 to 8192 are alike, 2048 is worse. */
SYN_INLINE void syn_fetch_ahead(syn_layout l, const uint8_t *codes) {
    for (size_t i = 0; i < syn_layout_block_bytes(&l); i += 64)
        __builtin_prefetch((const void *)((uintptr_t)codes + 6144 + i));
}

/* Functions NAME_8 and NAME_16 for each quantised type from kernel(layout, form, call), and
 * by_type(call), which calls them. */
#define SYN_KERNEL(name, ...)                                                                      \
    static void name##_8(const syn_gemm_call *c) {                                                 \
        kernel((syn_layout){__VA_ARGS__}, SYN_ACT_8, c);                                           \
    }                                                                                              \
    static void name##_16(const syn_gemm_call *c) {                                                \
        kernel((syn_layout){__VA_ARGS__}, SYN_ACT_16, c);                                          \
    }
#define SYN_KERNELS()                                                                              \
    SYN_KERNEL(q4_0, SYN_Q4_0, 4, 8, 0, 0, 1)                                                      \
    SYN_KERNEL(q4_1, SYN_Q4_1, 4, 0, 1, 0, 1)                                                      \
    SYN_KERNEL(q5_0, SYN_Q5_0, 5, 16, 0, 0, 1)                                                     \
    SYN_KERNEL(q5_1, SYN_Q5_1, 5, 0, 1, 0, 1)                                                      \
    SYN_KERNEL(q8_0, SYN_Q8_0, 8, 0, 0, 0, 1)                                                      \
    SYN_KERNEL(q4_k, SYN_Q4_K, 4, 0, 1, 1, 1)                                                      \
    SYN_KERNEL(q5_k, SYN_Q5_K, 5, 0, 1, 1, 1)                                                      \
    SYN_KERNEL(q6_k, SYN_Q6_K, 6, 32, 0, 1, 2)                                                     \
    static void by_type(const syn_gemm_call *c) {                                                  \
        int eight = c->form == SYN_ACT_8;                                                          \
        switch (c->w->layout.type) {                                                               \
        case SYN_Q4_0: (eight ? q4_0_8 : q4_0_16)(c); return;                                      \
        case SYN_Q4_1: (eight ? q4_1_8 : q4_1_16)(c); return;                                      \
        case SYN_Q5_0: (eight ? q5_0_8 : q5_0_16)(c); return;                                      \
        case SYN_Q5_1: (eight ? q5_1_8 : q5_1_16)(c); return;                                      \
        case SYN_Q8_0: (eight ? q8_0_8 : q8_0_16)(c); return;                                      \
        case SYN_Q4_K: (eight ? q4_k_8 : q4_k_16)(c); return;                                      \
        case SYN_Q5_K: (eight ? q5_k_8 : q5_k_16)(c); return;                                      \
        default: (eight ? q6_k_8 : q6_k_16)(c);                                                    \
        }                                                                                          \
    }

#endif
