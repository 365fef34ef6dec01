# SPDX-License-Identifier: BUSL-1.1
"""Requests: proxies, certificates, redirects, credentials. Retries are the caller's.

A `Client` belongs to one download, or to one small exchange; its connections are kept for
that long. urllib3 does the HTTP.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from axon_client.net import access
from axon_client.net.faults import Transient, Unusable, host_of, offline
from axon_client.net.options import Options, configured
from axon_client.net.pace import Pace
from axon_client.net.ranges import broken
from mlos_core.errors import MlosError, Unavailable

if TYPE_CHECKING:
    import urllib3

_BLOCK = 1 << 16
_CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


class Answer:
    """An answer whose body has not been read yet.

    Attributes:
        status: of HTTP; any, a failure is no exception here.
        headers: of the answer; names without regard to case.
        url: where it came from, behind all redirects.
    """

    def __init__(self, response: urllib3.BaseHTTPResponse, url: str, options: Options) -> None:
        self._response = response
        self._options = options
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers
        self.url = url

    def read1(self, most: int) -> bytes:
        """What has arrived, at most `most` bytes; empty at the end of the body.

        Raises:
            Transient: the connection broke, or nothing came for too long.
        """
        with explained(self.url):
            return self._response.read1(most, decode_content=False)

    def read(self, limit: int) -> bytes:
        """The whole body, decompressed.

        Raises:
            Unusable: it has more than `limit` bytes.
            Transient: the connection broke, or too little came for too long.
        """
        clock, data = self._options.clock, bytearray()
        pace = Pace(self._options.slowest, self._options.stall_s)
        while len(data) <= limit:
            began = clock.now()
            with explained(self.url):
                most = min(_BLOCK, limit + 1 - len(data))
                block = self._response.read1(most, decode_content=True)
            if not block:
                return bytes(data)
            data += block
            if pace.too_slow(len(block), clock.now() - began):
                raise Transient(_silent(host_of(self.url)))
        raise Unusable(broken(self.url, f"answers with more than {limit} bytes"))

    def reusable(self) -> None:
        """Give the connection back for the next request; the body has been read."""
        self._response.release_conn()

    def close(self) -> None:
        """Close the connection, however much of the body is still to come."""
        self._response.close()
        self._response.release_conn()

    def __enter__(self) -> Answer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Client:
    """Makes requests. Threads may share it."""

    def __init__(self, options: Options) -> None:
        from axon_client.net.connections import Wire

        self._options = options
        self._wire = Wire(options.stall_s)
        self._lock = threading.Lock()
        self._managers: dict[str, urllib3.PoolManager] = {}

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] = {},
        body: Any = None,
        home: access.Origin | None = None,
        *,
        kept: bool = True,
    ) -> Answer:
        """One request, and those that its redirects ask for.

        Args:
            home: where `headers` belong, if that is not the host of `url`.
            kept: whether logins that are kept go to their hosts; no, where whoever chose the
                URL, or a redirect, has something of what is done there in the user's name.

        Raises:
            Transient: no answer came; it may the next time.
            Unusable: it cannot come.
            ConfigError: axon is offline.
        """
        home = home or access.origin(url)
        for _ in range(access.MOST_REDIRECTS + 1):
            shown = access.headers_for(url, headers, home, kept=kept)
            answer = self._once(method, url, shown, body)
            location = answer.headers.get("Location")
            if answer.status not in access.REDIRECTS or not location:
                return answer
            if body is not None or method not in ("GET", "HEAD"):
                return answer  # only the caller knows whether it may be sent somewhere else
            answer.close()
            url = access.redirected(url, location)
        raise Unusable(broken(url, f"redirects more than {access.MOST_REDIRECTS} times"))

    def _once(self, method: str, url: str, headers: Mapping[str, str], body: Any) -> Answer:
        if self._options.offline:
            raise offline(url)
        with explained(url):
            response = self._manager(url).urlopen(
                method,
                access.without_login(url),
                headers={"User-Agent": "axon", "Accept-Encoding": "identity", **headers},
                body=body,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
            )
        return Answer(response, url, self._options)

    def _manager(self, url: str) -> urllib3.PoolManager:
        proxy = access.proxy_for(url)
        with self._lock:
            if proxy not in self._managers:
                self._managers[proxy] = self._make_manager(proxy)
            return self._managers[proxy]

    def _make_manager(self, proxy: str) -> urllib3.PoolManager:
        import urllib3

        from axon_client.net.connections import pool_classes

        bundle, login = _bundle(), access.in_url(proxy)
        connect_s, stall_s = self._options.connect_s, self._options.stall_s
        shared: dict[str, Any] = {
            "maxsize": self._options.parallel,
            "timeout": urllib3.Timeout(connect=connect_s, read=stall_s),
            "ca_cert_dir" if bundle and Path(bundle).is_dir() else "ca_certs": bundle,
        }
        if proxy:
            shared["proxy_headers"] = (
                urllib3.make_headers(proxy_basic_auth=":".join(login)) if login else None
            )
            manager: urllib3.PoolManager = urllib3.ProxyManager(
                access.without_login(proxy), **shared
            )
        else:
            manager = urllib3.PoolManager(**shared)
        manager.pool_classes_by_scheme = pool_classes(self._wire)
        return manager

    def cut(self) -> None:
        """End every connection, whoever waits for one."""
        self._wire.cut()

    def close(self) -> None:
        """Close idle connections."""
        for manager in self._managers.values():
            manager.clear()


def request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] = {},
    body: Any = None,
    options: Options | None = None,
) -> Answer:
    """One request, without retries; the answer is the caller's to check, read and close.

    Args:
        body: bytes, or a readable file, with a `Content-Length` among the headers.

    Raises:
        Unavailable: no answer came.
        ConfigError: axon is offline.
        MlosError: the URL, the certificate or a redirect is wrong.
    """
    try:
        return Client(options or configured()).request(method, url, headers, body)
    except (Transient, Unusable) as fault:
        raise fault.error from fault


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn urllib3's errors into ours."""
    import ssl

    import urllib3.exceptions as kinds

    host = host_of(url)
    try:
        yield
    except kinds.SSLError as error:
        if not isinstance(error.args[0], ssl.SSLCertVerificationError):
            raise Transient(_unreachable(host, error)) from error
        raise Unusable(_untrusted(host, error)) from error
    except kinds.NewConnectionError as error:  # a kind of time-out to urllib3: refused, unknown
        raise Transient(_unreachable(host, error)) from error
    except (kinds.ReadTimeoutError, kinds.ConnectTimeoutError) as error:
        raise Transient(_silent(host)) from error
    except kinds.ProxyError as error:
        raise Transient(_no_proxy(host, error.original_error)) from error
    except (kinds.LocationValueError, kinds.DecodeError) as error:
        raise Unusable(broken(url, f"cannot be understood: {error}")) from error
    except (kinds.HTTPError, OSError) as error:
        raise Transient(_unreachable(host, error)) from error


def _untrusted(host: str, error: Exception) -> MlosError:
    return Unavailable(
        f"{host} has no certificate that this machine trusts: {error}",
        hint="for a company's own authority, name its file in SSL_CERT_FILE",
    )


def _silent(host: str) -> MlosError:
    return Unavailable(f"{host} does not answer in time", hint="try again later")


def _no_proxy(host: str, error: Exception) -> MlosError:
    return Unavailable(
        f"the proxy for {host} does not work: {_reason(error)}",
        hint="check HTTPS_PROXY and ALL_PROXY; NO_PROXY names hosts that need none",
    )


def _unreachable(host: str, error: Exception) -> MlosError:
    reason, hint = _reason(error), "check the network and the proxy"
    if "WRONG_VERSION_NUMBER" in reason:
        hint = "it seems to speak no TLS there: is its URL http://, not https:// or oci://?"
    return Unavailable(f"the connection to {host} failed: {reason}", hint=hint)


def _reason(error: Exception) -> str:
    """What the system said: urllib3 puts its own objects before that."""
    return str(error.__cause__ or error.__context__ or error)[:200]


def _bundle() -> str | None:
    return next((os.environ[name] for name in _CA_VARIABLES if os.environ.get(name)), None)
