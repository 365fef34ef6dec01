# SPDX-License-Identifier: BUSL-1.1
"""Answers: arrays by name, most of them views of the reply arena."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Self

from mlos_core.types import Array


class Result(dict[str, Array]):
    """Outputs by name, and `parameters` with what else the model said.

    Large outputs are views of shared memory and keep the answer's place occupied: it is
    given back when the last view dies, on `release()`, or at the end of a `with` block,
    after which the views must not be read any more.
    """

    # Class-level defaults: most answers need neither, and are made in one step.
    parameters: Mapping[str, Any] = MappingProxyType({})
    _release: Callable[[], None] | None = None

    @classmethod
    def of(
        cls,
        outputs: dict[str, Array],
        parameters: dict[str, Any],
        release: Callable[[], None] | None = None,
    ) -> Result:
        """An answer with parameters, whose memory `release` gives back."""
        result = cls(outputs)
        if parameters:
            result.parameters = parameters
        if release is not None:
            result._release = release
        return result

    def release(self) -> None:
        """Give the memory back now. The arrays must not be read afterwards."""
        if self._release is not None:
            release, self._release = self._release, None
            self.clear()
            release()

    def copy(self) -> Result:
        """The same answer in memory of its own."""
        return Result.of(
            {name: array.copy() for name, array in self.items()}, dict(self.parameters)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
