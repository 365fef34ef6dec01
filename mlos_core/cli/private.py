# SPDX-License-Identifier: BUSL-1.1
"""A daemon of one's own in a temporary folder, gone without a trace at the end."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mlos_core.errors import DeadlineExceeded, Unavailable

_START_TIMEOUT: Final = 20.0
_STOP_TIMEOUT: Final = 15.0
_LOG_TAIL: Final = 6


class PrivateDaemon:
    """Where it listens and writes; its process is `pid` once it runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pid = 0
        self.socket = folder / "run" / "mlosd.sock"
        self.log = folder / "mlosd.log"

    def last_words(self) -> str:
        """The end of its log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return " | ".join(lines[-_LOG_TAIL:]) or "it wrote nothing"


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A folder that is removed at the end. Its path is short: it will hold a socket."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def running(folder: Path, **environ: str) -> Iterator[PrivateDaemon]:
    """Start a daemon in `folder`, wait until it is ready, and end it afterwards.

    Args:
        folder: for all it writes.
        environ: laid over its environment.

    Raises:
        Unavailable: it ended at once; the message has its last words.
    """
    daemon = PrivateDaemon(folder)
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    with notify:
        notify.bind(str(folder / "notify"))
        with daemon.log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mlos_core.cli.mlosd", "--http-port", "0"],
                env=_environment(folder) | environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            daemon.pid = process.pid
            _wait_ready(process, notify, daemon)
            yield daemon
        finally:
            _end(process)


def _environment(folder: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLOS_")}
    return kept | {
        "MLOS_RUN_DIR": str(folder / "run"),
        "MLOS_STATE_DIR": str(folder / "state"),
        "NOTIFY_SOCKET": str(folder / "notify"),
    }


def _wait_ready(
    process: subprocess.Popen[bytes], notify: socket.socket, daemon: PrivateDaemon
) -> None:
    pidfd = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(notify, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        end = time.monotonic() + _START_TIMEOUT
        while left := max(0.0, end - time.monotonic()):
            ready = {fd for fd, _ in poll.poll(left * 1000)}
            if notify.fileno() in ready and b"READY=1" in notify.recv(4096):
                return
            if pidfd in ready:
                raise Unavailable(f"the private daemon ended: {daemon.last_words()}")
        raise DeadlineExceeded(
            f"the private daemon was not ready within {_START_TIMEOUT:g} s: {daemon.last_words()}"
        )
    finally:
        os.close(pidfd)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
