# SPDX-License-Identifier: BUSL-1.1
"""Checks between the wire and the plugin, cheap for what was seen before.

An input's dtype and shape are judged once and remembered by value, so that the usual
request costs a few lookups; only what is new takes the road that can explain itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from mlos_core.errors import Cancelled, DeadlineExceeded, InvalidInput, MlosError, ModelFailed
from mlos_core.types import BYTES, DTYPES, Array, Signature, check_inputs, dtype_name
from mlos_core.worker.port import Request

log = logging.getLogger(__name__)

_REMEMBERED: Final = 256


class InputCheck:
    """`check_inputs` for one signature, with a memory."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._seen: dict[str, set[tuple[object, tuple[int, ...]]]] = {
            spec.name: set() for spec in signature.inputs
        }

    def __call__(self, inputs: Mapping[str, Array]) -> None:
        """Raise `InvalidInput` unless `inputs` fit the signature."""
        seen = self._seen
        if len(inputs) == len(seen):
            for name, array in inputs.items():
                known = seen.get(name)
                if known is None or (array.dtype, array.shape) not in known:
                    break
            else:
                return
        check_inputs(self._signature, inputs)
        for name, array in inputs.items():
            if len(seen[name]) >= _REMEMBERED:
                seen[name].clear()
            seen[name].add((array.dtype, array.shape))


class OutputCheck:
    """Holds a model to the outputs it announced."""

    def __init__(self, signature: Signature) -> None:
        self._specs = {spec.name: spec for spec in signature.outputs}
        self._dtypes = {s.name: DTYPES[s.dtype] for s in signature.outputs if s.dtype != BYTES}

    def fit(self, outputs: Mapping[str, Array]) -> bool:
        """True if `outputs` are beyond doubt what the signature says, all of them."""
        dtypes = self._dtypes
        if type(outputs) is not dict or len(outputs) != len(self._specs):
            return False
        for name, array in outputs.items():
            if type(array) is not np.ndarray or array.dtype is not dtypes.get(name):
                return False
        return True

    def select(self, outputs: Mapping[str, Array], wanted: Sequence[str]) -> dict[str, Array]:
        """The wanted outputs (none named: all), checked one by one.

        Raises:
            ModelFailed: the model did not return what its signature says.
            InvalidInput: the caller wants an output that the model does not have.
        """
        if not isinstance(outputs, Mapping):
            raise _unlike(f"infer returned {type(outputs).__name__}, not a mapping of outputs")
        for name in outputs:
            if name not in self._specs:
                raise _unlike(f"infer returned the unknown output {name!r}")
        self.check_wanted(wanted)
        names = wanted or [n for n, s in self._specs.items() if n in outputs or not s.optional]
        return {name: self._checked(name, outputs.get(name)) for name in names}

    def check_wanted(self, wanted: Sequence[str]) -> None:
        """Raise `InvalidInput` if the model has no such output."""
        for name in wanted:
            if name not in self._specs:
                raise InvalidInput(
                    f"the model has no output {name!r}", hint="it has " + ", ".join(self._specs)
                )

    def _checked(self, name: str, array: Array | None) -> Array:
        spec = self._specs[name]
        if array is None:
            raise _unlike(f"infer did not return the output {name!r}")
        if not isinstance(array, np.ndarray):
            raise _unlike(f"output {name!r} is {type(array).__name__}, not a NumPy array")
        try:
            dtype = dtype_name(array)
        except InvalidInput as err:
            raise _unlike(f"output {name!r}: {err.message}") from err
        if dtype != spec.dtype:
            raise _unlike(f"output {name!r} has dtype {dtype}, not {spec.dtype}")
        return array


def _unlike(message: str) -> ModelFailed:
    return ModelFailed(message, hint="the plugin does not keep the signature it announced")


def as_error(error: BaseException) -> MlosError:
    """What the caller is told of an exception from the plugin: its type and its message."""
    if isinstance(error, MlosError):
        return error
    text = str(error).strip()
    name = type(error).__name__
    return ModelFailed(
        f"{name}: {text}" if text else name,
        hint="the model's plugin raised it; the worker's log has the traceback",
    )


def fail(request: Request, error: BaseException) -> None:
    """Answer with what a plugin raised, or with what is wrong with the request."""
    told = as_error(error)
    if told is not error:
        log.error("the plugin raised", exc_info=error)
    request.fail(told)


def cancellation(request: Request) -> MlosError:
    """Why a request whose `cancelled()` is true is not answered."""
    deadline = request.deadline_ns
    if deadline and time.monotonic_ns() >= deadline:
        return DeadlineExceeded(
            "the deadline passed before the answer was ready",
            hint="give the request more time, or see the model's statistics for where it goes",
        )
    return Cancelled("the request was cancelled")
