# SPDX-License-Identifier: BUSL-1.1
"""Requests to one registry: its token, its errors as ours, and trying again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin

import msgspec

from axon_client import credentials, net
from axon_client.errors import IntegrityError
from axon_client.net.faults import RETRIED, Transient, Unusable, backoff, retry_after
from axon_client.net.options import configured
from mlos_core.errors import (
    BY_CODE,
    AlreadyExists,
    DeadlineExceeded,
    InvalidInput,
    MlosError,
    NotFound,
    OutOfMemory,
    Overloaded,
    PayloadTooLarge,
    PermissionDenied,
    ProtocolError,
    Unavailable,
    Unsupported,
)

MAX_JSON: Final = 64 << 20
ATTEMPTS: Final = 4
LONGEST_WAIT_S: Final = 30.0
_BY_STATUS: Final[Mapping[int, type[MlosError]]] = {
    401: PermissionDenied,
    403: PermissionDenied,
    404: NotFound,
    405: Unsupported,
    408: DeadlineExceeded,
    409: AlreadyExists,
    410: NotFound,
    413: PayloadTooLarge,
    429: Overloaded,
    501: Unsupported,
    504: DeadlineExceeded,
    507: OutOfMemory,
}
_OWN_CODES: Final[Mapping[str, type[MlosError]]] = {
    "wrong_digest": IntegrityError,
    "unauthenticated": PermissionDenied,
}


class Reply(msgspec.Struct, frozen=True):
    """An answer, whole. Names of headers have no case."""

    status: int
    headers: Mapping[str, str]
    data: bytes = b""


class _Said(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""
    hint: str = ""


class _Refusal(msgspec.Struct, frozen=True):
    error: _Said


class Exchange:
    """Asks the registry at `url`, as whom the credentials in `home` make us."""

    def __init__(
        self, url: str, home: Path | None, credential: credentials.Credential | None
    ) -> None:
        self.url = url
        self._home = home
        self._credential = credential
        self._options = configured()

    def ask(self, method: str, path: str, *, body: Any = None, limit: int = MAX_JSON) -> Reply:
        """Ask, and again if that may help: every question here may come twice.

        Args:
            method: of HTTP.
            path: below the registry's URL.
            body: sent as JSON.
            limit: bytes of the answer, at most.

        Raises:
            MlosError: what the registry says is wrong, as the class that it names.
        """
        data = None if body is None else msgspec.json.encode(body)
        headers = {} if data is None else {"Content-Type": "application/json"}
        for attempt in range(1, ATTEMPTS + 1):
            try:
                reply = self.once(method, self.url + path, data=data, headers=headers, limit=limit)
            except Unavailable:
                if attempt == ATTEMPTS:
                    raise
                self.wait(attempt)
                continue
            if reply.status < 300:
                return reply
            asked = retry_after(reply.headers.get("Retry-After", ""), self._options.clock.unix())
            if reply.status not in RETRIED or attempt == ATTEMPTS or asked > LONGEST_WAIT_S:
                raise self.error(reply, path)
            self.wait(attempt, asked)
        raise AssertionError  # the last attempt returns or raises

    def once(
        self,
        method: str,
        url: str,
        *,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        limit: int = MAX_JSON,
    ) -> Reply:
        """One request, whatever its status.

        Raises:
            Unavailable: no whole answer came.
            ConfigError: axon is offline.
        """
        sent = {"Accept": "application/json", **(headers or {}), **self._who(url)}
        with net.request(method, url, headers=sent, body=data, options=self._options) as answer:
            try:
                got = b"" if method == "HEAD" else answer.read(limit)
            except (Transient, Unusable) as fault:
                raise fault.error from fault
            return Reply(answer.status, answer.headers, got)

    def _who(self, url: str) -> dict[str, str]:
        if self._credential is None:
            return credentials.headers_for(url, self._home)
        same = credentials.origin(url) == credentials.origin(self.url)
        return self._credential.headers if same else {}

    def wait(self, failures: int, asked_s: float = 0.0) -> None:
        """Wait before the next attempt."""
        clock = self._options.clock
        clock.sleep(asked_s or backoff(failures, clock.chance()))

    def absolute(self, location: str) -> str:
        """What a `Location` header means; it may not lead to another host.

        Raises:
            ProtocolError: it does.
        """
        url = urljoin(self.url + "/", location)
        try:
            same = credentials.origin(url) == credentials.origin(self.url)
        except InvalidInput:
            same = False
        if not same:
            raise ProtocolError(f"{self.url} wants an upload to go to another host: {location!r}")
        return url

    def error(self, reply: Reply, path: str) -> MlosError:
        """What a refusal means: the registry's own words, or those for its status."""
        said = _said(reply)
        code = said.code
        kind = _OWN_CODES.get(code) or BY_CODE.get(code) or _by_status(reply.status)
        message = said.message or f"{self.url} answers {reply.status} for {path.partition('?')[0]}"
        hint = said.hint
        if kind is PermissionDenied and not hint:
            hint = "log in with: axon registry login NAME; or set AXON_TOKEN"
        if kind is Unsupported and not said.message:
            hint = "a registry of plain files takes nothing: ask the one it is exported from"
        if kind is NotFound and not said.message:
            hint = "is that a registry? axon registry list shows its URL"
        return kind(message[:2000], hint=hint[:2000])


def _said(reply: Reply) -> _Said:
    try:
        return msgspec.json.decode(reply.data, type=_Refusal).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Said()


def _by_status(status: int) -> type[MlosError]:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 500 <= status < 600:
        return Unavailable
    return InvalidInput if 400 <= status < 500 else ProtocolError
