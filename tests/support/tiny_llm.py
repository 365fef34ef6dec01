# SPDX-License-Identifier: BUSL-1.1
"""A decoder model of random numbers, small enough to run a thousand times."""

import numpy as np

from mlos_core.synapse.config import LayerConfig, ModelConfig, RopeConfig
from mlos_core.synapse.files import ModelFiles, Tensor, TextFiles

F32, Q4_1, Q8_0, BF16 = 0, 3, 8, 30


def config(**changes):
    """Two layers; heads share keys three to one, the first layer has a window."""
    numbers = {
        "family": "llama",
        "vocab_size": 80,
        "hidden_size": 64,
        "layers": (LayerConfig(window=45), LayerConfig()),
        "heads": 6,
        "kv_heads": 2,
        "head_dim": 32,
        "intermediate_size": 96,
        "context_length": 4096,
        "norm_eps": 1e-5,
        "activation": "silu",
        "attention_scale": 32**-0.5,
        "ropes": (RopeConfig(tuple(10000.0 ** -(np.arange(16) / 16)), interleaved=True),),
    }
    return ModelConfig(**(numbers | changes))


def shapes(config):
    """Of every tensor by canonical name."""
    hidden, inner = config.hidden_size, config.intermediate_size
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    found = {"token_embd.weight": (config.vocab_size, hidden), "output_norm.weight": (1, hidden)}
    layer = {
        "attn_norm.weight": (1, hidden),
        "attn_q.weight": (queries, hidden),
        "attn_k.weight": (keys, hidden),
        "attn_v.weight": (keys, hidden),
        "attn_k.bias": (1, keys),
        "attn_output.weight": (hidden, queries),
        "ffn_norm.weight": (1, hidden),
        "ffn_gate.weight": (inner, hidden),
        "ffn_up.weight": (inner, hidden),
        "ffn_down.weight": (hidden, inner),
    }
    for index in range(len(config.layers)):
        found |= {f"blk.{index}.{name}": shape for name, shape in layer.items()}
    return found


def encode(values, kind):
    """Float32 numbers [rows, columns] as GGUF stores them."""
    if kind == F32:
        return values.tobytes()
    if kind == BF16:
        return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    blocks = values.reshape(-1, 32)
    if kind == Q8_0:
        scale = (np.abs(blocks).max(1) / 127).astype(np.float16)
        codes = np.rint(blocks / np.maximum(scale, 1e-6)[:, None]).clip(-127, 127)
        return b"".join(
            d.tobytes() + q.tobytes() for d, q in zip(scale, codes.astype(np.int8), strict=True)
        )
    low = blocks.min(1).astype(np.float16)
    scale = ((blocks.max(1) - low) / 15).astype(np.float16)
    codes = np.rint((blocks - low[:, None]) / np.maximum(scale, 1e-6)[:, None]).clip(0, 15)
    codes = codes.astype(np.uint8)
    packed = codes[:, :16] | codes[:, 16:] << 4
    return b"".join(
        d.tobytes() + m.tobytes() + q.tobytes() for d, m, q in zip(scale, low, packed, strict=True)
    )


def make(seed=0, *, kind=Q4_1, embedding=Q8_0, **changes):
    """An opened model whose matrices are of a GGUF type; vectors are float32."""
    random = np.random.default_rng(seed)
    numbers = config(**changes)
    tensors = {}
    for name, (rows, columns) in shapes(numbers).items():
        values = random.standard_normal((rows, columns), np.float32)
        values = values * 0.2 + ("norm" in name) if rows == 1 else values * columns**-0.5 * 1.5
        stored = F32 if rows == 1 else embedding if name == "token_embd.weight" else kind
        data = encode(values.astype(np.float32), stored)
        tensors[name] = Tensor(name, stored, rows, columns, memoryview(data))
    return ModelFiles((), numbers, tensors, TextFiles())
