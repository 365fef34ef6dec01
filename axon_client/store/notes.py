# SPDX-License-Identifier: BUSL-1.1
"""Small facts about blobs, as files whose names say it all: nothing to parse, nothing torn.

HOME/leases/<digest>            fetched, but not installed yet; spares it from gc a while
HOME/pins/<owner>/<digest>      needed by something beside the installed models
HOME/names/git-<sha1>           holds the digest of the content that git calls so
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from axon_client.store.blobs import check_digest, is_digest

LEASE_S: Final = 86400.0
"""How long what was fetched for an installation that never ended is kept, in seconds."""


class Leases:
    """What a killed installation fetched: whoever tries again finds it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, digest: str) -> None:
        """Spare a blob for a while from now on."""
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / check_digest(digest)).touch()

    def drop(self, digest: str) -> None:
        """End a lease, if there is one."""
        (self._folder / check_digest(digest)).unlink(missing_ok=True)

    def current(self, now: float | None = None) -> set[str]:
        """The digests of leases that have not run out. `now`: seconds since the epoch."""
        now = time.time() if now is None else now
        # One from the future was taken before the clock was put back: it must not last till then.
        return {name for name, taken in self._all() if abs(now - taken) <= LEASE_S}

    def keep(self, digests: set[str]) -> None:
        """Drop the leases of all others."""
        for name, _ in list(self._all()):
            if name not in digests:
                self.drop(name)

    def _all(self) -> Iterator[tuple[str, float]]:
        with suppress(FileNotFoundError):
            for entry in os.scandir(self._folder):
                with suppress(FileNotFoundError):
                    if is_digest(entry.name):
                        yield entry.name, entry.stat().st_mtime


class Names:
    """Other names of contents, so that what git named is not fetched twice."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def digest_of(self, git_sha1: str) -> str:
        """The digest of what git calls so; empty if that is not known."""
        if not git_sha1:
            return ""
        try:
            digest = self._path(git_sha1).read_text()
        except (FileNotFoundError, UnicodeDecodeError):
            return ""
        return digest if is_digest(digest) else ""

    def learn(self, git_sha1: str, digest: str) -> None:
        """Remember what a content is called. Call with the contents checked."""
        self._folder.mkdir(parents=True, exist_ok=True)
        made = self._folder / secrets.token_hex(8)
        made.write_text(check_digest(digest))
        made.replace(self._path(git_sha1))

    def keep(self, digests: set[str]) -> None:
        """Forget the names of all others."""
        for path in _children(self._folder):
            with suppress(FileNotFoundError, UnicodeDecodeError):
                if path.read_text() not in digests:
                    path.unlink()

    def _path(self, git_sha1: str) -> Path:
        return self._folder / f"git-{git_sha1.replace('/', '')}"


def _children(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
