# SPDX-License-Identifier: BUSL-1.1
"""The loop of a tensor model: claim, check, infer, answer.

`run` is the hot path of the whole product. It handles one request at a time with nothing
but a few clock reads and sums around the plugin's call. Only where the policy allows
batches, and more than one request waits (or may come), do requests go through a `Batcher`.

Guarantees: every claimed request is answered or failed exactly once, whatever the plugin
raises; a request that makes a merged call fail cannot fail its neighbours.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from mlos_core.ipc.messages import BatchPolicy
from mlos_core.smi import TensorModel
from mlos_core.types import DTYPES, Array
from mlos_core.worker.batching import Batcher
from mlos_core.worker.checks import InputCheck, OutputCheck, as_error, cancellation
from mlos_core.worker.joining import join, key_of, rows_of, split
from mlos_core.worker.port import Port, Request
from mlos_core.worker.tally import Tally

log = logging.getLogger(__name__)

IDLE_S: Final = 60.0


class BatchLoop:
    """Serves one tensor model over one port.

    Args:
        port: where requests come from.
        model: what answers them; used by the thread that calls `run` alone.
        policy: dynamic batching; without effect unless the model's signature is batched.
        tally: where the loop counts.
        ended: called when no request came; true ends the loop.
    """

    def __init__(
        self,
        port: Port,
        model: TensorModel,
        policy: BatchPolicy,
        tally: Tally,
        ended: Callable[[], bool],
    ) -> None:
        self._port = port
        self._model = model
        self._tally = tally
        self._ended = ended
        self._joins = model.signature.batched and policy.max_batch_size > 1
        self._delays = policy.max_queue_delay_us > 0
        self._batcher: Batcher[Request] = Batcher(policy)
        self._check_inputs = InputCheck(model.signature)
        self._check_outputs = OutputCheck(model.signature)

    def run(self) -> None:
        """Serve until `ended` says so."""
        receive, infer = self._port.receiver(IDLE_S), self._model.infer
        clock = time.monotonic_ns
        fit, select = self._check_outputs.fit, self._check_outputs.select
        joins, tally = self._joins, self._tally
        while True:
            request = receive()
            if request is None:
                # No view may live on here: it would keep the memory of a channel mapped.
                outputs = None
                if self._ended():
                    return
                continue
            if joins and self._gather(request):
                continue
            try:
                rows, started = request.checked, 0
                if not rows:
                    rows, started = self._check(request), clock()
                outputs = infer(request.inputs, request.allocate)
                tally.executions += 1  # before the answer: whoever has it finds it counted
                tally.rows += rows
                if not request.again(outputs):
                    ended = clock()
                    if request.outputs or not fit(outputs):
                        outputs = select(outputs, request.outputs)
                    request.answer(outputs, None, started, ended)
            except BaseException as error:
                self._fail(request, error)

    def _check(self, request: Request) -> int:
        """Judge a header not seen before; the rows it counts for, at least 1."""
        self._check_inputs(request.inputs)
        self._check_outputs.check_wanted(request.outputs)
        rows = max(1, rows_of(request.inputs)) if self._joins else 1
        request.checked = rows
        return rows

    def _fail(self, request: Request, error: BaseException) -> None:
        told = as_error(error)
        if told is not error:
            log.error("the plugin raised", exc_info=error)
        request.fail(told)

    # --- batches ----------------------------------------------------------------------

    def _gather(self, request: Request) -> bool:
        """Run `request` and whatever waits beside it as batches; false to run it alone."""
        port = self._port
        second = None if self._delays else port.poll()
        if second is None and not self._delays:
            return False
        self._admit(request)
        if second is not None:
            self._admit(second)
        while len(self._batcher):
            self._fill()
            self._run_batch(self._batcher.take(time.monotonic_ns()))
        return True

    def _fill(self) -> None:
        """Admit what waits, and wait for more while nothing is due."""
        port, batcher = self._port, self._batcher
        while not batcher.full:
            request = port.poll()
            if request is None:
                left = batcher.wait_ns(time.monotonic_ns())
                if not left:
                    return
                request = port.next(left / 1e9)
                if request is None:
                    if self._ended():
                        batcher.hasten()
                    continue
            self._admit(request)

    def _admit(self, request: Request) -> None:
        try:
            rows = request.checked or self._check(request)
            # A request whose inputs disagree on the batch dimension joins nobody.
            key = key_of(request) if rows_of(request.inputs) else id(request)
        except BaseException as error:
            self._fail(request, error)
            return
        self._batcher.add(request, key, rows, request.submitted_ns, request.deadline_ns)

    def _run_batch(self, requests: Sequence[Request]) -> None:
        live = [request for request in requests if not self._dropped(request)]
        if len(live) > 1:
            live = self._run_merged(live)
        for request in live:
            self._run_alone(request)

    def _dropped(self, request: Request) -> bool:
        if not request.cancelled():
            return False
        self._tally.cancelled += 1
        request.fail(cancellation(request))
        return True

    def _run_merged(self, requests: list[Request]) -> list[Request]:
        """One call for all; on failure the requests, to be run alone."""
        try:
            inputs = join(requests)
            rows = [rows_of(request.inputs) for request in requests]
            started = time.monotonic_ns()
            outputs = self._model.infer(inputs, _allocate)
            ended = time.monotonic_ns()
            chosen = self._check_outputs.select(outputs, requests[0].outputs)
            parts = split(chosen, rows)
        except BaseException as error:
            log.warning("a batch of %d failed and is run one by one: %s", len(requests), error)
            return requests
        self._tally.copied_bytes += sum(array.nbytes for array in inputs.values())
        self._count(sum(rows), ended - started)
        for request, part in zip(requests, parts, strict=True):
            try:
                request.answer(part, None, started, ended)
            except BaseException as error:
                self._fail(request, error)
        return []

    def _run_alone(self, request: Request) -> None:
        try:
            started = time.monotonic_ns()
            outputs = self._model.infer(request.inputs, request.allocate)
            ended = time.monotonic_ns()
            self._count(request.checked, ended - started)
            chosen = self._check_outputs.select(outputs, request.outputs)
            request.answer(chosen, None, started, ended)
        except BaseException as error:
            self._fail(request, error)

    def _count(self, rows: int, took_ns: int) -> None:
        self._tally.executions += 1
        self._tally.rows += rows
        # An eighth of the difference: the estimate follows the model, not one slow call.
        self._batcher.expected_ns += (took_ns - self._batcher.expected_ns) // 8


def _allocate(name: str, dtype: str, shape: tuple[int, ...]) -> Array:
    """Room for a merged output, which lies in nobody's arena."""
    return np.empty(shape, DTYPES.get(dtype, object))
