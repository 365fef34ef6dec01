# SPDX-License-Identifier: BUSL-1.1
"""Texts to vectors, by the two kinds of model that can: an engine takes one prompt at a time,
an encoder a batch of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from mlos_core.front.core import Core
from mlos_core.front.handles import Target
from mlos_core.front.openai.asking import ask_each
from mlos_core.front.openai.problems import invalid
from mlos_core.front.ports import Result
from mlos_core.types import Array

_BATCH: Final = 32
Inputs = Mapping[str, Array]


class Vector(NamedTuple):
    """`values`: little-endian float32[dimensions]; `tokens`: how many the text took."""

    values: Array
    tokens: int


async def vectors(
    core: Core,
    target: Target,
    inputs: Sequence[Inputs],
    parameters: dict[str, Any],
    seconds: float,
) -> list[Vector]:
    """One vector for each of `inputs`.

    Raises:
        InvalidValue: the model does not take such inputs or parameters.
    """
    signature = await core.handles.signature(target)
    known = {spec.name for spec in signature.inputs}
    for one in inputs:
        if not one.keys() <= known:
            raise invalid("input", f"{target.name} does not take {', '.join(one)}", "send text")
    if not signature.batched:
        job = {"task": "embed", **parameters}
        return await ask_each(core, target, inputs, job, seconds, _single)
    for name, value in parameters.items():
        if not value:
            raise invalid(name, f"{target.name} knows no {name}: false", "leave it out")
    texts = [one["text"] for one in inputs]
    batches = [
        {"text": np.concatenate(texts[at : at + _BATCH])} for at in range(0, len(texts), _BATCH)
    ]
    found = await ask_each(core, target, batches, {}, seconds, _several)
    return [vector for batch in found for vector in batch]


def _single(result: Result) -> Vector:
    usage = result.parameters.get("usage") or {}
    return Vector(_copy(result["embedding"]), int(usage.get("prompt_tokens", 0)))


def _several(result: Result) -> list[Vector]:
    rows = result["embedding"]
    counts = result["tokens"].tolist() if "tokens" in result else [0] * len(rows)
    return [Vector(_copy(row), count) for row, count in zip(rows, counts, strict=True)]


def _copy(values: Array) -> Array:
    return np.array(values, dtype="<f4").reshape(-1)
