# SPDX-License-Identifier: BUSL-1.1
"""Downloads under way: `HOME/partial/<key>`, with what the downloader notes beside it.

One process at a time works on a file. The others wait for it, and either find the blob or
go on where a dead one stopped: the file and the notes on what of it is verified stay.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from axon_client.lock import claimed, is_claimed, remove_if_free
from axon_client.progress import Progress
from axon_client.store.collect import Freed
from axon_client.store.waiting import STALLED_S, Wait, seen_of

if TYPE_CHECKING:
    from axon_client.adapters.base import RemoteFile

OLD_S: Final = 7 * 86400.0
"""After how long a download that nobody goes on with is given up, in seconds."""
STATE, LOCK = ".state", ".lock"


def key_of(file: RemoteFile) -> str:
    """The name of a file's download: by its content where that is known, else by its place."""
    if file.sha256:
        return f"sha256-{file.sha256}"
    if file.git_sha1:
        return f"git-{file.git_sha1}"
    return "url-" + hashlib.sha256("\n".join(file.urls).encode()).hexdigest()


class Partial(msgspec.Struct, frozen=True):
    """A download that is not finished. `used` is in seconds since the epoch."""

    key: str
    bytes: int
    used: float
    claimed: bool


class Partials:
    """The folder of unfinished downloads."""

    def __init__(self, folder: Path, stalled_s: float = STALLED_S) -> None:
        self.folder = folder
        self._stalled_s = stalled_s

    def path(self, key: str) -> Path:
        """The file that a download goes into."""
        return self.folder / key

    @contextmanager
    def claim(self, key: str, progress: Progress, size: int = 0) -> Iterator[Path]:
        """Be the one who works on a download; waits while another process is.

        Args:
            size: of the whole file, for the progress that is shown while waiting.

        Raises:
            DeadlineExceeded: nothing came in at the other process for too long.
        """
        target = self.path(key)

        def look() -> tuple[int, int]:
            seen = seen_of(target)
            progress("wait", seen[0], max(size, 0))
            return seen

        with claimed(self._lock(key), Wait(str(target), look, self._stalled_s).step):
            yield target

    def forget(self, key: str) -> None:
        """Delete a download and the notes on it. Call with the claim held."""
        for path in (self.path(key), self.path(key + STATE)):
            path.unlink(missing_ok=True)

    def all(self) -> list[Partial]:
        """Every download that is not finished."""
        entries = self.folder.iterdir() if self.folder.is_dir() else ()
        keys = {path.name.removesuffix(STATE).removesuffix(LOCK) for path in entries}
        return [self._look(key) for key in sorted(keys)]

    def expire(self, age_s: float, *, dry_run: bool = False) -> Freed:
        """Delete the downloads that nobody works on and that are older than `age_s` seconds."""
        freed, now = Freed(), time.time()
        for partial in self.all():
            # One from the future was left before the clock was put back.
            if partial.claimed or abs(now - partial.used) < age_s:
                continue
            if dry_run or self.discard(partial):
                freed += Freed(bytes=partial.bytes, partials=1)
        return freed

    def discard(self, partial: Partial) -> bool:
        """Delete a download, unless somebody works on it."""
        return remove_if_free(self._lock(partial.key), lambda: self.forget(partial.key))

    def _lock(self, key: str) -> Path:
        return self.folder / (key + LOCK)

    def _look(self, key: str) -> Partial:
        size, used = seen_of(self.path(key))
        used = max(used, seen_of(self.path(key + STATE))[1])
        return Partial(key, size, used / 1e9, is_claimed(self._lock(key)))
