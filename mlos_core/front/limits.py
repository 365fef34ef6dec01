# SPDX-License-Identifier: BUSL-1.1
"""What one client, and all of them together, may take of the server."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from mlos_core.errors import InvalidInput, Overloaded


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes in bytes, times in seconds.

    `body` bounds one request (`json` one in JSON, whose decoding holds up the daemon's loop),
    `bodies` all requests in flight together; `slots` those to one model. `discard` and
    `linger` bound what is still read, and thrown away, of a body that was refused: a client
    that is writing sees the refusal only if it is not cut off at once. `generation` is the
    time of a request for text that names none: what OpenAI's own client waits.
    """

    body: int = 256 << 20
    json: int = 32 << 20
    bodies: int = 1 << 30
    headers: int = 64 << 10
    requests: int = 256
    slots: int = 256
    connections: int = 1024
    head_timeout: float = 10.0
    idle_timeout: int = 60
    timeout: float = 60.0
    generation: float = 600.0
    max_timeout: float = 3600.0
    linger: float = 5.0
    discard: int = 64 << 20
    grace: float = 10.0

    def deadline(self, asked: float | None, otherwise: float | None = None) -> float:
        """The seconds a request gets that asked for `asked`, or did not (`otherwise`, or ours).

        Raises:
            InvalidInput: not a positive number.
        """
        if asked is None:
            return self.timeout if otherwise is None else otherwise
        if not math.isfinite(asked) or asked <= 0:
            raise InvalidInput(
                f"the timeout is {asked} s", hint="give a number of seconds above 0, e.g. 2.5"
            )
        return min(asked, self.max_timeout)


class Gate:
    """Counts requests and body bytes in flight, and refuses what exceeds the limits."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.requests = 0
        self.body_bytes = 0

    @contextmanager
    def request(self) -> Iterator[None]:
        """Hold the place of one request.

        Raises:
            Overloaded: all places are taken.
        """
        if self.requests >= self.limits.requests:
            raise Overloaded(
                f"{self.requests} requests are in flight, the most this server takes",
                hint="try again after the time that Retry-After names",
            )
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    def take(self, size: int) -> None:
        """Reserve `size` more bytes for a body.

        Raises:
            Overloaded: the bodies in flight exceed the limit for all.
        """
        if self.body_bytes + size > max(self.limits.bodies, self.limits.body):
            raise Overloaded(
                "the bodies of the requests in flight fill the memory set aside for them",
                hint="try again after the time that Retry-After names",
            )
        self.body_bytes += size

    def give(self, size: int) -> None:
        """Return what `take` reserved."""
        self.body_bytes -= size
