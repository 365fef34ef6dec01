# SPDX-License-Identifier: BUSL-1.1
"""A blob's way into a repository: it is there, or taken over from another, or sent.

It is sent in one request, as docker does, which every registry takes; after a cut the registry
is asked how much has arrived, and the rest follows. Where nothing arrives - a proxy ahead of
the registry may bound what one request brings - it goes in chunks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import IO, Final, Literal

from axon_client.net.client import Answer
from axon_client.net.faults import backoff
from axon_client.oci.client import Repository, with_query
from mlos_core.errors import AlreadyExists, ProtocolError, Unavailable

CHUNK: Final = 16 << 20
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
        _Sending(repository, file, size, place, advance).send(digest)
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


class _Part:
    """The bytes of an open file from `start` on, `count` of them, as the body of a request."""

    def __init__(
        self, file: IO[bytes], start: int, count: int, read_to: Callable[[int], None]
    ) -> None:
        self._file = file
        self._start = start
        self._count = count
        self._read_to = read_to
        self.rewind()

    def __len__(self) -> int:
        return self._count

    def rewind(self) -> None:
        """Begin again."""
        self._file.seek(self._start)
        self._left = self._count

    def read(self, count: int = -1) -> bytes:
        """Up to `count` bytes."""
        data = self._file.read(self._left if count < 0 else min(count, self._left))
        self._left -= len(data)
        self._read_to(self._start + self._count - self._left)
        return data


class _Sending:
    """A blob on its way."""

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
        self._most = max(1, size)

    def send(self, digest: str) -> None:
        """Send everything and have it kept.

        Raises:
            Unavailable: the connection breaks again and again.
        """
        failures = 0
        while self._offset < self._size:
            before = self._offset
            try:
                self._send_some()
            except (Unavailable, AlreadyExists, ProtocolError) as error:
                self._recover(failures)
                failures = 1 if self._offset > before else failures + 1
                if failures >= _MOST_FAILURES:
                    raise error from None
                if self._offset == before:
                    self._most = CHUNK
            else:
                failures = 0
        url = with_query(self._place, digest=digest)
        self._repository.send("PUT", url, {"Content-Type": _OCTETS}, b"", actions=_PUSH).close()
        self._tell(self._size)

    def _send_some(self) -> None:
        end = min(self._size, self._offset + self._most)
        headers = {"Content-Type": _OCTETS}
        if (self._offset, end) != (0, self._size):
            headers["Content-Range"] = f"{self._offset}-{end - 1}"
        part = _Part(self._file, self._offset, end - self._offset, self._tell)
        with self._repository.send(
            "PATCH", self._place, headers, part, actions=_PUSH, attempts=1
        ) as answer:
            self._went(answer, end)

    def _recover(self, failures: int) -> None:
        """Ask how much has arrived; a registry that does not know any more ends it."""
        clock = self._repository.clock
        clock.sleep(backoff(failures + 1, clock.chance()))
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

    def _tell(self, offset: int) -> None:
        if offset > self._told:
            self._advance(offset - self._told)
            self._told = offset
