# SPDX-License-Identifier: BUSL-1.1
"""What a few calls tell of a model whose file says too little.

Outputs: their names, dtypes and shapes, and which sizes follow those of the inputs. Rows: a
row that comes out the same alone and between two others is its own affair, so that requests
may be joined; a recurrent model whose dimension 0 is time, or one that normalises over its
batch, is found out by that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch

from mlos_core.errors import MlosError
from mlos_core.types import BYTES, DTYPES, Array, TensorSpec
from mlos_plugin_pytorch.dtypes import name_of
from mlos_plugin_pytorch.results import named

Run = Callable[[Mapping[str, Array]], Any]
Sizes = Mapping[str, tuple[int, ...]]

_OTHERS: Final = (1, 32, 256, 1024)
"""What is tried for an unknown size, until the model takes one."""
_TOLERANCE: Final = 1e-3
"""Of the largest value: far above what another order of additions does to a row."""


def invent(
    specs: Sequence[TensorSpec], sizes: Sizes, *, rows: int, other: int, seed: int
) -> dict[str, Array]:
    """Random inputs.

    Args:
        specs: what to invent.
        sizes: shapes known to fit, for the unknown sizes behind dimension 0.
        rows: the size of dimension 0 where it is unknown.
        other: any other unknown size.
        seed: of the random numbers.
    """
    random = np.random.default_rng(seed)
    made = {}
    for spec in specs:
        known = sizes.get(spec.name, ())
        shape = tuple(
            size if size >= 0 else rows if not place else _size(known, place, other)
            for place, size in enumerate(spec.shape)
        )
        made[spec.name] = _random(random, spec.dtype, shape)
    return made


def _size(known: tuple[int, ...], place: int, other: int) -> int:
    return known[place] if place < len(known) else other


def _random(random: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Array:
    if dtype == BYTES:
        return np.full(shape, b"", object)
    if DTYPES[dtype].kind == "f":
        return random.standard_normal(shape).astype(dtype)
    return random.integers(0, 2, shape).astype(dtype)


class Trial:
    """Calls of one model with invented inputs.

    Args:
        run: the model.
        specs: its inputs, without the optional ones.
        sizes: shapes it is known to take.
    """

    def __init__(self, run: Run, specs: Sequence[TensorSpec], sizes: Sizes) -> None:
        self._run = run
        self._specs = specs
        self._sizes = sizes
        self._first: tuple[int, dict[str, Any]] | None = None

    def _call(self, rows: int, other: int) -> dict[str, Any]:
        batch = invent(self._specs, self._sizes, rows=rows, other=other, seed=0)
        return named(self._run(batch))

    def _fitting(self) -> tuple[int, dict[str, Any]]:
        """The first size that the model takes where any is announced, and what it returned."""
        for other in _OTHERS:
            if self._first is None:
                try:
                    self._first = other, self._call(1, other)
                except MlosError:
                    if other == _OTHERS[-1] or not self._sizes_unknown():
                        raise
        assert self._first is not None
        return self._first

    def _sizes_unknown(self) -> bool:
        return any(-1 in spec.shape[1:] for spec in self._specs)

    def outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs as some calls show them; sizes that changed with the inputs' are -1.

        Raises:
            MlosError: the model takes none of these inputs.
        """
        _, leaves = self._fitting()
        others = [self._shapes(rows, size) for rows, size in self._variations()]
        return tuple(
            TensorSpec(name, _dtype(name, leaf), _common(name, _shape(leaf), others))
            for name, leaf in leaves.items()
        )

    def _variations(self) -> list[tuple[int, int]]:
        """Rows and other sizes to try beside those of the first call."""
        other, _ = self._fitting()
        tries = []
        if any(spec.shape[:1] == (-1,) for spec in self._specs):
            tries.append((2, other))
        if self._sizes_unknown():
            tries.append((1, 2 * other))
        return tries

    def _shapes(self, rows: int, other: int) -> dict[str, tuple[int, ...]]:
        try:
            return {name: _shape(leaf) for name, leaf in self._call(rows, other).items()}
        except MlosError:
            return {}

    def rows_are_apart(self) -> bool:
        """True if the middle row of three comes out as it does alone, in every output."""
        try:
            other, one = self._fitting()
            middle = invent(self._specs, self._sizes, rows=1, other=other, seed=0)
            around = invent(self._specs, self._sizes, rows=2, other=other, seed=1)
            three = {
                name: np.concatenate([around[name][:1], row, around[name][1:]])
                for name, row in middle.items()
            }
            many = named(self._run(three))
        except MlosError:
            return False
        return all(name in many and _same_row(leaf, many[name]) for name, leaf in one.items())


def _common(
    name: str, shape: tuple[int, ...], others: Sequence[Mapping[str, tuple[int, ...]]]
) -> tuple[int, ...]:
    for other in others:
        seen = other.get(name, ())
        if len(seen) != len(shape):
            return (-1,) * len(shape)
        shape = tuple(a if a == b else -1 for a, b in zip(shape, seen, strict=True))
    return shape


def _dtype(name: str, leaf: Any) -> str:
    if isinstance(leaf, torch.Tensor):
        return name_of(leaf.dtype, f"output {name!r}")
    return np.asarray(leaf).dtype.name


def _shape(leaf: Any) -> tuple[int, ...]:
    return tuple(leaf.shape) if isinstance(leaf, torch.Tensor) else ()


def _same_row(alone: Any, among: Any) -> bool:
    if not isinstance(alone, torch.Tensor) or not isinstance(among, torch.Tensor):
        return False
    if alone.shape[:1] != (1,) or among.shape != (3, *alone.shape[1:]):
        return False
    row, middle = alone[0].cpu(), among[1].cpu()
    if not alone.is_floating_point():
        return bool(torch.equal(row, middle))
    limit = _TOLERANCE * max(float(row.abs().max()), 1e-6) if row.numel() else 0.0
    return bool(torch.allclose(row, middle, rtol=0.0, atol=limit, equal_nan=True))
