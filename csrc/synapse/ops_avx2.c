/* SPDX-License-Identifier: BUSL-1.1 */
#if defined(__x86_64__)
#include "math_avx2.h"
/* */
#include "ops_lanes.h"

const syn_ops syn_ops_avx2 = {
    .norm = norm,
    .add = add,
    .scale = scale,
    .softcap = softcap,
    .gate = gate,
    .rope = rope,
    .store = store,
    .attend = syn_attend_avx2,
};
#endif
