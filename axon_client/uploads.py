# SPDX-License-Identifier: BUSL-1.1
"""Sending files to an axon registry: only those it lacks, each from where it was cut.

    HOME/uploads/<hash of registry and digest>    where an upload under way goes on

Guarantees: bytes are sent from the offset that the registry names, never twice beyond the
request in flight; a file that changes meanwhile is refused by the registry, which hashes it.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import IO, Final

import msgspec

from axon_client.errors import IntegrityError
from axon_client.files import replacing
from axon_client.manifest import ModelFile
from axon_client.net.faults import RETRIED
from axon_client.progress import Progress
from axon_client.remote import Exchange, Remote, Reply
from mlos_core.errors import Cancelled, ProtocolError, Unavailable

AT_ONCE: Final = 4
REQUEST_BYTES: Final = 64 << 20
"""The most that one request carries: what is sent again at worst."""
ATTEMPTS: Final = 6
_BUSY: Final = RETRIED | {409}


class Sent(msgspec.Struct, frozen=True):
    """What was sent: files and bytes that the registry did not have."""

    files: int = 0
    bytes: int = 0


def send(
    remote: Remote,
    files: Mapping[Path, ModelFile],
    home: Path,
    progress: Progress,
    parallel: int = AT_ONCE,
) -> Sent:
    """Send what the registry lacks of `files`, several at once.

    Raises:
        IntegrityError: a file is not the one that its digest promises.
        PermissionDenied: the token may not upload.
        Unavailable: the registry went away; calling again goes on from there.
    """
    stop = threading.Event()
    uploader = Uploader(remote.exchange, home / "uploads", progress, stop)
    distinct = {file.sha256: (path, file) for path, file in files.items()}
    with ThreadPoolExecutor(max(1, min(parallel, AT_ONCE))) as pool:
        try:
            work = [pool.submit(uploader.send, *pair) for pair in distinct.values()]
            wait(work, return_when=FIRST_EXCEPTION)
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
    failed = [e for task in work if not task.cancelled() and (e := task.exception())]
    if failed:
        raise next((error for error in failed if not isinstance(error, Cancelled)), failed[0])
    sent = [size for task in work if (size := task.result()) is not None]
    return Sent(len(sent), sum(sent))


class Uploader:
    """Sends single files; threads may share it. `stop` ends what is under way."""

    def __init__(
        self, exchange: Exchange, folder: Path, progress: Progress, stop: threading.Event
    ) -> None:
        self._exchange = exchange
        self._folder = folder
        self._progress = progress
        self._stop = stop

    def send(self, path: Path, file: ModelFile) -> int | None:
        """Send a file; its size, or None if the registry has it already. A failure ends all."""
        try:
            return self._send(path, file)
        except BaseException:
            self._stop.set()
            raise

    def _send(self, path: Path, file: ModelFile) -> int | None:
        self._check()
        if not path.is_file() or path.stat().st_size != file.size:
            raise _damaged(path)
        note = self._folder / self._key(file.sha256)
        url = self._resumed(note)
        if not url:
            url = self._begun(file, note)
            if not url:
                return None
        self._fill(url, path, file)
        reply = self._finish(url)
        note.unlink(missing_ok=True)
        if reply.status >= 300:
            raise self._exchange.error(reply, file.path)
        return file.size

    def _key(self, sha256: str) -> str:
        return hashlib.sha256(f"{self._exchange.url} {sha256}".encode()).hexdigest()[:40]

    def _resumed(self, note: Path) -> str:
        """Where an upload that was cut goes on; empty if there is none."""
        try:
            url = self._exchange.absolute(note.read_text().strip())
        except (FileNotFoundError, UnicodeDecodeError, ProtocolError):
            return ""
        if self._exchange.once("HEAD", url).status < 300:
            return url
        note.unlink(missing_ok=True)
        return ""

    def _begun(self, file: ModelFile, note: Path) -> str:
        announced = {"sha256": file.sha256, "size": file.size}
        reply = self._exchange.ask("POST", "/api/v1/uploads", body=announced)
        if reply.status == 200:
            return ""
        url = self._exchange.absolute(reply.headers.get("Location", ""))
        note.parent.mkdir(parents=True, exist_ok=True)
        with replacing(note, 0o600) as out:
            out.write(url.encode())
        return url

    def _fill(self, url: str, path: Path, file: ModelFile) -> None:
        """Send bytes until the registry has all of them."""
        failures, offset = 0, self._offset(url)
        while offset < file.size:
            self._report(file, offset)
            reply = self._patch(url, path, file, offset)
            now = self._offset(url)
            failures = 0 if now > offset else failures + 1
            if reply is not None and reply.status >= 300 and reply.status not in _BUSY:
                raise self._exchange.error(reply, file.path)
            if failures >= ATTEMPTS:
                raise Unavailable(
                    f"{self._exchange.url} does not take {file.path}: it stays at byte {now}",
                    hint="try again; the upload goes on from there",
                )
            if failures:
                self._exchange.wait(failures)
            offset = now
        self._report(file, file.size)

    def _patch(self, url: str, path: Path, file: ModelFile, offset: int) -> Reply | None:
        """Send one request's bytes; None if the connection broke on the way."""
        count = min(REQUEST_BYTES, file.size - offset)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(count),
            "Upload-Offset": str(offset),
        }
        with path.open("rb") as source:
            source.seek(offset)
            body = _Part(source, count, lambda done: self._report(file, offset + done))
            try:
                return self._exchange.once("PATCH", url, data=body, headers=headers)
            except Unavailable:
                return None

    def _offset(self, url: str) -> int:
        for attempt in range(1, ATTEMPTS + 1):
            self._check()
            try:
                reply = self._exchange.once("HEAD", url)
            except Unavailable:
                if attempt == ATTEMPTS:
                    raise
                self._exchange.wait(attempt)
                continue
            text = reply.headers.get("Upload-Offset", "")
            if reply.status < 300 and re.fullmatch(r"[0-9]{1,18}", text):
                return int(text)
            if reply.status not in _BUSY or attempt == ATTEMPTS:
                raise self._exchange.error(reply, "an upload")
            self._exchange.wait(attempt)
        raise AssertionError  # the last attempt returns or raises

    def _finish(self, url: str) -> Reply:
        for attempt in range(1, ATTEMPTS):
            try:
                reply = self._exchange.once("PUT", url)
            except Unavailable:
                self._exchange.wait(attempt)
                continue
            if reply.status not in _BUSY:
                return reply
            self._exchange.wait(attempt)
        return self._exchange.once("PUT", url)

    def _report(self, file: ModelFile, done: int) -> None:
        self._check()
        self._progress(f"upload {file.path}", done, file.size)

    def _check(self) -> None:
        if self._stop.is_set():
            raise Cancelled("the upload was ended")


def _damaged(path: Path) -> IntegrityError:
    return IntegrityError(
        f"{path} is gone, or has another size than its manifest says",
        hint="see what is damaged with: axon verify",
    )


class _Part:
    """Some bytes of a file, as a request's body."""

    def __init__(self, source: IO[bytes], count: int, report: Callable[[int], None]) -> None:
        self._source = source
        self._left = count
        self._done = 0
        self._report = report

    def read(self, most: int = -1) -> bytes:
        """The next bytes; empty at the end of the part."""
        block = self._source.read(self._left if most < 0 else min(most, self._left))
        if self._left and not block:
            raise _damaged(Path(self._source.name))
        self._left -= len(block)
        self._done += len(block)
        self._report(self._done)
        return block
