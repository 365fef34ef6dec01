# SPDX-License-Identifier: BUSL-1.1
"""The plugin host: `python -m mlos_core.worker.host --plugin NAME --fd N`.

It imports one plugin, and with it the framework, once; then it forks a worker for every
`Fork` message, so that a worker starts in milliseconds and shares the framework's memory.
It has one thread, always: a fork copies no other. It ends when the daemon's end of the
socket closes; its workers live on.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import select
import signal
import socket
import sys
import traceback
from typing import Final

from mlos_core import __version__
from mlos_core.errors import MlosError, ProtocolError, Unavailable
from mlos_core.ipc.framing import Connection, close_all, decode
from mlos_core.ipc.messages import Exited, Fork, Forked, HostBroken, HostReady, WorkerSpec
from mlos_core.smi import Plugin
from mlos_core.worker import discovery, process
from mlos_core.worker.birth import name_process, start_afresh

log = logging.getLogger(__name__)

_EX_OSERR: Final = 71


class Host:
    """Forks workers of one plugin and tells the daemon of their births and deaths."""

    def __init__(self, plugin: Plugin, connection: Connection) -> None:
        self._plugin = plugin
        self._connection = connection
        self._workers: dict[int, tuple[int, int]] = {}
        self._poller = select.poll()

    def run(self) -> None:
        """Serve until the daemon's end closes."""
        self._poller.register(self._connection, select.POLLIN)
        while True:
            for fd, _ in self._poller.poll():
                if fd in self._workers:
                    self._reap(fd)
                elif not self._read():
                    return

    def _read(self) -> bool:
        if not self._connection.feed():
            return False
        while (frame := self._connection.pop()) is not None:
            body, fds = frame
            close_all(fds)
            self._fork(decode(body, Fork).spec)
        return True

    def _fork(self, spec: WorkerSpec) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            pid = os.fork()
        except OSError as err:
            log.error("a worker of %s cannot be forked: %s", spec.model, err)
            self._connection.send(Exited(spec.owner, 0, _EX_OSERR))
            return
        if pid == 0:
            self._become_worker(spec)
        # The child is not reaped before its pidfd is closed: the pid cannot be reused yet.
        pidfd = os.pidfd_open(pid)
        self._workers[pidfd] = (spec.owner, pid)
        self._poller.register(pidfd, select.POLLIN)
        self._connection.send(Forked(spec.owner, pid), (pidfd,))

    def _become_worker(self, spec: WorkerSpec) -> None:
        """In the child: forget the host, then be the worker until the end."""
        status = _EX_OSERR
        try:
            self._connection.close()
            close_all(self._workers)
            start_afresh(f"mlos:{spec.model}")
            status = process.run(spec, self._plugin)
        except BaseException:
            traceback.print_exc()
        finally:
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _reap(self, pidfd: int) -> None:
        self._poller.unregister(pidfd)
        owner, pid = self._workers.pop(pidfd)
        _, status = os.waitpid(pid, 0)
        os.close(pidfd)
        self._connection.send(Exited(owner, pid, os.waitstatus_to_exitcode(status)))


def serve(name: str, connection: Connection) -> int:
    """Import plugin `name` and be its host; the exit status."""
    name_process(f"mlos-host:{name}")
    try:
        plugin, info = discovery.load(name)
    except MlosError as err:
        cause = err.__cause__
        trace = discovery.format_cause(cause) if cause else ""
        if trace:
            log.error("%s\n%s", err, trace.rstrip())
        connection.send(HostBroken(str(err), trace))
        return err.exit_code
    # What exists now is shared with all workers: keep the collector from touching it.
    gc.collect()
    gc.freeze()
    connection.send(HostReady(info, __version__))
    try:
        Host(plugin, connection).run()
    except (Unavailable, OSError):
        log.info("the daemon is gone; so goes the host of %s", name)
    except ProtocolError as err:
        log.error("%s", err)
        return err.exit_code
    return 0


def main() -> int:
    """Entry point of the process."""
    parser = argparse.ArgumentParser(prog="mlos-plugin-host")
    parser.add_argument("--plugin", required=True, help="name of the entry point")
    parser.add_argument("--fd", required=True, type=int, help="the control socket's descriptor")
    options = parser.parse_args()
    # The terminal's ctrl-C is for the daemon, which tells its processes what to do.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.set_inheritable(options.fd, False)
    connection = Connection(socket.socket(fileno=options.fd))
    try:
        return serve(options.plugin, connection)
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
