# SPDX-License-Identifier: BUSL-1.1
"""Who is at the other end, for what only the daemon's own user may do.

Registering a model runs its code as the daemon's user. A Unix socket tells its peer's user;
for a TCP connection from this machine the kernel's table of sockets does. A connection from
elsewhere exists only if the operator chose an address that is reachable from there.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlos_core.errors import PermissionDenied

_UCRED = struct.Struct("3i")
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def check_admin(sock: Any) -> None:
    """Refuse a peer that may not change what is registered.

    Args:
        sock: the connection's socket on our side.

    Raises:
        PermissionDenied: it is another user of this machine, or cannot be told.
    """
    if sock.family == socket.AF_UNIX:
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        uid: int | None = _UCRED.unpack(raw)[1]
    elif _address(sock.getpeername()).is_loopback:
        uid = owner_of(sock.getpeername(), sock.getsockname(), _rows())
    else:
        return
    if uid not in (os.getuid(), 0):
        raise PermissionDenied(
            "only the user who runs the daemon may register and remove models",
            hint="ask that user, or run a daemon of your own",
        )


def owner_of(peer: tuple[Any, ...], ours: tuple[Any, ...], rows: Iterable[str]) -> int | None:
    """The user whose socket is bound to `peer` and connected to `ours`; `None` if not found.

    Args:
        peer: address and port.
        ours: address and port.
        rows: lines of /proc/net/tcp or tcp6.
    """
    wanted = {(a, b) for a in _spellings(peer) for b in _spellings(ours)}
    for row in rows:
        fields = row.split()
        if len(fields) > 7 and (fields[1], fields[2]) in wanted:
            return int(fields[7])
    return None


def _rows() -> Iterable[str]:
    for table in _TABLES:
        if table.exists():
            yield from table.read_text().splitlines()[1:]


def _address(name: tuple[Any, ...]) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(name[0].partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def _spellings(name: tuple[Any, ...]) -> list[str]:
    """An address as the table writes it: words in host byte order; IPv4 also mapped."""
    address = _address(name)
    forms = [address.packed]
    if address.version == 4:
        forms.append(b"\0" * 10 + b"\xff\xff" + address.packed)
    return [f"{_hex(packed)}:{name[1]:04X}" for packed in forms]


def _hex(packed: bytes) -> str:
    words = [packed[at : at + 4] for at in range(0, len(packed), 4)]
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)
