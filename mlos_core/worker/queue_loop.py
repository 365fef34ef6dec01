# SPDX-License-Identifier: BUSL-1.1
"""The loop of a tensor model whose requests queue: claim, wait, choose, call.

Requests are claimed between calls. What waits is in a `Batcher`, which chooses; `Calls`
computes and answers; `Anticipation` says when a few microseconds of patience pay. A request
that comes alone, with nobody expected beside it, takes the short way past all of them.

Guarantees: every claimed request is answered or failed exactly once, whatever the plugin
raises; no more are held than the policy has room for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from mlos_core.errors import DeadlineExceeded, Overloaded
from mlos_core.ipc.messages import BatchPolicy
from mlos_core.smi import TensorModel
from mlos_core.types import Array
from mlos_core.worker.anticipation import Anticipation
from mlos_core.worker.batching import Batcher
from mlos_core.worker.calls import Calls
from mlos_core.worker.checks import InputCheck, OutputCheck, fail
from mlos_core.worker.note import Note, NoteMaker
from mlos_core.worker.port import Port, Request
from mlos_core.worker.tally import Tally

IDLE_S: Final = 60.0
_CLAIMS: Final = 1024
"""Looked at between two calls, however fast clients come back with what was refused."""


def queues(policy: BatchPolicy, *, batched: bool) -> bool:
    """Whether requests have to be chosen from; if not, they run as they come."""
    return (
        (batched and policy.max_batch_size > 1)
        or policy.priority_levels > 1
        or policy.queue_timeout_us > 0
        or policy.when_full == "reject"
    )


class QueueLoop:
    """As `BatchLoop`, whose arguments it has, for a policy that `queues`."""

    def __init__(
        self,
        port: Port,
        model: TensorModel,
        policy: BatchPolicy,
        tally: Tally,
        ended: Callable[[], bool],
        keep: Callable[[Mapping[str, Array]], None],
    ) -> None:
        joins = model.signature.batched and policy.max_batch_size > 1
        if not joins:
            policy = msgspec.structs.replace(policy, max_batch_size=1, preferred_batch_sizes=())
        self._port = port
        self._tally = tally
        self._ended = ended
        self._refuses = policy.when_full == "reject"
        self._delays = policy.max_queue_delay_us > 0
        self._batcher: Batcher[Request] = Batcher(policy)
        self._check_inputs = InputCheck(model.signature)
        self._check_outputs = OutputCheck(model.signature)
        self._calls = Calls(model, self._check_outputs, tally, keep)
        whole = max(policy.preferred_batch_sizes, default=policy.max_batch_size)
        self._crowd = Anticipation(whole, self._calls.costs)
        self._note = NoteMaker(policy, joins=joins)

    def run(self) -> None:
        """Serve until `ended` says so."""
        receive = self._port.receiver(IDLE_S)
        while True:
            request = receive()
            if request is None:
                self._calls.rest(time.monotonic_ns())
                if self._ended():
                    return
                continue
            note = request.checked or self._judge(request)
            if note is None or self._ran_alone(request, note):
                continue
            request = None  # it would keep the memory of a channel mapped
            while len(self._batcher):
                self._fill()
                self._turn()

    def _judge(self, request: Request) -> Note | None:
        """The note of a request whose header was not seen before; None if it is refused."""
        try:
            self._check_inputs(request.inputs)
            self._check_outputs.check_wanted(request.outputs)
            note = request.checked = self._note(request)
        except BaseException as error:
            fail(request, error)
            return None
        return note

    def _ran_alone(self, request: Request, note: Note) -> bool:
        """Run a request beside which there is none and none is expected; else let it wait."""
        since = request.submitted_ns
        short = not (self._delays or note.timeout_ns) and self._crowd.is_alone(since)
        second = self._port.poll() if short else None
        if short and second is None:
            self._calls.alone(request, prompt=True)
            self._crowd.ran(note.rows, 0, self._calls.ended_ns)
            return True
        self._admit(request, note)
        if second is not None:
            beside = second.checked or self._judge(second)
            if beside is not None:
                self._admit(second, beside)
        return False

    def _admit(self, request: Request, note: Note) -> None:
        since = request.submitted_ns
        self._crowd.came(note.rows, since)
        self._batcher.add(
            request,
            note.key,
            note.rows,
            since,
            request.deadline_ns,
            client=request.channel,
            level=note.level,
            timeout_ns=note.timeout_ns,
        )

    def _fill(self) -> None:
        """Admit what waits, and wait for more while that pays."""
        port, batcher = self._port, self._batcher
        for _ in range(_CLAIMS):
            if batcher.sated:
                return
            request = port.poll()
            if request is None:
                left = self._patience_ns()
                if not left:
                    return
                request = port.next(left / 1e9)
                if request is None:
                    if self._ended():
                        batcher.hasten()
                        self._crowd.give_up()
                    continue
            note = request.checked or self._judge(request)
            if note is not None:
                self._admit(request, note)
                if self._refuses:
                    self._refuse_overflow(running=False)

    def _patience_ns(self) -> int:
        now = time.monotonic_ns()
        due_in = self._batcher.wait_ns(now)
        if due_in or self._delays:
            return due_in or 0
        return self._crowd.left_ns(self._batcher.rows, now)

    def _turn(self) -> None:
        """Run the next batch, and refuse what has no chance."""
        batcher, calls = self._batcher, self._calls
        now = time.monotonic_ns()
        for late in batcher.expired(now):
            self._tally.expired += 1
            late.fail(_expiry(now - late.submitted_ns))
        before = batcher.rows
        batch = batcher.take(now)
        self._refuse_overflow(running=True)
        if not batch:
            return
        rows = before - batcher.rows
        calls.run(batch)
        self._crowd.ran(rows, batcher.rows, calls.ended_ns)
        batcher.expected_ns = calls.costs.expected_ns(rows)

    def _refuse_overflow(self, *, running: bool) -> None:
        for request in self._batcher.overflow(running=running):
            self._tally.rejected += 1
            request.fail(_no_room(len(self._batcher)))


def _expiry(waited_ns: int) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"the request waited {waited_ns / 1e6:.1f} ms in the queue, which is longer than it may",
        hint="try again later, or give it a longer `timeout` (microseconds)",
    )


def _no_room(waiting: int) -> Overloaded:
    return Overloaded(
        f"{waiting} requests wait for this model already",
        hint="try again later, or register the model with a larger max_queue_size",
    )
