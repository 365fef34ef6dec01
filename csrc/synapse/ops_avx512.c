/* SPDX-License-Identifier: BUSL-1.1 */
#if defined(__x86_64__)
#include "math_avx512.h"
/* */
#include "ops_lanes.h"

const syn_ops syn_ops_avx512 = {
    .norm = norm,
    .add = add,
    .scale = scale,
    .softcap = softcap,
    .gate = gate,
    .rope = rope,
    .store = store,
    .attend = syn_attend_avx512,
};
#endif
