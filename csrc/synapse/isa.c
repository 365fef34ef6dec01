/* SPDX-License-Identifier: BUSL-1.1 */
/* Which instructions this machine has. */
#include <sys/syscall.h>
#include <unistd.h>

#include "base.h"

#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA 18

const char *syn_error(void) { return mlos_error(); }

/* The kernel gives a process the tile registers only when it asks for them. */
static int tiles_granted(void) {
#if defined(__x86_64__)
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return 0;
#endif
}

static int has_amx_int8(void) {
#if defined(__x86_64__)
    unsigned a = 7, b = 0, c = 0, d = 0;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return (d >> 24 & 1) && (d >> 25 & 1);
#else
    return 0;
#endif
}

int syn_isa_available(int isa) {
    switch (isa) {
    case SYN_REFERENCE:
        return 1;
#if defined(__x86_64__)
    case SYN_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
               __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi2");
    case SYN_AVX512:
        return syn_isa_available(SYN_AVX2) && __builtin_cpu_supports("avx512f") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
    case SYN_AMX:
        return syn_isa_available(SYN_AVX512) && has_amx_int8() && tiles_granted();
#endif
    default:
        return 0;
    }
}

int syn_isa_best(void) {
    int isa = SYN_AMX;
    while (!syn_isa_available(isa)) isa--;
    return isa;
}
