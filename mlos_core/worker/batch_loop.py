# SPDX-License-Identifier: BUSL-1.1
"""The loop of a tensor model: claim, check, infer, answer.

`run` is the hot path of the whole product. It handles one request at a time with nothing
but a few clock reads and sums around the plugin's call. Where the policy has requests wait,
for companions or by priority, `QueueLoop` serves instead.

Guarantees: every claimed request is answered or failed exactly once, whatever the plugin
raises.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from mlos_core.ipc.messages import BatchPolicy
from mlos_core.smi import TensorModel
from mlos_core.types import Array
from mlos_core.worker.checks import InputCheck, OutputCheck, fail
from mlos_core.worker.port import Port, Request
from mlos_core.worker.queue_loop import IDLE_S, QueueLoop, queues
from mlos_core.worker.tally import Tally


class BatchLoop:
    """Serves one tensor model over one port.

    Args:
        port: where requests come from.
        model: what answers them; used by the thread that calls `run` alone.
        policy: dynamic batching, queue and priorities; requests are merged only where the
            model's signature is batched.
        tally: where the loop counts.
        ended: called when no request came; true ends the loop.
        keep: given the inputs of requests of a form not seen before that were answered.
    """

    def __init__(
        self,
        port: Port,
        model: TensorModel,
        policy: BatchPolicy,
        tally: Tally,
        ended: Callable[[], bool],
        keep: Callable[[Mapping[str, Array]], None] = lambda _: None,
    ) -> None:
        self._keep = keep
        self._port = port
        self._model = model
        self._tally = tally
        self._ended = ended
        self._queue: QueueLoop | None = None
        if queues(policy, batched=model.signature.batched):
            self._queue = QueueLoop(port, model, policy, tally, ended, keep)
        self._check_inputs = InputCheck(model.signature)
        self._check_outputs = OutputCheck(model.signature)

    def run(self) -> None:
        """Serve until `ended` says so."""
        if self._queue is not None:
            self._queue.run()
        else:
            self._run_plain()

    def _run_plain(self) -> None:
        receive, infer = self._port.receiver(IDLE_S), self._model.infer
        clock = time.monotonic_ns
        fit, select = self._check_outputs.fit, self._check_outputs.select
        tally = self._tally
        while True:
            request = receive()
            if request is None:
                # No view may live on here: it would keep the memory of a channel mapped.
                outputs = None
                if self._ended():
                    return
                continue
            try:
                rows, started = request.checked, 0
                if not rows:
                    rows, started = self._check(request), clock()
                outputs = infer(request.inputs, request.allocate)
                if started:
                    self._keep(request.inputs)
                tally.executions += 1  # before the answer: whoever has it finds it counted
                tally.rows += rows
                if not request.again(outputs):
                    ended = clock()
                    if request.outputs or not fit(outputs):
                        outputs = select(outputs, request.outputs)
                    request.answer(outputs, None, started, ended)
            except BaseException as error:
                fail(request, error)

    def _check(self, request: Request) -> int:
        """Judge a header not seen before; what a call for it counts as."""
        self._check_inputs(request.inputs)
        self._check_outputs.check_wanted(request.outputs)
        request.checked = 1
        return 1
