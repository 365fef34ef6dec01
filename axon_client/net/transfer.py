# SPDX-License-Identifier: BUSL-1.1
"""One connection's work: takes runs of parts, fetches them, hashes each, writes them.

What connections share is in `Job`. A connection whose sources all failed gives its parts
back and ends; the download fails with the last of them.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable

from axon_client.net.client import Answer, Client
from axon_client.net.faults import Transient, Unusable, host_of
from axon_client.net.hashes import hash_range
from axon_client.net.options import Options
from axon_client.net.pace import Limiter, Pace
from axon_client.net.plan import MOST_PARTS, Plan
from axon_client.net.ranges import Body, broken
from axon_client.net.sources import Route, Source
from axon_client.net.state import State
from mlos_core.errors import MlosError, Unavailable

BLOCK = 256 << 10
RUN = 4
"""Parts that are asked for with one request."""
PROGRESS = 64 << 10
"""Bytes that make up for earlier failures; fewer would let a server keep us for ever."""


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


class Connection:
    """Works until nothing is left to do.

    Args:
        first: an answer that is open already, at the first missing part.
        leads: begins with what an earlier download left rather than to end with it, and is
            the one that stays where the server gives no ranges.
    """

    def __init__(
        self, job: Job, route: Route, first: Opened | None = None, *, leads: bool = False
    ) -> None:
        self._job = job
        self._route = route
        self._first = first
        self._leads = leads

    def run(self) -> None:
        """The thread's body; raises nothing."""
        job = self._job
        try:
            while task := self._next():
                task()
        except BaseException as error:
            job.failed(error)
        finally:
            if self._first:
                self._first.answer.close()
            with job.lock:
                job.alive -= 1
                job.lock.notify_all()

    def _next(self) -> Callable[[], None] | None:
        """What to do next; None once nothing is or will be left."""
        job = self._job
        with job.lock:
            while not job.stop.is_set() and not job.plan.complete:
                if not job.ranged and not self._stays():
                    return None
                for take in (self._checks, self._runs)[:: 1 if self._leads else -1]:
                    task = take()
                    if task:
                        return task
                job.lock.wait(1.0)  # others work; what they give back is for us
        return None

    def _stays(self) -> bool:
        return self._leads or self._job.alive == 1

    def _checks(self) -> Callable[[], None] | None:
        part = self._job.plan.take_kept()
        return None if part is None else lambda: self._check(part)

    def _runs(self) -> Callable[[], None] | None:
        run = self._job.plan.take_run(RUN if self._job.ranged else MOST_PARTS)
        return None if run is None else lambda: self._fetch(run)

    def _check(self, part: int) -> None:
        job = self._job
        start, end = job.plan.bounds(part)
        try:
            sound = hash_range(job.file, start, end, job.stop.is_set) == job.kept[part]
        except MlosError:
            sound = False
        if sound:
            job.count(end - start)
            job.finished(part, job.kept[part], known=True)
        else:
            self._give_back(range(part, part + 1))

    def _give_back(self, parts: range) -> None:
        with self._job.lock:
            self._job.plan.give_back(parts)
            self._job.lock.notify_all()

    def _fetch(self, parts: range) -> None:
        sink = Sink(self._job, parts)
        try:
            while sink.position < sink.end and not self._job.stop.is_set():
                self._attempt(sink)
        finally:
            self._give_back(parts)

    def _attempt(self, sink: Sink) -> None:
        """One request for what is missing of a run."""
        job, before = self._job, sink.position
        source = self._route.pick()
        try:
            opened = self._open(source, sink)
            try:
                self._receive(opened, sink)
            except BaseException:
                opened.answer.close()
                raise
        except Unusable as fault:
            source.fault = fault.error
        except Transient as fault:
            if job.stop.is_set():
                return
            if not job.pinned and not job.if_range:
                raise Changed from fault  # nothing would tell whether it is still the same file
            if sink.position - before >= min(PROGRESS, job.plan.part_bytes):
                self._route.progressed()
            job.options.clock.sleep(self._route.failed(source, fault), job.stop)
        else:
            self._route.progressed()

    def _open(self, source: Source, sink: Sink) -> Opened:
        first, self._first = self._first, None
        if first:
            return first
        job = self._job
        answer, body = source.open(
            job.client, sink.position, sink.end, job.plan.size, job.if_range,
            job.options.clock.unix(),
        )  # fmt: skip
        if job.if_range and (not body.ranged or body.validator != job.if_range):
            answer.close()
            raise Changed
        if not body.ranged:
            with job.lock:
                job.ranged = False
                stays = self._stays()
            if not stays:
                answer.close()
                raise Superfluous
        return Opened(answer, body, source)

    def _receive(self, opened: Opened, sink: Sink) -> None:
        """Read one answer to the end of the run, or to its own."""
        job, answer, body = self._job, opened.answer, opened.body
        options, offset = job.options, body.start
        end = sink.end if body.length < 0 else min(sink.end, body.start + body.length)
        pace = Pace(options.slowest, options.stall_s)
        while offset < end and not job.stop.is_set():
            began = options.clock.now()
            data = answer.read1(min(BLOCK, job.limiter.block, end - offset))
            now = options.clock.now()
            if not data:
                raise Transient(_cut(answer.url, offset, end))
            if body.length < 0 and offset + len(data) == job.plan.size:
                self._expect_end(answer)
            sink.take(data, offset)
            offset += len(data)
            if pace.too_slow(len(data), now - began):
                raise Transient(_cut(answer.url, offset, end))
            wait = job.limiter.take(len(data), now)
            if wait:
                options.clock.sleep(wait, job.stop)
        if body.start + body.length == offset:
            answer.reusable()
        else:
            answer.close()

    def _expect_end(self, answer: Answer) -> None:
        """Nothing may follow the last byte. Asked before that counts: then all would be done."""
        if answer.read1(1):
            total = self._job.plan.size
            raise Unusable(broken(answer.url, f"sends more than the file's {total} bytes"))


def _cut(url: str, offset: int, end: int) -> MlosError:
    return Unavailable(
        f"{host_of(url)} stopped sending at byte {offset} of {end}", hint="try again later"
    )


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
