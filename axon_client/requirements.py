# SPDX-License-Identifier: BUSL-1.1
"""What a model needs of a machine, reckoned from its weights. Pure.

    memory = what the framework takes by itself + weights as the framework keeps them
             + for a language model the cache of keys and values, for each token of context

These are estimates: nobody measured this model, and what its inputs take while they are
computed is not in them. They are marked as such wherever they are written or shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import msgspec

from axon_client.introspect.header import Header
from axon_client.manifest import CPU, GPU, Compute, Requirements, Space

GB: Final = 10**9
_MB: Final = 10**6
# What a worker takes before it has a model, and how much of a model's weights it holds:
# resident memory of workers that had just loaded one, on x86-64 Linux.
_BASE: Final = {
    "onnx": (64 * _MB, 1.5),
    "gguf": (60 * _MB, 1.0),
    "safetensors": (60 * _MB, 1.0),
    "tflite": (40 * _MB, 1.0),
    "torchscript": (290 * _MB, 1.0),
    "pt2": (290 * _MB, 1.0),
    "pickle": (290 * _MB, 2.0),
    "savedmodel": (510 * _MB, 1.5),
    "keras": (510 * _MB, 1.5),
}
_OTHER: Final = (300 * _MB, 1.5)
_SHORT_CONTEXT: Final = 2048
"""Tokens that a language model should hold at least to be of use."""
_GPU_CONTEXT: Final = 500 * _MB
"""What CUDA takes for a process."""
_PARAMETERS_PER_CORE: Final = 50_000_000
_MOST_CORES: Final = 8
_WORTH_A_GPU: Final = 1_000_000_000
_FITS_A_GPU: Final = 100_000_000


class Weights(msgspec.Struct, frozen=True):
    """One model that is loaded: its format, what was read of it, bytes of its files."""

    format: str
    header: Header
    size: int

    @property
    def bytes(self) -> int:
        """Bytes of the weights: as counted, or of the files where nothing is."""
        return self.size if self.header.weight_bytes is None else self.header.weight_bytes


class Estimate(msgspec.Struct, frozen=True):
    """Bytes, and how they come about.

    `least` serves a short context, `most` the longest the model knows; `video` is what a GPU
    needs for the same as `least`. `least_sum` and `most_sum` are the arithmetic.
    """

    least: int
    most: int
    video: int
    disk: int
    parameters: int
    least_sum: str
    most_sum: str
    video_sum: str


def estimate(models: Sequence[Weights], disk: int) -> Estimate:
    """What it takes to load all of `models` in one worker each.

    Args:
        disk: bytes of all files of the package.
    """
    fixed = [_fixed(model) for model in models]
    least = [_cache(model, _SHORT_CONTEXT) for model in models]
    most = [_cache(model, model.header.context_length) for model in models]
    video = [(f"{_show(m.bytes)} weights", m.bytes) for m in models]
    own = [("", _GPU_CONTEXT)]
    parts = [part for each in fixed for part in each]
    return Estimate(
        least=_total([*parts, *least]),
        most=_total([*parts, *most]),
        video=_total([*video, *least, *own]),
        disk=disk,
        parameters=sum(model.header.parameters or 0 for model in models),
        least_sum=_sum([*parts, *least]),
        most_sum=_sum([*parts, *most]),
        video_sum=_sum([*video, *least, (f"{_show(_GPU_CONTEXT)} CUDA", _GPU_CONTEXT)]),
    )


_Term = tuple[str, int]


def _fixed(model: Weights) -> list[_Term]:
    base, factor = _BASE.get(model.format, _OTHER)
    held = math.ceil(model.bytes * factor)
    times = f" x {factor:g}" if factor != 1 else ""
    return [
        (f"{_show(base)} runtime", base),
        (f"{_show(model.bytes)} weights{times}", held),
    ]


def _cache(model: Weights, tokens: int) -> _Term:
    header = model.header
    tokens = min(tokens, header.context_length or tokens)
    each = header.cache_bytes_per_token
    return (f"{tokens} tokens x {each} bytes of keys and values", tokens * each)


def _total(terms: Sequence[_Term]) -> int:
    return sum(size for _, size in terms)


def _sum(terms: Sequence[_Term]) -> str:
    return " + ".join(text for text, size in terms if size) or "nothing"


def _show(size: int) -> str:
    return f"{size / _MB:,.1f} MB" if size < GB else f"{size / GB:,.2f} GB"


def fill(said: Requirements, reckoned: Estimate) -> Requirements:
    """The author's requirements, with an estimate where there are none.

    What the author says of memory, cores, disk or GPU is left as it is.
    """
    compute = said.compute
    memory = compute.memory if _says(compute.memory) else _space(reckoned.least, reckoned.most)
    disk = said.storage if _says(said.storage) else _space(reckoned.disk, reckoned.disk)
    cores = compute.cpu if compute.cpu != CPU() else _cores(reckoned.parameters)
    gpu = compute.gpu if compute.gpu is not None else _gpu(reckoned)
    filled = Compute(cpu=cores, memory=memory, gpu=gpu)
    changed = filled != compute or disk != said.storage
    return Requirements(filled, disk, estimated=said.estimated or changed)


def _says(space: Space) -> bool:
    return bool(space.min_gb or space.recommended_gb)


def _space(least: int, most: int) -> Space:
    return Space(in_gb(least), in_gb(most))


def in_gb(size: int) -> float:
    """GB, rounded up to what people read: 0.07, 1.3, 26."""
    digits = 3 if size < GB // 10 else 2 if size < 10 * GB else 0
    steps: int = 10**digits
    return -(-size * steps // GB) / steps


def _cores(parameters: int) -> CPU:
    return CPU(1, min(max(1, math.ceil(parameters / _PARAMETERS_PER_CORE)), _MOST_CORES))


def _gpu(reckoned: Estimate) -> GPU | None:
    if reckoned.parameters < _FITS_A_GPU:
        return None
    recommended = reckoned.parameters >= _WORTH_A_GPU
    return GPU(recommended=recommended, min_vram_gb=in_gb(reckoned.video))
