# SPDX-License-Identifier: BUSL-1.1
"""A decoder in NumPy, as plain as it can be said: what every executor is judged by."""

from __future__ import annotations

import numpy as np

from mlos_core.synapse.native import check, ffi, lib


def dequantise(tensor):
    """A tensor's values, float32[rows, columns]."""
    shape = (tensor.rows, tensor.columns)
    if tensor.type == 0:
        return np.frombuffer(tensor.data, np.float32).reshape(shape)
    if tensor.type == 1:
        return np.frombuffer(tensor.data, np.float16).reshape(shape).astype(np.float32)
    if tensor.type == 30:
        bits = np.frombuffer(tensor.data, np.uint16).astype(np.uint32) << 16
        return bits.view(np.float32).reshape(shape)
    out = np.empty(shape, np.float32)
    source, target = ffi.from_buffer(tensor.data), ffi.from_buffer("float[]", out)
    check(lib.syn_dequantise(tensor.type, source, tensor.data.nbytes, *shape, target))
    return out


class ReferenceModel:
    """The whole text at once, no cache, in `dtype`: `logits(tokens)` is [t, vocab]."""

    def __init__(self, files, dtype=np.float64):
        self.config = files.config
        self._dtype = dtype
        self._weights = {
            name: dequantise(tensor).astype(dtype, copy=False)
            for name, tensor in files.tensors.items()
        }

    def logits(self, tokens):
        config = self.config
        x = self._weights["token_embd.weight"][tokens] * config.embedding_scale
        for index, layer in enumerate(config.layers):
            x = self._block(index, layer, x)
        head = self._weights.get("output.weight", self._weights["token_embd.weight"])
        logits = self._norm(x, "output_norm.weight") @ head.T
        cap = config.logit_softcap
        return np.tanh(logits / cap) * cap if cap else logits

    def _block(self, index, layer, x):
        name = f"blk.{index}."
        attended = self._attention(name, layer, self._norm(x, name + "attn_norm.weight"))
        x = x + self._after(attended, name + "post_attention_norm.weight")
        h = self._norm(x, name + "ffn_norm.weight")
        gate, up = self._linear(h, name + "ffn_gate"), self._linear(h, name + "ffn_up")
        h = self._linear(self._activate(gate) * up, name + "ffn_down")
        return x + self._after(h, name + "post_ffw_norm.weight")

    def _attention(self, name, layer, h):
        config, t = self.config, len(h)
        q = self._heads(h, name + "attn_q", config.heads, layer)
        k = self._heads(h, name + "attn_k", config.kv_heads, layer)
        v = self._linear(h, name + "attn_v").reshape(t, config.kv_heads, -1).swapaxes(0, 1)
        shared = config.heads // config.kv_heads
        k, v = np.repeat(k, shared, 0), np.repeat(v, shared, 0)
        scores = np.einsum("hid,hjd->hij", q, k) * config.attention_scale
        distance = np.arange(t)[:, None] - np.arange(t)
        seen = (distance >= 0) & (distance < (layer.window or t))
        scores = np.where(seen, scores, -np.inf)
        p = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (p / p.sum(-1, keepdims=True)) @ v
        return self._linear(mixed.swapaxes(0, 1).reshape(t, -1), name + "attn_output")

    def _heads(self, h, name, heads, layer):
        """Rotated queries or keys, [heads, t, head_dim]."""
        x = self._linear(h, name).reshape(len(h), heads, self.config.head_dim)
        if name + "_norm.weight" in self._weights:
            x = self._norm(x, name + "_norm.weight")
        rope = self.config.ropes[layer.rope]
        angles = np.arange(len(h))[:, None, None] * np.array(rope.frequencies)
        sin, cos = np.sin(angles).astype(self._dtype), np.cos(angles).astype(self._dtype)
        half = x.shape[-1] // 2
        first = (..., slice(0, None, 2)) if rope.interleaved else (..., slice(0, half))
        second = (..., slice(1, None, 2)) if rope.interleaved else (..., slice(half, None))
        out = np.empty_like(x)
        out[first] = x[first] * cos - x[second] * sin
        out[second] = x[second] * cos + x[first] * sin
        return out.swapaxes(0, 1)

    def _linear(self, x, name):
        return x @ self._weights[name + ".weight"].T + self._weights.get(name + ".bias", 0.0)

    def _norm(self, x, name):
        mean = np.square(x).mean(-1, keepdims=True)
        return x / np.sqrt(mean + self.config.norm_eps) * self._weights[name]

    def _after(self, x, name):
        """Gemma norms what a block adds."""
        return self._norm(x, name) if name in self._weights else x

    def _activate(self, x):
        if self.config.activation == "silu":
            return x / (1 + np.exp(-x))
        return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
