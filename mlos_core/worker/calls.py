# SPDX-License-Identifier: BUSL-1.1
"""Calls of a tensor model for requests that were chosen: together, or one by one.

Guarantees: each request is answered or failed exactly once, in order; a request that makes a
merged call fail cannot fail its neighbours, which are run in halves of the batch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from mlos_core.errors import ModelFailed
from mlos_core.smi import TensorModel
from mlos_core.types import BYTES, Array, dtype_name
from mlos_core.worker.anticipation import Costs
from mlos_core.worker.checks import OutputCheck, cancellation, fail
from mlos_core.worker.joining import Joiner, Scratch, check_rows
from mlos_core.worker.note import Note
from mlos_core.worker.port import Request
from mlos_core.worker.tally import Tally

log = logging.getLogger(__name__)

_MAX_MISFITS: Final = 3
_KEEP_NS: Final = 30_000_000_000
_LEARN_EVERY: Final = 8  # single calls, which may follow each other by the microsecond


class Calls:
    """Calls one model.

    Args:
        model: used by one thread.
        checks: holds the model to its signature.
        tally: counts.
        keep: given the inputs of requests with new headers that were computed well.

    Attributes:
        costs: what calls take, as learnt.
        ended_ns: when the last call ended, before its answers went out.
    """

    def __init__(
        self,
        model: TensorModel,
        checks: OutputCheck,
        tally: Tally,
        keep: Callable[[Mapping[str, Array]], None],
    ) -> None:
        self.costs = Costs()
        self.ended_ns = 0
        self._infer = model.infer
        self._checks = checks
        self._tally = tally
        self._keep = keep
        self._joiner, self._scratch = Joiner(), Scratch()
        self._misfits = 0

    def run(self, requests: Sequence[Request]) -> None:
        """Answer all of them; those that were cancelled meanwhile are not computed."""
        self._run([request for request in requests if not self._dropped(request)])

    def _dropped(self, request: Request) -> bool:
        if not request.cancelled():
            return False
        self._tally.cancelled += 1
        request.fail(cancellation(request))
        return True

    def _run(self, requests: Sequence[Request]) -> None:
        if len(requests) < 2 or self._misfits >= _MAX_MISFITS:
            for request in requests:
                self.alone(request)
        elif not self._together(requests):
            middle = len(requests) // 2
            self._run(requests[:middle])
            self._run(requests[middle:])

    def alone(self, request: Request, *, prompt: bool = False) -> None:
        """One call for one request. With `prompt` it has just been claimed: then its time since
        is that of the call, and an answer like its last one goes out without another look."""
        try:
            started = time.monotonic_ns()
            outputs = self._infer(request.inputs, request.allocate)
            self._count(request.checked.rows, started, 1)
            if prompt and request.again(outputs):
                return
            if request.outputs or not self._checks.fit(outputs):
                outputs = self._checks.select(outputs, request.outputs)
            self._sample(request)
            request.answer(outputs, None, started, self.ended_ns)
        except BaseException as error:
            fail(request, error)

    def _together(self, requests: Sequence[Request]) -> bool:
        """One call for all; false if it failed and nobody is answered."""
        rows = [request.checked.rows for request in requests]
        total = sum(rows)
        try:
            inputs = self._joiner.join(requests)
            self._scratch.begin()
            started = time.monotonic_ns()
            outputs = self._infer(inputs, self._scratch.allocate)
            self._count(total, started, len(requests))
            chosen = self._checks.select(outputs, requests[0].outputs)
        except BaseException as error:
            log.warning("a batch of %d failed and is run in parts: %s", len(requests), error)
            return False
        if not self._batches(chosen, total):
            return False
        self._tally.copied_bytes += sum([array.nbytes for array in inputs.values()])
        self._answer(requests, rows, chosen, started)
        return True

    def _batches(self, outputs: dict[str, Array], rows: int) -> bool:
        """Whether the model has kept its word on dimension 0. If not, time after time, it is
        believed no more."""
        try:
            check_rows(outputs, rows)
        except ModelFailed as error:
            self._misfits += 1
            log.error("%s; after %d of these nothing is merged", error, _MAX_MISFITS)
            return False
        self._misfits = 0
        return True

    def _answer(
        self, requests: Sequence[Request], rows: Sequence[int], outputs: dict[str, Array], at: int
    ) -> None:
        """Copy each request's rows to where its client reads them."""
        named = [(name, array, dtype_name(array)) for name, array in outputs.items()]
        start = 0
        for request, size in zip(requests, rows, strict=True):
            try:
                parts: dict[str, Array] = {}
                for name, array, dtype in named:
                    part = array[start : start + size]
                    if dtype != BYTES:
                        room = request.allocate(name, dtype, part.shape)
                        room[...] = part
                        self._tally.copied_bytes += part.nbytes
                        part = room
                    parts[name] = part
                self._sample(request)
                request.answer(parts, None, at, self.ended_ns)
            except BaseException as error:
                fail(request, error)
            start += size

    def _sample(self, request: Request) -> None:
        """Before the answer: then the inputs' memory is the client's again."""
        note: Note = request.checked
        if not note.sampled:
            note.sampled = True
            self._keep(request.inputs)

    def _count(self, rows: int, started_ns: int, requests: int) -> None:
        self.ended_ns = time.monotonic_ns()
        took = self.ended_ns - started_ns
        self._tally.executions += 1
        self._tally.rows += rows
        if rows > 1:
            self._tally.batch(rows, took, requests)
        if rows > 1 or not self._tally.executions % _LEARN_EVERY:
            self.costs.learn(rows, took)

    def rest(self, now_ns: int) -> None:
        """Nobody asks: give back the memory that merging keeps, after a while."""
        if now_ns - self.ended_ns > _KEEP_NS:
            self._joiner.clear()
            self._scratch.clear()
