# SPDX-License-Identifier: BUSL-1.1
"""A loaded ONNX model.

Two ways through `infer`. Bound: inputs are read and outputs written in place; possible
once the outputs' shapes are known, from the file or from an earlier call with the same
input shapes. Plain: onnxruntime allocates the outputs and the runtime copies them; for
strings, empty tensors, first calls, and outputs whose shape depends on the data.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from mlos_core.errors import InvalidInput
from mlos_core.smi import Allocate, TensorModel
from mlos_core.types import BYTES, Array, Signature, dtype_name
from mlos_plugin_onnx.plans import Output, Plan

log = logging.getLogger(__name__)

MAX_PLANS: Final = 64
MAX_LEARNED: Final = 256

Shapes = tuple[tuple[int, ...], ...]


class OnnxModel(TensorModel):
    """One session.

    Args:
        session: an onnxruntime InferenceSession.
        signature: as `signature_of` gives it for that session.
        profiled: the session traces itself; the trace is written by `close`.
    """

    def __init__(self, session: Any, signature: Signature, profiled: bool = False) -> None:
        self.signature = signature
        self._profiled = profiled
        self._session = session
        self._run_bound = session.run_with_iobinding
        self._names = [spec.name for spec in signature.outputs]
        every = (*signature.inputs, *signature.outputs)
        self._has_strings = any(spec.dtype == BYTES for spec in every)
        self._plans: dict[int, Plan] = {}
        # None for an input shape whose outputs' shapes depend on the data.
        self._learned: dict[Shapes, list[Output] | None] = {}
        self._fixed = self._outputs_of_file()

    def _outputs_of_file(self) -> list[Output] | None:
        outputs = [(spec.name, spec.dtype, spec.shape) for spec in self.signature.outputs]
        # An output without dimensions may be a scalar or of unknown rank: learn it.
        known = all(shape and min(shape) > 0 for _, _, shape in outputs)
        return outputs if known and not self._has_strings else None

    def infer(self, batch: Mapping[str, Array], allocate: Allocate) -> Mapping[str, Array]:
        """All outputs, as onnxruntime computes them in process."""
        key = id(next(iter(batch.values()), None))
        plan = self._plans.get(key)
        if plan is None or not plan.fits(batch):
            plan = self._plan(batch, key)
            if plan is None or plan.small:
                # Arrays that may never come again: not worth a binding yet.
                return self._infer_plain(batch)
        binding, outputs = plan.prepare(batch, allocate)
        try:
            self._run_bound(binding)
        except Exception:
            # A shape that differs from the announced one, or a failure of the model; the
            # plain call tells which, by succeeding or by raising it again.
            return self._infer_unbound(batch)
        return outputs

    def close(self) -> None:
        """Write the trace if there is one; drop the bindings before their session."""
        if self._profiled:
            log.info("onnxruntime's trace is in %s", self._session.end_profiling())
        self._plans.clear()
        del self._run_bound
        del self._session

    # --- bound --------------------------------------------------------------------------

    def _plan(self, batch: Mapping[str, Array], key: int) -> Plan | None:
        if self._has_strings or not batch:
            return None
        outputs = self._learned.get(self._shapes(batch), self._fixed)
        bindable = all(array.size and array.flags.c_contiguous for array in batch.values())
        if outputs is None or not bindable:
            return None
        if len(self._plans) >= MAX_PLANS:
            self._plans.clear()
        plan = self._plans[key] = Plan(self._session.io_binding, batch, outputs)
        return plan

    def _infer_unbound(self, batch: Mapping[str, Array]) -> Mapping[str, Array]:
        outputs = self._run(batch)
        self._learned[self._shapes(batch)] = None
        self._plans.clear()
        return outputs

    def _shapes(self, batch: Mapping[str, Array]) -> Shapes:
        return tuple([batch[spec.name].shape for spec in self.signature.inputs])

    # --- plain --------------------------------------------------------------------------

    def _infer_plain(self, batch: Mapping[str, Array]) -> Mapping[str, Array]:
        outputs = self._run(batch)
        shapes = self._shapes(batch)
        if not self._has_strings and shapes not in self._learned:
            if len(self._learned) >= MAX_LEARNED:
                self._learned.clear()
            self._learned[shapes] = _learn(outputs)
        return outputs

    def _run(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        feed = {name: _text(name, a) if a.dtype == object else a for name, a in batch.items()}
        return dict(zip(self._names, self._session.run(None, feed), strict=True))


def _learn(outputs: Mapping[str, Array]) -> list[Output] | None:
    """What to allocate next time; None where there is nothing to bind."""
    if not all(isinstance(a, np.ndarray) and a.size for a in outputs.values()):
        return None
    return [(name, dtype_name(array), array.shape) for name, array in outputs.items()]


def _text(name: str, array: Array) -> Array:
    """Onnxruntime's strings are text; the channel's are bytes."""
    try:
        items = [item.decode() if isinstance(item, bytes) else item for item in array.flat]
    except UnicodeDecodeError as err:
        raise InvalidInput(f"input {name!r} holds a string that is no UTF-8") from err
    text = np.empty(array.shape, dtype=object)
    text.reshape(-1)[:] = items
    return text
