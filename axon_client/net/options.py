# SPDX-License-Identifier: BUSL-1.1
"""What is set about downloads, and the clock they wait by."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping, Sequence

import msgspec


class Clock:
    """Time and chance; a test puts its own in their place."""

    def now(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        return time.monotonic()

    def unix(self) -> float:
        """Seconds since 1970, for dates that a server names."""
        return time.time()

    def sleep(self, seconds: float, stop: threading.Event | None = None) -> None:
        """Wait, but no longer than until `stop` is set."""
        (stop or threading.Event()).wait(seconds)

    def chance(self) -> float:
        """From 0 to 1."""
        return random.random()  # noqa: S311 - jitter, no secret


SYSTEM = Clock()


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How to download.

    Attributes:
        parallel: connections for one file, at most.
        rate_limit: bytes per second over all connections of a download; 0 is no limit.
        offline: refuse whatever needs the network.
        mirrors: for the beginning of a URL, what may stand in its place; tried in order
            after the URL itself.
        part_bytes: what is verified, and at worst fetched again, at once.
        attempts: failures in a row, without a byte between them, before a source is given up.
        connect_s: to open a connection.
        stall_s: for an answer's headers, and between two pieces of a body.
        slowest: bytes per second below which a body counts as stalled.
        max_bytes: the largest file.
    """

    parallel: int = 4
    rate_limit: int = 0
    offline: bool = False
    mirrors: Mapping[str, Sequence[str]] = {}
    part_bytes: int = 8 << 20
    attempts: int = 6
    connect_s: float = 10.0
    stall_s: float = 30.0
    slowest: int = 256
    max_bytes: int = 1 << 42
    clock: Clock = SYSTEM


def configured() -> Options:
    """What the store's configuration and the environment say."""
    from axon_client import config

    chosen = config.load()
    return Options(
        parallel=chosen.parallel,
        rate_limit=chosen.rate_limit,
        offline=chosen.offline,
        mirrors=chosen.mirrors,
    )


def with_mirrors(urls: Sequence[str], mirrors: Mapping[str, Sequence[str]]) -> list[str]:
    """The URLs, and behind them what the mirrors make of them; each once."""
    found = list(urls)
    for url in urls:
        for prefix, places in mirrors.items():
            if url.startswith(prefix):
                found += [place + url.removeprefix(prefix) for place in places]
    return list(dict.fromkeys(found))
