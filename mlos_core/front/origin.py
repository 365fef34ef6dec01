# SPDX-License-Identifier: BUSL-1.1
"""Keeps web pages of strangers from using the server through their visitors' browsers.

A browser on this machine can reach a server that listens on the loopback address only, and
any page may send it a POST. Browsers name the page in `Origin`; other clients send no such
header. A name in `Host` that is not ours is DNS rebinding.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from mlos_core.errors import PermissionDenied


def check_origin(origin: str, host: str, configured: str) -> None:
    """Refuse a request that a page of another server has sent.

    Args:
        origin: the header `Origin`; empty if there was none.
        host: the header `Host`.
        configured: the host name or address the server was told to listen on.

    Raises:
        PermissionDenied: the page is not one of this server's own.
    """
    if not origin:
        return
    page = urlsplit(origin)
    if page.netloc.lower() == host.lower() and _is_ours(page.hostname or "", configured):
        return
    raise PermissionDenied(
        f"a web page of {origin} may not use this server",
        hint="use the server's own page under /docs, or a client outside the browser",
    )


def _is_ours(name: str, configured: str) -> bool:
    if name in ("localhost", configured, socket.gethostname()) or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
