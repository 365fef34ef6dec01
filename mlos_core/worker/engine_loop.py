# SPDX-License-Identifier: BUSL-1.1
"""The loop of an engine model: admit, step, deliver.

Requests come and go between steps. A stream whose reader is behind is paused, and what
the engine produced for it meanwhile waits in a bounded line; nothing is dropped. Every
admitted request is finished exactly once: by its final event, by an error, or by its
cancellation or deadline, which are looked at before every step.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from mlos_core.errors import ModelFailed
from mlos_core.ipc.header import STREAM
from mlos_core.smi import EngineModel, EngineRequest, Event
from mlos_core.worker.checks import InputCheck, OutputCheck, as_error, cancellation
from mlos_core.worker.port import Port, Request
from mlos_core.worker.queue_loop import IDLE_S
from mlos_core.worker.tally import Tally

log = logging.getLogger(__name__)

MAX_PENDING: Final = 1024
ADMITTED_PER_STEP: Final = 64
_STALL_S: Final = (0.001, 0.05)


class _Running:
    """One admitted request and what could not be delivered yet."""

    __slots__ = ("final", "paused", "pending", "request", "started_ns", "streams")

    def __init__(self, request: Request, started_ns: int) -> None:
        self.request = request
        self.streams = request.kind == STREAM
        self.started_ns = started_ns
        self.pending: deque[Event] = deque()
        self.paused = False
        self.final: Event | None = None


class EngineLoop:
    """Serves one engine model over one port.

    Args:
        port: where requests come from.
        engine: what answers them; used by the thread that calls `run` alone.
        tally: where the loop counts; an execution is one step.
        ended: called when no request came while none runs; true ends the loop.
    """

    def __init__(
        self, port: Port, engine: EngineModel, tally: Tally, ended: Callable[[], bool]
    ) -> None:
        self._port = port
        self._engine = engine
        self._tally = tally
        tally.engine = engine.statistics
        self._ended = ended
        self._running: dict[int, _Running] = {}
        self._last_id = 0
        self._stall_s = _STALL_S[0]
        self._check_inputs = InputCheck(engine.signature)
        self._check_outputs = OutputCheck(engine.signature)

    def run(self) -> None:
        """Serve until `ended` says so and nothing runs any more."""
        while True:
            if not self._running:
                request = self._port.next(IDLE_S)
                if request is None:
                    if self._ended():
                        return
                    continue
                self._admit(request)
                request = None  # it would keep the memory of a channel mapped
            self.turn()

    def turn(self) -> None:
        """One round: admit what waits, drop what is cancelled, deliver, step."""
        self._admit_waiting()
        self._drop_cancelled()
        moved = self._deliver_pending()
        if any(not run.paused and run.final is None for run in self._running.values()):
            self._step()
        elif self._running and not moved:
            self._wait_for_readers()

    # --- in ---------------------------------------------------------------------------

    def _admit_waiting(self) -> None:
        for _ in range(ADMITTED_PER_STEP):
            request = self._port.poll()
            if request is None:
                return
            self._admit(request)

    def _admit(self, request: Request) -> None:
        self._last_id += 1
        number = self._last_id
        run = _Running(request, time.monotonic_ns())
        try:
            self._check_inputs(request.inputs)
            self._check_outputs.check_wanted(request.outputs)
            resume_from = request.events_sent if request.attempt and run.streams else 0
            self._engine.submit(
                EngineRequest(
                    number,
                    request.inputs,
                    request.parameters,
                    resume_from,
                    request.key,
                    request.owner,
                    request.journal() if resume_from else (),
                )
            )
        except BaseException as error:
            self._fail(run, error)
            return
        self._running[number] = run

    def _drop_cancelled(self) -> None:
        gone = [number for number, run in self._running.items() if run.request.cancelled()]
        for number in gone:
            run = self._running.pop(number)
            self._forget(number)
            self._tally.cancelled += 1
            run.request.fail(cancellation(run.request))

    # --- stepping ---------------------------------------------------------------------

    def _step(self) -> None:
        try:
            events = self._engine.step()
        except BaseException as error:
            self._fail_all(error)
            return
        self._tally.executions += 1
        for event in events:
            run = self._running.get(event.id)
            if run is None or run.final is not None:
                log.warning("the engine named request %d, which does not run", event.id)
                continue
            self._take(event, run)

    def _take(self, event: Event, run: _Running) -> None:
        if event.error is not None:
            self._end(event.id, run, event.error)
            return
        try:
            if event.data is not None and run.streams:
                self._send(event, run)
        except BaseException as error:
            self._forget(event.id)
            self._end(event.id, run, error)
            return
        if event.final:
            run.final = event
            if not run.pending:
                self._answer(run, event)

    # --- out --------------------------------------------------------------------------

    def _send(self, event: Event, run: _Running) -> None:
        if not run.pending and run.request.emit(event.data, event.note):
            return
        if len(run.pending) >= MAX_PENDING:
            raise ModelFailed(
                "the engine goes on producing for a paused stream",
                hint="pause() must stop a request's events until resume()",
            )
        run.pending.append(event)
        if not run.paused:
            run.paused = True
            self._engine.pause(event.id)

    def _deliver_pending(self) -> bool:
        """Send what waits; true if anything moved."""
        moved = False
        for number, run in [(n, r) for n, r in self._running.items() if r.pending]:
            try:
                moved = self._drain(number, run) or moved
            except BaseException as error:
                self._forget(number)
                self._end(number, run, error)
        if moved:
            self._stall_s = _STALL_S[0]
        return moved

    def _drain(self, number: int, run: _Running) -> bool:
        moved = False
        while run.pending and run.request.emit(run.pending[0].data, run.pending[0].note):
            run.pending.popleft()
            moved = True
        if not run.pending:
            if run.final is not None:
                self._answer(run, run.final)
            else:
                run.paused = False
                self._engine.resume(number)
        return moved

    def _wait_for_readers(self) -> None:
        """Nobody can go on until a reader reads or a request comes: wait, longer each time."""
        request = self._port.next(self._stall_s)
        self._stall_s = min(self._stall_s * 2, _STALL_S[1])
        if request is not None:
            self._admit(request)
        elif self._ended():
            # A draining port returns at once; the readers still need their time.
            time.sleep(self._stall_s)

    # --- endings ----------------------------------------------------------------------

    def _answer(self, run: _Running, event: Event) -> None:
        del self._running[event.id]
        ended = time.monotonic_ns()
        try:
            outputs = self._check_outputs.select(event.outputs, run.request.outputs)
            run.request.answer(outputs, event.parameters, run.started_ns, ended)
        except BaseException as error:
            self._fail(run, error)
        else:
            self._tally.rows += 1

    def _forget(self, number: int) -> None:
        try:
            self._engine.cancel(number)
        except BaseException:
            log.exception("the engine's cancel raised")

    def _end(self, number: int, run: _Running, error: BaseException) -> None:
        del self._running[number]
        self._fail(run, error)

    def _fail(self, run: _Running, error: BaseException) -> None:
        told = as_error(error)
        if told is not error:
            log.error("the plugin raised", exc_info=error)
        run.request.fail(told)

    def _fail_all(self, error: BaseException) -> None:
        """A step that raises names nobody: all who may have taken part are told. Answers that
        wait for their readers had ended before."""
        running = [(n, run) for n, run in self._running.items() if run.final is None]
        for number, run in running:
            del self._running[number]
            self._forget(number)
            self._fail(run, error)
