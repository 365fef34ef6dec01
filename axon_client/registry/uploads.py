# SPDX-License-Identifier: BUSL-1.1
"""Uploads under way: files that grow, are cut, go on, and become blobs.

Guarantees: bytes are appended where the last ones ended and nowhere else, by one writer at a
time; only the token that began an upload sees it; a file that has the wrong digest is thrown
away. An upload that nothing is added to expires. After a crash it goes on where its file
ends, and its digest is then computed from the file. Who asks again, because an answer was
lost, gets the same answer: for the same file the same upload, for a finished one its digest.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from axon_client.hashing import hash_file
from axon_client.lock import try_lock
from axon_client.registry.database import Database
from axon_client.registry.limits import Limits
from axon_client.registry.problems import WrongDigest, WrongOffset
from axon_client.registry.writer import UNKNOWN, Digest, Upload, Writer, full
from mlos_core.errors import NotFound, Overloaded, PayloadTooLarge

REMEMBERED_S: Final = 3600.0
"""How long a finished upload answers; a client that lost the answer asks again by then."""


class Uploads:
    """The uploads of a registry, in `folder`.

    Args:
        folder: where their files are.
        adopt: makes a finished file the blob of a digest.
        database: keeps what was announced.
        limits: sizes, counts and times.
        clock: gives seconds, as `time.time` does.
    """

    def __init__(
        self,
        folder: Path,
        adopt: Callable[[Path, str], None],
        database: Database,
        limits: Limits,
        clock: Callable[[], float],
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._adopt = adopt
        self._database = database
        self._limits = limits
        self._clock = clock
        self._digests: dict[str, Digest] = {}
        self._guard = threading.Lock()

    def start(self, owner: str, sha256: str = "", size: int = UNKNOWN) -> Upload:
        """Begin an upload, or go on with the one of that file; `owner` is the id of a token.

        Raises:
            PayloadTooLarge: the announced size is not allowed.
            OutOfMemory: the disk has no room for it.
            Overloaded: too many are under way.
        """
        if size > self._limits.blob:
            raise PayloadTooLarge(f"a file may have at most {self._limits.blob} bytes")
        upload = Upload(secrets.token_hex(16), sha256, size, 0)
        with self._database.write() as connection:
            begun = self._begun(connection, owner, sha256, size)
            self._check_room(max(size, 0) - (begun.offset if begun else 0))
            if begun:
                return begun
            self._check_count(connection, owner)
            connection.execute(
                "INSERT INTO uploads (id, owner, sha256, size, expires) VALUES (?, ?, ?, ?, ?)",
                (upload.id, owner, sha256, size, self._end()),
            )
            self._path(upload.id).touch(0o600, exist_ok=False)
        with self._guard:
            self._digests[upload.id] = Digest()
        return upload

    def _begun(
        self, connection: sqlite3.Connection, owner: str, sha256: str, size: int
    ) -> Upload | None:
        row = connection.execute(
            "SELECT id FROM uploads WHERE owner = ? AND sha256 = ? AND sha256 <> '' AND size = ?"
            " AND expires > ? AND NOT finished",
            (owner, sha256, size, self._clock()),
        ).fetchone()
        with suppress(FileNotFoundError):
            if row is not None:
                return Upload(row["id"], sha256, size, self._path(row["id"]).stat().st_size)
        return None

    def _check_room(self, count: int) -> None:
        if shutil.disk_usage(self.folder).free - self._limits.spare < count:
            raise full()

    def _check_count(self, connection: sqlite3.Connection, owner: str) -> None:
        all_, own = connection.execute(
            "SELECT count(*), coalesce(sum(owner = ?), 0) FROM uploads WHERE NOT finished", (owner,)
        ).fetchone()
        if all_ >= self._limits.uploads or own >= self._limits.uploads_each:
            raise Overloaded(
                f"{own} of your uploads are under way, {all_} in all",
                hint="finish or delete some, or wait until they expire",
            )

    def get(self, key: str, owner: str) -> Upload:
        """An upload of this owner.

        Raises:
            NotFound: there is none.
        """
        with self._database.read() as connection:
            upload = self._read(connection, key, owner)
        if upload is None:
            # A file that is gone may have become a blob just now: wait for who finishes it.
            with self._database.write() as connection:
                upload = self._read(connection, key, owner)
        if upload is None:
            raise NotFound("there is no such upload", hint="begin it again; it may have expired")
        return upload

    def _read(self, connection: sqlite3.Connection, key: str, owner: str) -> Upload | None:
        row = connection.execute(
            "SELECT sha256, size, finished FROM uploads WHERE id = ? AND owner = ? AND expires > ?",
            (key, owner, self._clock()),
        ).fetchone()
        if row is not None and row["finished"]:
            return Upload(key, row["sha256"], row["size"], row["size"], finished=True)
        with suppress(FileNotFoundError):
            if row is not None:
                return Upload(key, row["sha256"], row["size"], self._path(key).stat().st_size)
        return None

    @contextmanager
    def append(self, key: str, owner: str, offset: int) -> Iterator[Writer]:
        """A block that appends from `offset` on, which is where the file must end.

        Raises:
            NotFound: there is no such upload.
            WrongOffset: it goes on elsewhere.
            Overloaded: somebody else is appending.
        """
        with self._exclusive(key, owner) as (file, upload):
            if file is None or offset != upload.offset:
                raise _elsewhere(upload, f"the upload goes on at byte {upload.offset}")
            self._prolong(key)
            limit = self._limits.blob if upload.size == UNKNOWN else upload.size
            writer = Writer(file, upload, limit, self._digest(key), self._asking(key))
            with contextlib.closing(writer):
                yield writer

    def _prolong(self, key: str) -> None:
        with self._database.write() as connection:
            connection.execute("UPDATE uploads SET expires = ? WHERE id = ?", (self._end(), key))

    def _asking(self, key: str) -> Callable[[int], None]:
        """What every block waits for: room on the disk; and one that takes days lives on."""
        prolonged = self._clock()

        def ask(count: int) -> None:
            nonlocal prolonged
            self._check_room(count)
            if self._clock() - prolonged > self._limits.upload_life / 8:
                self._prolong(key)
                prolonged = self._clock()

        return ask

    def finish(self, key: str, owner: str, sha256: str = "") -> str:
        """Make a complete upload a blob; gives its hex digest.

        Args:
            key: the upload's id.
            owner: whose it is.
            sha256: what the digest must be, if it was not announced.

        Raises:
            NotFound: there is no such upload.
            WrongOffset: bytes are missing.
            WrongDigest: the bytes are others; the upload is gone.
        """
        with self._exclusive(key, owner) as (file, upload):
            if upload.size not in (UNKNOWN, upload.offset):
                raise _elsewhere(upload, f"the upload has {upload.offset} of {upload.size} bytes")
            digest = upload.sha256 if file is None else self._hashed(file, upload)
            promised = {upload.sha256, sha256} - {"", digest}
            if promised:
                self.forget(key)
                raise WrongDigest(
                    f"the upload has the digest {digest}, not {promised.pop()}",
                    hint="it was thrown away: upload the file again",
                )
            if file is not None:
                self._end_as(key, digest, upload.offset)
            return digest

    def _hashed(self, file: IO[bytes], upload: Upload) -> str:
        os.fsync(file.fileno())
        known = self._digest(upload.id).at(upload.offset)
        return known or hash_file(self._path(upload.id))

    def _end_as(self, key: str, digest: str, size: int) -> None:
        """Make it a blob, and remember that for a while."""
        with self._database.write() as connection:
            connection.execute(
                "UPDATE uploads SET finished = 1, sha256 = ?, size = ?, expires = ? WHERE id = ?",
                (digest, size, self._clock() + REMEMBERED_S, key),
            )
            self._adopt(self._path(key), digest)
        with self._guard:
            self._digests.pop(key, None)

    def cancel(self, key: str, owner: str) -> None:
        """Throw an upload away.

        Raises:
            NotFound: there is no such upload.
            Overloaded: somebody is appending to it.
        """
        with self._exclusive(key, owner):
            self.forget(key)

    def forget(self, key: str) -> None:
        """Drop all that is left of an upload."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM uploads WHERE id = ?", (key,))
        self._drop(key)

    def _drop(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)
        with self._guard:
            self._digests.pop(key, None)

    def expire(self) -> None:
        """Throw away what is expired, and files that a crash left behind."""
        now = self._clock()
        with self._database.write() as connection:
            rows = connection.execute("SELECT id FROM uploads WHERE expires <= ?", (now,))
            ended = [row["id"] for row in rows]
            connection.executemany("DELETE FROM uploads WHERE id = ?", [(key,) for key in ended])
            known = {row["id"] for row in connection.execute("SELECT id FROM uploads")}
        for key in ended:
            self._drop(key)
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):
                if path.name not in known and path.stat().st_mtime < now - self._limits.upload_life:
                    path.unlink()

    def announced(self, connection: sqlite3.Connection) -> list[str]:
        """The digests that uploads under way promise."""
        rows = connection.execute("SELECT sha256 FROM uploads WHERE expires > ?", (self._clock(),))
        return [row[0] for row in rows]

    @contextmanager
    def _exclusive(self, key: str, owner: str) -> Iterator[tuple[IO[bytes] | None, Upload]]:
        """An upload and its file, for nobody else meanwhile; no file if it is finished."""
        upload = self.get(key, owner)
        if upload.finished:
            yield None, upload
            return
        with self._opened(key) as file:
            if not try_lock(file):
                raise Overloaded("this upload is being written to", hint="ask again for its offset")
            upload = self.get(key, owner)  # it may have ended before the lock was free
            yield (None if upload.finished else file), upload

    def _opened(self, key: str) -> IO[bytes]:
        try:
            handle = os.open(self._path(key), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            return os.fdopen(handle, "ab", buffering=0)
        except FileNotFoundError as error:  # finished or thrown away just now
            raise Overloaded("this upload is being ended", hint="ask again for it") from error

    def _digest(self, key: str) -> Digest:
        with self._guard:
            # One that was not here from the start never reaches the offset, so it gives nothing.
            return self._digests.setdefault(key, Digest())

    def _path(self, key: str) -> Path:
        return self.folder / key

    def _end(self) -> float:
        return self._clock() + self._limits.upload_life


def _elsewhere(upload: Upload, message: str) -> WrongOffset:
    error = WrongOffset(message, hint="go on at Upload-Offset")
    error.offset = upload.offset
    return error
