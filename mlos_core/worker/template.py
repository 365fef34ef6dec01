# SPDX-License-Identifier: BUSL-1.1
"""The template of an interpreter: `python -m mlos_core.worker.template --fd N`.

It has imported all that a host and a worker need of this project, and no plugin. Hosts are
forked from it: that takes a hundredth of the time of starting an interpreter, and they share
its memory. What was installed anew since then must not be mixed with what it has in memory;
then it says that it is stale, and the daemon starts another one.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import os
import signal
import site
import socket
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from mlos_core.errors import ProtocolError, Unavailable
from mlos_core.ipc.framing import Connection, close_all, decode
from mlos_core.ipc.messages import Stale, StartHost
from mlos_core.worker import host
from mlos_core.worker.birth import name_process
from mlos_core.worker.forking import Forker

log = logging.getLogger(__name__)


Mark = tuple[int, int]
"""When a file was last changed in any way, and its number: installers set the other times."""


class Freshness:
    """Whether files are as they were when this process read them.

    Args:
        began_ns: wall-clock time before the first of them was read.
        files: what was read.
        folders: whose `.pth` files were, when the interpreter started.
    """

    def __init__(self, began_ns: int, files: Iterable[str], folders: Iterable[str]) -> None:
        self._folders = [Path(folder) for folder in folders]
        self._seen = self._look(Path(file) for file in files)
        now = time.time_ns()
        # One that changed while we started may have been read before or after.
        self._torn = any(began_ns <= changed <= now for changed, _ in self._seen.values())

    def hold(self) -> bool:
        """Look at all of them again."""
        return not self._torn and self._look(self._seen) == self._seen

    def _look(self, files: Iterable[Path]) -> dict[Path, Mark]:
        found = {}
        for file in (*files, *self._path_files()):
            with contextlib.suppress(OSError):
                status = file.stat()
                found[file] = (status.st_ctime_ns, status.st_ino)
        return found

    def _path_files(self) -> list[Path]:
        return [file for folder in self._folders for file in folder.glob("*.pth")]


class Template(Forker):
    """Forks hosts."""

    def __init__(self, connection: Connection, freshness: Freshness) -> None:
        super().__init__(connection)
        self._freshness = freshness

    def asked(self, body: bytes, fds: list[int]) -> None:
        """Start a host."""
        message = decode(body, StartHost)
        if len(fds) != 1:
            close_all(fds)
            raise ProtocolError("a host is to be started without a socket")
        if self._freshness.hold():
            self.fork(message.owner, lambda: _be_host(message.plugin, fds[0]))
        else:
            self.connection.send(Stale(message.owner))
        close_all(fds)


def _be_host(plugin: str, fd: int) -> int:
    os.setsid()
    importlib.invalidate_caches()
    return host.serve(plugin, Connection(socket.socket(fileno=fd)))


def _began_ns() -> int:
    """When this process was started, on the wall clock, a tick early at most."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[19])
    uptime = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return time.time_ns() - uptime + ticks * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))


def _read_so_far() -> list[str]:
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return [file for file in files if isinstance(file, str)]


def main() -> int:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(prog="mlos-template")
    parser.add_argument("--fd", required=True, type=int, help="the control socket's descriptor")
    options = parser.parse_args()
    # The terminal's ctrl-C is for the daemon, which tells its processes what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    name_process("mlos-template")
    os.set_inheritable(options.fd, False)
    connection = Connection(socket.socket(fileno=options.fd))
    folders = [*site.getsitepackages(), site.getusersitepackages()]
    template = Template(connection, Freshness(_began_ns(), _read_so_far(), folders))
    try:
        template.run()
    except (Unavailable, OSError):
        log.info("the daemon is gone; so goes the template of its plugin hosts")
    except ProtocolError as err:
        log.error("%s", err)
        return err.exit_code
    finally:
        connection.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
