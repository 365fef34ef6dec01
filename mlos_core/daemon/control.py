# SPDX-License-Identifier: BUSL-1.1
"""The control socket: who may connect, and who is a client and who a worker.

The kernel says who the peer is (SO_PEERCRED); nothing a peer says of itself is believed
without that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import Final

from mlos_core import __version__
from mlos_core.config import Config
from mlos_core.daemon import procs
from mlos_core.daemon.logs import Log
from mlos_core.daemon.peer import Peer
from mlos_core.daemon.service import Service
from mlos_core.daemon.session import ClientSession
from mlos_core.daemon.supervisor import Supervisor
from mlos_core.errors import (
    ConfigError,
    MlosError,
    Overloaded,
    PermissionDenied,
    ProtocolError,
)
from mlos_core.ipc import framing
from mlos_core.ipc.messages import (
    PROTOCOL,
    Answer,
    FirstMessage,
    Hello,
    Problem,
    Welcome,
    WorkerHello,
)

_BACKLOG: Final = 128
_HELLO_TIMEOUT: Final = 5.0
_ACCEPTS_PER_TURN: Final = 16
_ACCEPT_PAUSE: Final = 0.1
_LONGEST_PATH: Final = 107
_log = Log("control")


class ControlServer:
    """Accepts peers and sorts them into clients and workers."""

    def __init__(self, config: Config, supervisor: Supervisor, service: Service) -> None:
        self._config = config
        self._supervisor = supervisor
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._listener: socket.socket | None = None
        self._strangers: dict[Peer, asyncio.TimerHandle] = {}
        self._sessions: set[ClientSession] = set()

    @property
    def clients(self) -> int:
        """How many clients are connected."""
        return len(self._sessions)

    # --- listening --------------------------------------------------------------------

    def start(self) -> None:
        """Listen. The caller holds the lock of the run folder, so an old socket is dead.

        Raises:
            ConfigError: the socket cannot be made.
        """
        self._listener = _listen(self._config)
        self._loop.add_reader(self._listener.fileno(), self._acceptable)

    def stop_accepting(self) -> None:
        """Nobody new; those connected stay."""
        if self._listener is None:
            return
        self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        self._listener = None
        with contextlib.suppress(OSError):
            self._config.socket.unlink()

    async def stop(self) -> None:
        """Hang up on everybody."""
        self.stop_accepting()
        for peer in list(self._strangers):
            peer.close()
        for session in list(self._sessions):
            await session.stop()

    def _acceptable(self) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            if self._listener is None:
                return
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as err:
                self._pause_accepting(err)
                return
            sock.setblocking(False)
            self._accept(framing.Connection(sock))

    def _pause_accepting(self, error: OSError) -> None:
        # Out of descriptors, most likely: the socket would stay readable and burn the core.
        _log.error("accept_failed", reason=str(error))
        listener = self._listener
        if listener is not None:
            self._loop.remove_reader(listener.fileno())
            self._loop.call_later(_ACCEPT_PAUSE, self._resume_accepting)

    def _resume_accepting(self) -> None:
        if self._listener is not None:
            self._loop.add_reader(self._listener.fileno(), self._acceptable)

    # --- the first message ------------------------------------------------------------

    def _accept(self, connection: framing.Connection) -> None:
        pid = connection.peer()[0]
        peer = Peer(connection, f"pid {pid}", lambda *_: None, lambda _: None)
        peer.on_frame = lambda body, fds: self._introduced(peer, body, fds)
        peer.on_close = lambda _: self._known(peer)
        if len(self._strangers) >= self._config.max_clients:
            refuse(peer, Overloaded("too many peers connect at once", hint="try again"))
            return
        deadline = self._loop.call_later(_HELLO_TIMEOUT, peer.close, "it did not introduce itself")
        self._strangers[peer] = deadline
        peer.start()

    def _known(self, peer: Peer) -> None:
        deadline = self._strangers.pop(peer, None)
        if deadline is not None:
            deadline.cancel()

    def _may_connect(self, peer: Peer) -> bool:
        # Asked after the first message: an answer to a peer that still writes could be lost.
        pid, uid, gid = peer.connection.peer()
        config = self._config
        if uid in (os.getuid(), 0, *config.allowed_uids):
            return True
        if config.socket_gid >= 0 and gid == config.socket_gid:
            return True
        _log.warning("peer_refused", pid=pid, uid=uid)
        hint = "add the user to allowed_uids in the daemon's configuration"
        refuse(peer, PermissionDenied(f"user {uid} may not use this daemon", hint=hint))
        return False

    def _introduced(self, peer: Peer, body: bytes, fds: list[int]) -> None:
        try:
            message = framing.decode(body, FirstMessage)
            if message.protocol != PROTOCOL:
                raise ProtocolError(
                    f"this daemon speaks protocol {PROTOCOL}, not {message.protocol}",
                    hint="install the same version of mlos-core on both sides",
                )
        except ProtocolError as err:
            framing.close_all(fds)
            answer_problem(peer, 0, err)
            raise
        self._known(peer)
        if not self._may_connect(peer):
            framing.close_all(fds)
        elif isinstance(message, WorkerHello):
            self._worker(peer, message, fds)
        else:
            framing.close_all(fds)
            self._client(peer, message)

    def _worker(self, peer: Peer, message: WorkerHello, fds: list[int]) -> None:
        if peer.connection.peer()[1] != os.getuid():
            framing.close_all(fds)
            raise ProtocolError("a worker of another user")
        self._supervisor.crew.hello(peer, message, fds)

    def _client(self, peer: Peer, message: Hello) -> None:
        if self.clients >= self._config.max_clients:
            refuse(
                peer,
                Overloaded(
                    f"{self._config.max_clients} clients are connected",
                    hint="close some, or raise max_clients",
                ),
            )
            return
        pidfd = procs.peer_pidfd(peer.connection)
        if pidfd < 0:
            peer.close("it is gone already")
            return
        session = ClientSession(peer, pidfd, self._supervisor, self._service, self._left)
        self._sessions.add(session)
        peer.send(Welcome(os.getpid(), __version__))

    def _left(self, session: ClientSession) -> None:
        self._sessions.discard(session)


def refuse(peer: Peer, error: MlosError) -> None:
    """Say why, and hang up."""
    answer_problem(peer, 0, error)
    peer.close()


def answer_problem(peer: Peer, id: int, error: MlosError) -> None:
    """Answer request `id` (0: the connection itself) with an error."""
    peer.send(Answer(id, problem=Problem(error.code, error.message, error.hint)))


def _listen(config: Config) -> socket.socket:
    path = config.socket
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise ConfigError(
            f"the socket path {path} is longer than {_LONGEST_PATH} bytes",
            hint="choose a shorter --run-dir",
        )
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _bind(sock, path, config)
        sock.listen(_BACKLOG)
    except OSError as err:
        sock.close()
        raise ConfigError(
            f"the control socket {path} cannot be made: {err.strerror}",
            hint="choose another --run-dir",
        ) from err
    sock.setblocking(False)
    return sock


def _bind(sock: socket.socket, path: Path, config: Config) -> None:
    path.unlink(missing_ok=True)
    # Nobody else may connect in the instant before the mode is set.
    old = os.umask(0o177)
    try:
        sock.bind(str(path))
    finally:
        os.umask(old)
    if config.socket_gid >= 0:
        os.chown(path, -1, config.socket_gid)
        os.chown(path.parent, -1, config.socket_gid)
    path.chmod(config.socket_mode)
