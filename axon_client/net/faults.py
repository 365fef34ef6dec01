# SPDX-License-Identifier: BUSL-1.1
"""What can go wrong with one request, and whether it may go away by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from mlos_core.errors import (
    ConfigError,
    MlosError,
    NotFound,
    PermissionDenied,
    ProtocolError,
    Unavailable,
)

if TYPE_CHECKING:
    from axon_client.net.options import Clock

T = TypeVar("T")

RETRIED = {408, 425, 429, 500, 502, 503, 504}
LONGEST_RETRY_AFTER_S = 120.0
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0


class Transient(Exception):
    """It may work in a moment.

    Args:
        error: what to raise if it does not.
        after_s: how long the server asks to wait.
    """

    def __init__(self, error: MlosError, after_s: float = 0.0) -> None:
        super().__init__(str(error))
        self.error = error
        self.after_s = after_s


class Unusable(Exception):
    """This source will not give the file; another one may. `error` says why."""

    def __init__(self, error: MlosError) -> None:
        super().__init__(str(error))
        self.error = error


def host_of(url: str) -> str:
    """The host, with its port where the URL names one, and without any user or password."""
    return urlsplit(url).netloc.rpartition("@")[2]


def check_status(status: int, headers: Mapping[str, str], url: str, unix: float) -> None:
    """Raise for a status that is no success.

    Args:
        unix: the present moment, against which `Retry-After` is read.

    Raises:
        Transient, Unusable: see there.
    """
    if 200 <= status < 300:
        return
    error = explain(status, url)
    if status not in RETRIED:
        raise Unusable(error)
    after = retry_after(headers.get("Retry-After", ""), unix)
    if after > LONGEST_RETRY_AFTER_S:
        raise Unusable(Unavailable(error.message, hint=f"it asks to come back in {after:.0f} s"))
    raise Transient(error, after)


def explain(status: int, url: str) -> MlosError:
    """The error that a status amounts to."""
    host, path = host_of(url), urlsplit(url).path
    if status == 401:
        return PermissionDenied(
            f"{host} wants to know who asks for {path}",
            hint="log in with 'axon registry login', or put a login for the host into ~/.netrc",
        )
    if status == 403:
        return PermissionDenied(
            f"{host} does not give {path} to this user",
            hint="ask its owner for access, or use another token",
        )
    if status == 407:
        return PermissionDenied("the proxy wants a login", hint="put it into the proxy's URL")
    if status in (404, 410):
        return NotFound(f"{host} has no {path}")
    if status in RETRIED:
        return Unavailable(f"{host} answers {status} for {path}", hint="try again later")
    return ProtocolError(f"{host} answers {status} for {path}")


def retry_after(text: str, unix: float) -> float:
    """Seconds that a `Retry-After` header asks for: a number or a date; 0 if it says nothing."""
    if text.isascii() and text.strip().isdigit():
        return float(text.strip()[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - unix)
    except (ValueError, TypeError, OverflowError):
        return 0.0


def offline(url: str) -> ConfigError:
    """What to raise where a request would be made though axon is told to be offline."""
    return ConfigError(
        f"{host_of(url)} would have to be asked, and axon is offline",
        hint="leave out --offline, or unset AXON_OFFLINE and 'offline' in the configuration",
    )


def backoff(failures: int, chance: float) -> float:
    """How long to wait after so many failures in a row: doubling, and half of it by chance."""
    return min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** min(failures - 1, 16)) * (0.5 + chance / 2)


def retrying(call: Callable[[], T], attempts: int, clock: Clock) -> T:
    """What `call` gives, which is made again while that may help.

    Raises:
        MlosError: what the last attempt, or one that nothing can mend, ended with.
    """
    failures = 0
    while True:
        try:
            return call()
        except Transient as fault:
            failures += 1
            if failures >= attempts:
                raise fault.error from fault
            clock.sleep(fault.after_s or backoff(failures, clock.chance()))
        except Unusable as fault:
            raise fault.error from fault
