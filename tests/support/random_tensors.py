# SPDX-License-Identifier: BUSL-1.1
"""Random tensors of every type, as bytes of a file."""

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

NAMES = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K")
TYPES = [Type[name] for name in NAMES]
# Where the half floats of a block lie: random bits there would be infinities and NaNs.
HALVES = {
    Type.Q4_0: [0],
    Type.Q4_1: [0, 2],
    Type.Q5_0: [0],
    Type.Q5_1: [0, 2],
    Type.Q8_0: [0],
    Type.Q4_K: [0, 2],
    Type.Q5_K: [0, 2],
    Type.Q6_K: [208],
}


def random_tensor(kind, rows, columns, seed=0):
    """The bytes of a tensor as in a file: every code possible, scales of normal size."""
    rng = np.random.default_rng(seed)
    if kind not in HALVES:
        return gguf.quants.quantize(rng.standard_normal((rows, columns), np.float32), kind)
    values, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (rows, columns // values, size), np.uint8)
    for at in HALVES[kind]:
        scales = rng.normal(0, 0.01, (*blocks.shape[:2], 1)).astype(np.float16)
        blocks[:, :, at : at + 2] = scales.view(np.uint8)
    return blocks.reshape(rows, -1)
