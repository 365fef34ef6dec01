# SPDX-License-Identifier: BUSL-1.1
"""One attempt at a file: how it begins, what is followed while it runs, how it is judged."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from axon_client.errors import IntegrityError
from axon_client.net.client import Client
from axon_client.net.faults import Transient, Unusable, host_of
from axon_client.net.hashes import Follower
from axon_client.net.job import Changed, Job, Opened
from axon_client.net.options import Options
from axon_client.net.pace import shared_limiter
from axon_client.net.plan import Plan, part_size
from axon_client.net.ranges import broken, judge
from axon_client.net.sources import Route, Source
from axon_client.net.state import Head, State
from axon_client.net.stream import Unsized
from axon_client.net.transfer import RUN, Connection
from axon_client.progress import Progress
from mlos_core.errors import OutOfMemory, Unavailable

if TYPE_CHECKING:
    from axon_client.adapters.base import RemoteFile

TICK_S = 0.2
JOIN_S = 10.0
TASK = "download"


class Downloaded(msgspec.Struct, frozen=True):
    """What lies in the target now: bytes, and their hex SHA-256."""

    size: int
    sha256: str


class Mismatch(Exception):
    """All came, and is not what was promised. `culprit`: the one source that it came from."""

    def __init__(self, error: IntegrityError, culprit: Source | None) -> None:
        super().__init__(str(error))
        self.error = error
        self.culprit = culprit


def digest_of(file: RemoteFile) -> str:
    """The digest that the source states, the better one; empty if there is none."""
    if file.sha256:
        return f"sha256:{file.sha256}"
    return f"git_sha1:{file.git_sha1}" if file.git_sha1 else ""


def state_of(target: Path) -> Path:
    """Where it is noted what a partial file holds."""
    return target.with_name(target.name + ".state")


class Attempt:
    """One attempt at a file, from sources that may be mixed."""

    def __init__(
        self,
        target: Path,
        file: RemoteFile,
        sources: Sequence[Source],
        progress: Progress,
        options: Options,
    ) -> None:
        self._target = target
        self._wanted = file
        self._digest = digest_of(file)
        self._sources = sources
        self._progress = progress
        self._options = options
        self._client = Client(options)
        self._finished = False
        self._resumed = False
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Attempt:
        self._state = State(state_of(self._target))
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.open(self._target, flags, 0o600)
        except BaseException:
            self._state.close(finished=False)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._client.cut()
        for thread in self._threads:
            thread.join(JOIN_S)
        if not any(thread.is_alive() for thread in self._threads):
            os.close(self._file)  # a thread that is stuck would write into another file
            self._client.close()
        self._state.close(finished=self._finished)

    def run(self) -> Downloaded:
        """Fetch what is missing, hash everything, compare."""
        job, first = self._begin()
        if job is None:
            assert first is not None
            return self._stream(first)
        git_size = job.plan.size if self._wanted.git_sha1 else -1
        follower = Follower(self._file, git_size)
        self._start(job, first)
        try:
            self._follow(job, follower)
        finally:
            job.stop.set()
        return self._judge(follower)

    # --- how it begins ----------------------------------------------------------------

    def _begin(self) -> tuple[Job | None, Opened | None]:
        head, kept = self._left_over()
        if head:
            self._resumed = True
            ranged = True
            if not self._digest or self._wanted.size < 0:
                ranged = self._is_the_same(head)
            return self._job(head, kept, ranged=ranged), None
        first = self._ask(self._wanted.size, "")
        try:
            return self._anew(first), first
        except BaseException:
            first.answer.close()
            raise

    def _anew(self, first: Opened) -> Job | None:
        """A file of which nothing is there; None if nobody says how large it is."""
        body = first.body
        total = self._wanted.size if body.total < 0 else body.total
        if total < 0:
            self._check_end(first)
            return None
        self._check_size(total)
        size = part_size(total, self._options.part_bytes)
        validator = body.validator if body.ranged else ""
        head = Head(total, size, self._digest, first.source.url, validator)
        os.ftruncate(self._file, 0)
        os.ftruncate(self._file, total)  # sparse: a lying size must not fill the disk
        self._state.begin(head)
        return self._job(head, {}, ranged=body.ranged)

    def _left_over(self) -> tuple[Head | None, dict[int, str]]:
        """What an earlier download left of this very file."""
        head, kept = self._state.read()
        if head is None or head.digest != self._digest:
            return None, {}
        if self._wanted.size not in (-1, head.size):
            return None, {}
        if not self._digest and (head.url != self._sources[0].url or not head.validator):
            return None, {}
        if os.fstat(self._file).st_size != head.size:
            os.ftruncate(self._file, head.size)  # the digests tell what of it is sound
        return head, kept

    def _is_the_same(self, head: Head) -> bool:
        """Whether ranges can be had of the file of which we have parts.

        Raises:
            Changed: it is another one now.
        """
        with self._ask(-1, "" if self._digest else head.validator, most=1).answer as answer:
            body = judge(answer.status, answer.headers, 0, 1, -1, answer.url)
        same = bool(self._digest) or (body.ranged and body.validator == head.validator)
        if not same or body.total not in (-1, head.size):
            raise Changed
        return body.ranged

    def _ask(self, total: int, if_range: str, most: int = 0) -> Opened:
        """The first request, from whichever source answers."""
        options, route = self._options, Route(self._sources, self._options)
        end = most or RUN * part_size(max(total, 0), options.part_bytes)
        end = min(end, total) if total > 0 else end
        while True:
            source = route.pick()
            try:
                now = options.clock.unix()
                return Opened(*source.open(self._client, 0, end, total, if_range, now), source)
            except Unusable as fault:
                source.fault = fault.error
            except Transient as fault:
                options.clock.sleep(route.failed(source, fault))

    def _check_end(self, first: Opened) -> None:
        """Without a size, something must tell a whole file from one that was cut off."""
        chunked = first.answer.headers.get("Transfer-Encoding", "").lower() == "chunked"
        if first.body.ranged or not (chunked or self._digest):
            raise broken(first.source.url, f"does not say how large {self._wanted.path} is")

    def _check_size(self, total: int) -> None:
        if total > self._options.max_bytes:
            raise broken(self._sources[0].url, f"says that {self._wanted.path} has {total} bytes")
        free = shutil.disk_usage(self._target.parent).free
        if total - os.fstat(self._file).st_blocks * 512 > free:
            raise OutOfMemory(
                f"{self._wanted.path} has {total >> 20} MiB, and {free >> 20} MiB are free",
                hint=f"make room below {self._target.parent}, or choose another AXON_HOME",
            )

    def _job(self, head: Head, kept: dict[int, str], *, ranged: bool) -> Job:
        return Job(
            file=self._file,
            plan=Plan(head.size, head.part_bytes, kept),
            state=self._state,
            client=self._client,
            options=self._options,
            limiter=shared_limiter(self._options.rate_limit),
            kept=kept,
            if_range="" if self._digest else head.validator,
            pinned=bool(self._digest),
            ranged=ranged and bool(self._digest or head.validator),
        )

    # --- while it runs ----------------------------------------------------------------

    def _start(self, job: Job, first: Opened | None) -> None:
        parts = max(1, -(-job.plan.size // job.plan.part_bytes))
        job.alive = min(self._options.parallel, -(-parts // RUN)) if job.ranged else 1
        for number in range(job.alive):
            connection = Connection(
                job, Route(self._sources, self._options), None if number else first,
                leads=number == 0,
            )  # fmt: skip
            thread = threading.Thread(target=connection.run, name=f"download-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _follow(self, job: Job, follower: Follower) -> None:
        size = job.plan.size
        while follower.position < size:
            with job.lock:
                if job.waits(follower.position):
                    job.lock.wait(TICK_S)
                front, error = job.plan.front, job.error
                if not job.alive and not job.plan.complete:
                    error = error or job.last or Unavailable(f"{self._wanted.path} did not come")
            if error is not None:
                raise error
            follower.advance(front)
            self._progress(TASK, min(job.received, size), size)

    def _stream(self, first: Opened) -> Downloaded:
        """A file whose size nobody knows comes in one piece, or not at all."""
        os.ftruncate(self._file, 0)
        limiter = shared_limiter(self._options.rate_limit)
        unsized = Unsized(self._file, self._options, limiter, self._progress)
        try:
            size = unsized.receive(first.answer)
        except Transient as fault:
            raise Changed from fault
        except Unusable as fault:
            raise fault.error from fault
        follower = Follower(self._file, size if self._wanted.git_sha1 else -1)
        follower.advance(size)
        return self._judge(follower)

    def _judge(self, follower: Follower) -> Downloaded:
        """Whether it is what was promised."""
        wanted = self._wanted
        for name, came, stated in (
            ("sha256", follower.sha256, wanted.sha256),
            ("git hash", follower.git_sha1, wanted.git_sha1),
        ):
            if stated and came != stated.lower():
                error = IntegrityError(
                    f"{wanted.path} from {host_of(self._sources[0].url)} has {name} {came}, "
                    f"but {stated} was promised",
                    hint="do not use it; try again, and tell the source's owner if it stays",
                )
                raise Mismatch(error, self._culprit())
        self._finished = True
        return Downloaded(follower.position, follower.sha256)

    def _culprit(self) -> Source | None:
        """The one source that everything came from, if there is only one."""
        asked = [source for source in self._sources if source.answered]
        return asked[0] if len(asked) == 1 and not self._resumed else None
