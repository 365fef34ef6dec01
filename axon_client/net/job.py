# SPDX-License-Identifier: BUSL-1.1
"""What the connections of one download share, and how bytes get from them into the file."""

from __future__ import annotations

import hashlib
import os
import threading

from axon_client.net.client import Answer, Client
from axon_client.net.options import Options
from axon_client.net.pace import Limiter
from axon_client.net.plan import Plan
from axon_client.net.ranges import Body
from axon_client.net.sources import Source
from axon_client.net.state import State
from mlos_core.errors import MlosError


class Changed(Exception):
    """The file at the source may be another one than that of which we have parts."""


class Superfluous(Exception):
    """Without ranges one connection fetches everything, and this is not the one."""


class Job:
    """What the connections of one download share. Use `plan` and `ranged` under `lock`.

    Args:
        kept: digests of the parts that an earlier download left.
        if_range: makes a server send the whole file if it has changed; empty for a file
            whose digest is known: that one may change its ETag, but not its bytes.
        ranged: whether the server gives ranges; else one connection fetches everything.
    """

    def __init__(
        self,
        file: int,
        plan: Plan,
        state: State,
        client: Client,
        options: Options,
        limiter: Limiter,
        kept: dict[int, str],
        if_range: str,
        pinned: bool,
        ranged: bool,
    ) -> None:
        self.file = file
        self.plan = plan
        self.state = state
        self.client = client
        self.options = options
        self.limiter = limiter
        self.kept = kept
        self.if_range = if_range
        self.pinned = pinned
        self.ranged = ranged
        self.lock = threading.Condition()
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self.last: MlosError | None = None
        self.alive = 0
        self.received = 0

    def count(self, received: int) -> None:
        """Bytes are there; for whoever watches."""
        with self.lock:
            self.received += received

    def finished(self, part: int, sha256: str, *, known: bool = False) -> None:
        """A part is there; `known` if the state says so already."""
        with self.lock:
            if not known:
                self.state.add(part, sha256)
            self.plan.finish(part)
            self.lock.notify_all()

    def failed(self, error: BaseException) -> None:
        """A connection ends with an error; others may get through unless it is a grave one."""
        with self.lock:
            if isinstance(error, MlosError):
                self.last = error
            elif not isinstance(error, Superfluous) and self.error is None:
                self.error = error
            self.lock.notify_all()

    def waits(self, position: int) -> bool:
        """Whether nothing has come behind `position`, and something still may."""
        return self.plan.front == position and self.error is None and self.alive > 0


class Opened:
    """An answer that has not been read, and what it holds."""

    def __init__(self, answer: Answer, body: Body, source: Source) -> None:
        self.answer = answer
        self.body = body
        self.source = source


class Sink:
    """Writes a run of parts in order, and hashes each while it passes.

    Attributes:
        position: offset of the next byte that is wanted.
    """

    def __init__(self, job: Job, parts: range) -> None:
        self._job = job
        self._part = parts.start
        self._digest = hashlib.sha256()
        self.position, self._part_end = job.plan.bounds(parts.start)
        self.end = job.plan.bounds(parts[-1])[1]

    def take(self, data: bytes, offset: int) -> None:
        """Bytes that lie at `offset`; what is there already is passed over."""
        view = memoryview(data)[max(0, self.position - offset) :]
        while view:
            piece = view[: self._part_end - self.position]
            _write(self._job.file, piece, self.position)
            self._digest.update(piece)
            self.position += len(piece)
            self._job.count(len(piece))
            view = view[len(piece) :]
            if self.position == self._part_end:
                self._next_part()

    def _next_part(self) -> None:
        self._job.finished(self._part, self._digest.hexdigest())
        self._part += 1
        self._digest = hashlib.sha256()
        if self.position < self.end:
            self._part_end = self._job.plan.bounds(self._part)[1]


def _write(file: int, data: memoryview, offset: int) -> None:
    while data:
        count = os.pwrite(file, data, offset)
        data, offset = data[count:], offset + count
