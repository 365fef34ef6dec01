# SPDX-License-Identifier: BUSL-1.1
"""Where a manifest and the model's own header disagree. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from axon_client.introspect.header import Header
from axon_client.manifest import IOSpec, Manifest

_CLOSE: Final = 0.1
"""Counting conventions differ: buffers, tied weights. Beyond this share it is another model."""


def contradictions(manifest: Manifest, header: Header) -> list[str]:
    """Sentences, each with both sides; empty if the two agree or one of them says nothing."""
    spec = manifest.spec
    found = [
        *_side("input", spec.io.inputs, header.io.inputs),
        *_side("output", spec.io.outputs, header.io.outputs),
    ]
    stated, counted = spec.model.parameters, header.parameters
    if stated and counted and abs(stated - counted) > _CLOSE * counted:
        found.append(f"the manifest says {stated} parameters, the model has {counted}")
    length = spec.model.context_length
    if length and header.context_length and length > header.context_length:
        found.append(
            f"the manifest says a context of {length} tokens, the model {header.context_length}"
        )
    return found


def _side(side: str, said: Sequence[IOSpec], read: Sequence[IOSpec]) -> list[str]:
    if not said or not read:
        return []
    there = {spec.name: spec for spec in read}
    found = []
    for spec in said:
        real = there.get(spec.name)
        if real is None:
            names = ", ".join(there)
            found.append(f"the manifest has an {side} {spec.name!r}, the model has {names}")
        elif problem := _differ(spec, real):
            found.append(f"{side} {spec.name!r}: the manifest says {problem}")
    missing = [name for name in there if name not in {spec.name for spec in said}]
    found += [f"the model has an {side} {name!r} that the manifest leaves out" for name in missing]
    return found


def _differ(said: IOSpec, real: IOSpec) -> str:
    if "unknown" not in (said.dtype, real.dtype) and said.dtype != real.dtype:
        return f"{said.dtype}, the model {real.dtype}"
    if said.shape is None or real.shape is None:
        return ""
    same = len(said.shape) == len(real.shape) and all(
        a == b or min(a, b) < 0 for a, b in zip(said.shape, real.shape, strict=True)
    )
    return "" if same else f"{said.shape}, the model {real.shape}"
