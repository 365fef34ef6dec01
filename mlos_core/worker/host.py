# SPDX-License-Identifier: BUSL-1.1
"""The plugin host: it imports one plugin, and with it the framework, once.

Then it forks a worker for every `Fork` message, so that a worker starts in milliseconds and
shares the framework's memory. It is itself forked, by the template of its interpreter.
"""

from __future__ import annotations

import logging

from mlos_core import __version__
from mlos_core.errors import MlosError, ProtocolError, Unavailable
from mlos_core.ipc.framing import Connection, close_all, decode
from mlos_core.ipc.messages import Fork, HostBroken, HostReady, WorkerSpec
from mlos_core.smi import Plugin
from mlos_core.worker import discovery, process
from mlos_core.worker.birth import name_process, start_afresh
from mlos_core.worker.forking import Forker

log = logging.getLogger(__name__)


class Host(Forker):
    """Forks workers of one plugin."""

    def __init__(self, plugin: Plugin, connection: Connection) -> None:
        super().__init__(connection)
        self._plugin = plugin

    def asked(self, body: bytes, fds: list[int]) -> None:
        """Start a worker."""
        close_all(fds)
        spec = decode(body, Fork).spec
        self.fork(spec.owner, lambda: self._work(spec))

    def _work(self, spec: WorkerSpec) -> int:
        start_afresh(f"mlos:{spec.model}")
        return process.run(spec, self._plugin)


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
    connection.send(HostReady(info, __version__))
    try:
        Host(plugin, connection).run()
    except (Unavailable, OSError):
        log.info("the daemon is gone; so goes the host of %s", name)
    except ProtocolError as err:
        log.error("%s", err)
        return err.exit_code
    finally:
        connection.close()
    return 0
