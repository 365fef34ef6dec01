# SPDX-License-Identifier: BUSL-1.1
"""The sockets of the HTTP front end."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from mlos_core.errors import AlreadyExists, ConfigError, MlosError

_BACKLOG = 1024


def tcp(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes any free one.

    Raises:
        ConfigError: the address does not exist, or the port is taken.
    """
    hint = "choose another http_host or http_port (0 for any free port)"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as err:
        raise ConfigError(f"the address {host} cannot be found: {err.strerror}", hint=hint) from err
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError as err:
        sock.close()
        raise ConfigError(f"cannot listen on {host}:{port}: {err.strerror}", hint=hint) from err
    sock.setblocking(False)
    return sock


def unix(path: Path) -> socket.socket:
    """A listening Unix socket that only this user may connect to.

    A socket that nobody listens on any more is replaced.

    Raises:
        AlreadyExists: another server listens there, or the path is something else.
        ConfigError: the path cannot be used.
    """
    _make_room(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Before bind, so that the file never exists with wider rights.
        os.fchmod(sock.fileno(), 0o600)
        sock.bind(str(path))
        path.chmod(0o600)
        sock.listen(_BACKLOG)
    except OSError as err:
        sock.close()
        raise ConfigError(
            f"cannot listen on {path}: {err.strerror or err}",
            hint="choose an http_socket of at most 107 bytes in a folder of your own",
        ) from err
    sock.setblocking(False)
    return sock


def _make_room(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as err:
        raise ConfigError(f"cannot use {path}: {err.strerror}", hint="choose another") from err
    if not stat.S_ISSOCK(mode):
        raise _taken(path, "it is a file")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as err:
            raise _taken(path, err.strerror or str(err)) from err
    raise _taken(path, "another server listens there")


def _taken(path: Path, why: str) -> MlosError:
    return AlreadyExists(
        f"cannot listen on {path}: {why}", hint="stop the other server, or choose another path"
    )


def address_of(sock: socket.socket) -> str:
    """As clients name it: `http://127.0.0.1:8080` or `unix:/run/mlos/http.sock`."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    host = f"[{name[0]}]" if sock.family == socket.AF_INET6 else name[0]
    return f"http://{host}:{name[1]}"
