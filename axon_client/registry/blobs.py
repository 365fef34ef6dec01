# SPDX-License-Identifier: BUSL-1.1
"""The registry's files, each once, under its digest.

Guarantees: a file below `blobs/sha256` is complete, read-only and has the digest it is named
after; it appears by a rename after its bytes are on disk. A file is deleted only inside a
writing transaction, and only if nothing needs it and nobody asked for it of late, so that
what a publishing transaction has seen stays.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

from axon_client.files import sync_folder
from axon_client.hashing import copy_durably
from axon_client.manifest import ModelFile
from axon_client.registry.database import Database
from axon_client.registry.limits import Limits
from axon_client.registry.problems import WrongDigest, missing_blobs
from axon_client.registry.rows import needed
from axon_client.registry.uploads import Uploads
from axon_client.store import Freed
from axon_client.store.blobs import is_digest
from mlos_core.errors import ConfigError, NotFound


class Blobs:
    """The blobs of the registry in `folder`; `uploads` are those on their way.

    Args:
        folder: the registry's folder.
        database: says what is needed.
        limits: sizes and times.
        clock: gives seconds, as `time.time` does.

    Raises:
        ConfigError: the folder is an axon home, whose own collection would take the blobs.
    """

    def __init__(
        self,
        folder: Path,
        database: Database,
        limits: Limits = Limits(),  # noqa: B008
        clock: Callable[[], float] = time.time,
    ) -> None:
        if (folder / "models").exists():
            raise ConfigError(
                f"{folder} holds installed models", hint="give the registry a folder of its own"
            )
        self.root = folder / "blobs" / "sha256"
        self.root.mkdir(parents=True, exist_ok=True)
        self._database = database
        self._limits = limits
        self._clock = clock
        self.uploads = Uploads(folder / "uploads", self.adopt, database, limits, clock)

    def blob(self, digest: str) -> Path | None:
        """Where a blob is, by its hex digest; None if it is not here."""
        if not is_digest(digest):
            return None
        path = self.root / digest
        return path if path.is_file() else None

    def size(self, digest: str) -> int | None:
        """Bytes of a blob; None if it is not here."""
        path = self.blob(digest)
        with suppress(FileNotFoundError):
            return path.stat().st_size if path else None
        return None

    def claim(self, digest: str, size: int | None = None) -> bool:
        """Whether a blob that somebody is going to need is here; it is then kept for them.

        One that has not the `size` that was told is damaged, or that was a lie: in both cases
        an upload will tell.
        """
        with self._database.write():
            there = self.size(digest)
            if there is None or size not in (None, there):
                return False
            now = self._clock()
            os.utime(self.root / digest, (now, now))
            return True

    def put(self, source: Path | IO[bytes], sha256: str = "") -> str:
        """Copy a file's bytes into the registry; gives their hex digest.

        Raises:
            WrongDigest: they are not what `sha256` promises.
            PayloadTooLarge, InvalidInput: there are more than the limit allows.
        """
        staged = self.uploads.folder / f"put-{secrets.token_hex(8)}"
        try:
            if isinstance(source, Path):
                with source.open("rb") as file:
                    _, digest = copy_durably(file, staged, self._limits.blob)
            else:
                _, digest = copy_durably(source, staged, self._limits.blob)
            if sha256 and sha256 != digest:
                raise WrongDigest(f"the bytes have the digest {digest}, not {sha256}")
            self.adopt(staged, digest)
            return digest
        finally:
            staged.unlink(missing_ok=True)

    def adopt(self, path: Path, digest: str) -> None:
        """Make a file of ours, whose digest was computed and which is on disk, a blob."""
        path.chmod(0o444)
        now = self._clock()
        os.utime(path, (now, now))
        path.replace(self.root / digest)
        sync_folder(self.root)

    def check(self, title: str, files: Iterable[ModelFile]) -> None:
        """See that every file of a version is here with its size.

        Raises:
            MissingBlobs: names those that are not.
        """
        missing = {file.sha256: None for file in files if self.size(file.sha256) != file.size}
        if missing:
            raise missing_blobs(title, list(missing))

    def open(self, digest: str) -> IO[bytes]:
        """A blob's bytes.

        Raises:
            NotFound: it is not here.
        """
        path = self.blob(digest)
        with suppress(FileNotFoundError):
            if path:
                return path.open("rb")
        raise NotFound(f"there is no blob {digest[:80]!r}")

    def collect(self) -> Freed:
        """Delete what nothing needs and nobody asked for of late, and expired uploads."""
        self.uploads.expire()
        with self._database.read() as connection:
            idle = self._idle(connection, (path.name for path in self.root.iterdir()))
        if not idle:
            return Freed(0, 0)  # as nearly always: nobody waits while every file is looked at
        with self._database.write() as connection:
            idle = self._idle(connection, idle)  # what somebody wanted meanwhile stays
            for digest in idle:
                (self.root / digest).unlink()
        return Freed(len(idle), sum(idle.values()))

    def _idle(self, connection: sqlite3.Connection, digests: Iterable[str]) -> dict[str, int]:
        """Those that nothing needs and nobody asked for of late, with their sizes."""
        limit = self._clock() - self._limits.keep
        wanted = {*needed(connection), *self.uploads.announced(connection)}
        found = {}
        for digest in digests:
            with suppress(FileNotFoundError):
                status = (self.root / digest).stat()
                if digest not in wanted and status.st_mtime < limit:
                    found[digest] = status.st_size
        return found
