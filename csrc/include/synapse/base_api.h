/* SPDX-License-Identifier: BUSL-1.1 */
/* What every part of the engine shares: statuses, instruction sets, the thread pool.
 *
 * Functions return 0 or a count, or a negative syn_status; syn_error() then has the reason for
 * this thread, in a sentence. */

enum syn_status {
    SYN_OK = 0,
    SYN_E_ARGUMENT = -1,    /* the caller's mistake */
    SYN_E_FORMAT = -2,      /* the model file is wrong */
    SYN_E_UNSUPPORTED = -3, /* right, but not something this engine does */
    SYN_E_MEMORY = -4,
};

/* Instruction sets, each one containing the ones before it. */
enum syn_isa {
    SYN_REFERENCE = 0, /* plain C, slow, the judge of the others */
    SYN_AVX2 = 1,      /* with FMA and F16C */
    SYN_AVX512 = 2,    /* F, BW, DQ, VL, VNNI */
    SYN_AMX = 3,       /* int8 tiles */
};

const char *syn_error(void);

/* Whether this processor (and, for AMX, this kernel) has the set. */
int syn_isa_available(int isa);

/* The best available one. */
int syn_isa_best(void);
