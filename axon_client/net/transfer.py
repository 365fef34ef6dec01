# SPDX-License-Identifier: BUSL-1.1
"""One connection's work: takes runs of parts, fetches them, hashes each, writes them.

What connections share is in job.py. A connection whose sources all failed gives its parts
back and ends; the download fails with the last of them.
"""

from __future__ import annotations

from collections.abc import Callable

from axon_client.net.client import Answer
from axon_client.net.faults import Transient, Unusable, host_of
from axon_client.net.hashes import hash_range
from axon_client.net.job import Changed, Job, Opened, Sink, Superfluous
from axon_client.net.pace import Pace
from axon_client.net.plan import MOST_PARTS
from axon_client.net.ranges import broken
from axon_client.net.sources import Route, Source
from mlos_core.errors import MlosError, Unavailable

BLOCK = 256 << 10
RUN = 4
"""Parts that are asked for with one request."""
PROGRESS = 64 << 10
"""Bytes that make up for earlier failures; fewer would let a server keep us for ever."""


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
            if self._moved(sink, before):
                self._route.progressed()
            job.options.clock.sleep(self._route.failed(source, fault), job.stop)
        else:
            if self._moved(sink, before):
                self._route.progressed()
            else:
                crumbs = Transient(_cut(source.url, sink.position, sink.end))
                job.options.clock.sleep(self._route.failed(source, crumbs), job.stop)

    def _moved(self, sink: Sink, before: int) -> bool:
        """Whether a request brought enough to make up for those that failed."""
        enough = min(PROGRESS, self._job.plan.part_bytes)
        return sink.position == sink.end or sink.position - before >= enough

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
