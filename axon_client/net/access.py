# SPDX-License-Identifier: BUSL-1.1
"""What a request says of who asks: for each host its own, and for no other.

In this order: what the caller gave for the host, the token that axon keeps for it, its entry
in netrc. A netrc `default` entry is left alone: it would be shown to every host that a
redirect leads to.
"""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from axon_client.net.ranges import broken
from mlos_core.errors import InvalidInput, Unsupported

MOST_REDIRECTS = 10
REDIRECTS = {301, 302, 303, 307, 308}
_EVERYWHERE = {"accept", "accept-encoding", "if-range", "range", "user-agent"}
_PORTS = {"http": 80, "https": 443}
Origin = tuple[str, str, int]


def origin(url: str) -> Origin:
    """Scheme, host and port.

    Raises:
        InvalidInput: it is no http or https URL.
    """
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
    except ValueError as error:
        raise InvalidInput(f"{url[:200]!r} is no URL: {error}") from error
    # A backslash ends the host to some readers and not to others.
    if scheme not in _PORTS or not host or not url.isprintable() or set(" \\") & set(url):
        raise InvalidInput(f"{url[:200]!r} is no http or https URL")
    return scheme, host.lower(), port or _PORTS[scheme]


def headers_for(
    url: str, own: Mapping[str, str], home: Origin, *, kept: bool = True
) -> dict[str, str]:
    """What goes with a request for `url`.

    Args:
        own: the caller's headers.
        home: where they belong; elsewhere only those go along that say nothing of the user.
        kept: whether what is kept for the host goes along, if the caller gave nothing for it.
    """
    at_home = origin(url) == home
    headers = {k: v for k, v in own.items() if at_home or k.lower() in _EVERYWHERE}
    if kept and not any(name.lower() == "authorization" for name in headers):
        headers |= kept_for(url)
    return headers


def kept_for(url: str) -> dict[str, str]:
    """The login that axon or netrc keeps for the host, or that the URL carries."""
    from axon_client import credentials

    found = credentials.headers_for(url)
    if found:
        return found
    user, password = in_url(url) or in_netrc(urlsplit(url).hostname or "") or ("", "")
    return basic(user, password) if user or password else {}


def in_url(url: str) -> tuple[str, str] | None:
    """The user and password that a URL carries."""
    parts = urlsplit(url)
    if not parts.username and not parts.password:
        return None
    return unquote(parts.username or ""), unquote(parts.password or "")


def without_login(url: str) -> str:
    """The URL without user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()


def in_netrc(host: str) -> tuple[str, str] | None:
    """The login for exactly this host in `$NETRC` or `~/.netrc`, if that can be read."""
    path = os.environ.get("NETRC") or str(Path("~/.netrc").expanduser())
    try:
        entry = netrc.netrc(path).hosts.get(host)
    except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
        return None
    return (entry[0], entry[2] or "") if entry else None


def basic(user: str, password: str) -> dict[str, str]:
    """The header of a user's password."""
    from urllib3.util import make_headers

    return {"Authorization": make_headers(basic_auth=f"{user}:{password}")["authorization"]}


def redirected(url: str, location: str) -> str:
    """Where a redirect leads.

    Raises:
        Unusable: nowhere, or out of HTTPS.
    """
    from axon_client.net.faults import Unusable

    try:
        target = urljoin(url, location)
        scheme = origin(target)[0]
    except (InvalidInput, ValueError) as error:
        raise Unusable(broken(url, f"redirects to {location[:80]!r}, which is no URL")) from error
    if urlsplit(url).scheme == "https" and scheme != "https":
        raise Unusable(broken(url, "redirects from https to http, where anyone could change it"))
    return target


def proxy_for(url: str) -> str:
    """The proxy that the environment names for `url`; empty if it is asked directly.

    Raises:
        Unsupported: it is neither an http nor an https proxy.
    """
    from urllib.request import getproxies, proxy_bypass

    scheme, host, port = origin(url)
    proxies = getproxies()
    proxy = proxies.get(scheme) or proxies.get("all") or ""
    if not proxy or proxy_bypass(f"{host}:{port}") or proxy_bypass(host):
        return ""
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if urlsplit(proxy).scheme not in _PORTS:
        raise Unsupported(
            f"axon cannot use the {urlsplit(proxy).scheme} proxy of the environment",
            hint="name an http proxy in HTTPS_PROXY, or the host in NO_PROXY",
        )
    return proxy
