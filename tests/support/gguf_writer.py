# SPDX-License-Identifier: BUSL-1.1
"""GGUF files, written by hand: right ones, and wrong ones from the same pieces."""

from __future__ import annotations

import struct

import numpy as np

FORMATS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
STRING, ARRAY = 8, 9


def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def scalar(kind, value):
    return text(value) if kind == STRING else struct.pack("<" + FORMATS[kind], value)


def key(name, kind, value):
    """`("answer", 4, 42)`; arrays are `("list", (9, 4), [1, 2])`."""
    if isinstance(kind, tuple):
        items = b"".join(scalar(kind[1], item) for item in value)
        return text(name) + struct.pack("<IIQ", ARRAY, kind[1], len(value)) + items
    return text(name) + struct.pack("<I", kind) + scalar(kind, value)


def info(name, shape, kind, offset):
    """A tensor's description; `shape` as in the file, fastest first."""
    sizes = struct.pack(f"<{len(shape)}Q", *shape)
    return text(name) + struct.pack("<I", len(shape)) + sizes + struct.pack("<IQ", kind, offset)


def start(tensors, keys, version=3, magic=b"GGUF"):
    return magic + struct.pack("<IQQ", version, tensors, keys)


def write(keys, tensors, version=3, alignment=32):
    """A file. `keys`: arguments of `key`; `tensors`: (name, shape, type, bytes)."""
    head = start(len(tensors), len(keys), version) + b"".join(key(*each) for each in keys)
    offset, body = 0, b""
    for name, shape, kind, data in tensors:
        head += info(name, shape, kind, offset)
        padded = data + bytes(-len(data) % alignment)
        body += padded
        offset += len(padded)
    return head + bytes(-len(head) % alignment) + body


def interleave(rows, heads):
    """Rows of q or k, from halves to pairs that lie side by side."""
    head_dim = len(rows) // heads
    halves = rows.reshape(heads, 2, head_dim // 2, -1)
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)


def number(name, value):
    """A key for a Python number or string."""
    kind = {bool: 7, int: 4, float: 6, str: STRING}[type(value)]
    return (name, kind, value)


def q8_0(values):
    """Blocks of 32: a half float and 32 int8."""
    blocks = values.reshape(-1, 32)
    d = (np.abs(blocks).max(1, keepdims=True) / 127).astype(np.float16)
    q = np.rint(blocks / np.maximum(d.astype(np.float32), 1e-9)).astype(np.int8)
    return np.concatenate([d.view(np.uint8), q.view(np.uint8)], 1).tobytes()


def q4_1(values):
    """Blocks of 32: scale and minimum as half floats, 32 codes of 4 bits."""
    blocks = values.reshape(-1, 32)
    m = blocks.min(1, keepdims=True)
    d = (blocks.max(1, keepdims=True) - m) / 15
    q = np.rint((blocks - m) / np.maximum(d, 1e-9)).clip(0, 15).astype(np.uint8)
    head = np.concatenate([d, m], 1).astype(np.float16).view(np.uint8)
    return np.concatenate([head, q[:, :16] | q[:, 16:] << 4], 1).tobytes()


QUANTISED = {"Q4_1": (3, q4_1), "Q8_0": (8, q8_0)}


def from_model(files, arch, extra=(), factors=None, matrices=""):
    """The GGUF file of an opened Hugging Face model: float32, matrices as one of `QUANTISED`."""
    config = files.config
    keys = [number("general.architecture", arch)]
    keys += [number(f"{arch}.{name}", value) for name, value in sizes(config).items()]
    tensors = []
    for name, tensor in files.tensors.items():
        values = as_float32(tensor)
        if arch == "llama" and (".attn_q." in name or ".attn_k." in name):
            heads = config.heads if ".attn_q." in name else config.kv_heads
            values = interleave(values, heads)
        shape = (tensor.columns,) if tensor.rows == 1 else (tensor.columns, tensor.rows)
        kind, data = 0, values.tobytes()
        if matrices and tensor.rows > 1:
            kind, quantise = QUANTISED[matrices]
            data = quantise(values)
        tensors.append((name, shape, kind, data))
    if factors is not None:
        values = np.asarray(factors, np.float32)
        tensors.append(("rope_freqs.weight", values.shape, 0, values.tobytes()))
    return write([*keys, *extra], tensors)


def as_float32(tensor):
    shape = (tensor.rows, tensor.columns)
    if tensor.type == 30:
        bits = np.frombuffer(tensor.data, np.uint16).astype(np.uint32) << 16
        return bits.view(np.float32).reshape(shape)
    form = {0: np.float32, 1: np.float16}[tensor.type]
    return np.frombuffer(tensor.data, form).reshape(shape).astype(np.float32)


def sizes(config):
    return {
        "block_count": len(config.layers),
        "context_length": config.context_length,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.heads,
        "attention.head_count_kv": config.kv_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": config.norm_eps,
    }
