# SPDX-License-Identifier: BUSL-1.1
"""A blob's way into a repository: it is there, or taken over from another, or sent.

What fits into one chunk is sent at once. More goes in chunks, each where the registry says
that the last one ended: after a cut it is asked how much has arrived.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import IO, Final, Literal

from axon_client.net.client import Answer
from axon_client.net.faults import backoff
from axon_client.oci.client import Repository, with_query
from mlos_core.errors import AlreadyExists, MlosError, ProtocolError, Unavailable

CHUNK: Final = 16 << 20
_MOST_CHUNK: Final = 128 << 20
_MOST_FAILURES: Final = 6
_RANGE: Final = re.compile(r"(?:bytes=)?0-([0-9]{1,18})")
_OCTETS: Final = "application/octet-stream"
_PUSH: Final = "pull,push"
How = Literal["there", "mounted", "sent"]


def bring(
    repository: Repository,
    digest: str,
    size: int,
    source: Callable[[], IO[bytes]],
    advance: Callable[[int], None],
    mount: str = "",
) -> How:
    """See to it that a blob is in the repository.

    Args:
        source: opens its bytes.
        advance: told how many bytes more are there.
        mount: another repository of the registry that may have it.

    Raises:
        MlosError: the registry does not take it.
    """
    if repository.has(digest):
        advance(size)
        return "there"
    place, mounted = _start(repository, digest, mount)
    if mounted:
        advance(size)
        return "mounted"
    with source() as file:
        if size <= CHUNK:
            _finish(repository, place, digest, file.read(size))
            advance(size)
        else:
            _Chunks(repository, file, size, place, advance).send(digest)
    return "sent"


def _start(repository: Repository, digest: str, mount: str) -> tuple[str, bool]:
    url, also = f"{repository.base}/blobs/uploads/", ""
    if mount:
        url = with_query(url, mount=digest, **{"from": mount})
        also = f"repository:{mount}:pull"
    with repository.send("POST", url, body=b"", actions=_PUSH, also=also) as answer:
        if answer.status == 201:
            return "", True
        return repository.target(answer), False


def _finish(repository: Repository, place: str, digest: str, data: bytes) -> None:
    url = with_query(place, digest=digest)
    with repository.send("PUT", url, {"Content-Type": _OCTETS}, data, actions=_PUSH):
        pass


class _Chunks:
    """A blob on its way, chunk by chunk."""

    def __init__(
        self,
        repository: Repository,
        file: IO[bytes],
        size: int,
        place: str,
        advance: Callable[[int], None],
    ) -> None:
        self._repository = repository
        self._file = file
        self._size = size
        self._place = place
        self._advance = advance
        self._offset = 0
        self._told = 0

    def send(self, digest: str) -> None:
        """Send everything and have it kept.

        Raises:
            Unavailable: the connection breaks again and again.
        """
        failures = 0
        while self._offset < self._size:
            before = self._offset
            try:
                self._send_one()
            except (Unavailable, AlreadyExists, ProtocolError) as error:
                failures = 1 if self._offset > before else failures + 1
                if failures >= _MOST_FAILURES:
                    raise
                self._recover(error, failures)
            else:
                failures = 0
        _finish(self._repository, self._place, digest, b"")

    def _send_one(self) -> None:
        self._file.seek(self._offset)
        data = self._file.read(min(CHUNK, self._size - self._offset))
        end = self._offset + len(data)
        headers = {"Content-Type": _OCTETS, "Content-Range": f"{self._offset}-{end - 1}"}
        with self._repository.send(
            "PATCH", self._place, headers, data, actions=_PUSH, attempts=1
        ) as answer:
            self._went(answer, end)

    def _recover(self, error: MlosError, failures: int) -> None:
        """Ask how much has arrived; a registry that does not know any more ends it."""
        clock = self._repository.clock
        clock.sleep(backoff(failures, clock.chance()))
        with self._repository.send("GET", self._place, actions=_PUSH) as answer:
            self._went(answer, 0)

    def _went(self, answer: Answer, expected: int) -> None:
        """Go on where the registry says, or at `expected` if it says nothing."""
        if answer.headers.get("Location"):
            self._place = self._repository.target(answer)
        found = _RANGE.fullmatch(answer.headers.get("Range", "").strip())
        # An upload that is empty has the range 0-0 too.
        offset = expected if found is None else (int(found[1]) + 1 if int(found[1]) else 0)
        if offset > self._size:
            raise ProtocolError(f"{self._repository.place} has more of the upload than was sent")
        self._offset = offset
        if offset > self._told:
            self._advance(offset - self._told)
            self._told = offset
