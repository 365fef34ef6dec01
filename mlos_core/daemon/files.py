# SPDX-License-Identifier: BUSL-1.1
"""Files that survive a crash at any instruction, and the lock that says who runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from pathlib import Path

from mlos_core.errors import AlreadyExists, MlosError


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace `path` by `data`: readers see the old file or the new one, never a part.

    Args:
        path: the file; its folder exists.
        data: the whole content.
        durable: also survive a power cut (fsync of the file, then of its folder).

    Raises:
        MlosError: the file system refuses.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        _write(temporary, data, durable)
        temporary.replace(path)
        if durable:
            _sync_folder(path.parent)
    except OSError as err:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise MlosError(
            f"{path} cannot be written: {err.strerror}", hint="check space and permissions there"
        ) from err


def _write(path: Path, data: bytes, durable: bool) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        if durable:
            os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Lock:
    """Held by the one daemon of a folder; the kernel lets it go when the daemon ends.

    The file itself stays: removing it would let two daemons lock two different files.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            AlreadyExists: another daemon holds it; the message names its pid.
        """
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise AlreadyExists(
                f"a daemon runs already in {self.path.parent}, with pid {pid}",
                hint=f"use it, stop it with `kill {pid}`, or choose another --run-dir",
            ) from None
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        self._fd = fd

    def release(self) -> None:
        """Let it go. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
