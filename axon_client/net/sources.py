# SPDX-License-Identifier: BUSL-1.1
"""The places that a file can come from, and which of them to ask next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from axon_client.net import access
from axon_client.net.client import Answer, Client
from axon_client.net.faults import Transient, Unusable, backoff, check_status
from axon_client.net.options import Options
from axon_client.net.ranges import Body, judge
from mlos_core.errors import MlosError

FRUITLESS = 3
"""Attempts at a source that has never answered; the full number is for one that went away."""
BESIDE_OTHERS = 2
"""Attempts at a source while there is another one to go to."""


class Source:
    """One URL of the file.

    Attributes:
        fault: why nobody should ask here any more; None while it may be asked.
        answered: whether it ever did.
    """

    def __init__(self, url: str, headers: Mapping[str, str], home: access.Origin) -> None:
        self.url = url
        self.fault: MlosError | None = None
        self.answered = False
        self._headers = headers
        self._home = home
        self._located = ""

    def open(
        self, client: Client, start: int, end: int, total: int, if_range: str, unix: float
    ) -> tuple[Answer, Body]:
        """Ask for bytes `start` to `end` of a file of `total` bytes (-1: unknown).

        Where redirects lead is kept: the ranges of a file then cost one request each. Such
        an address may expire, so its refusal sends us to the first one again.

        Raises:
            Transient, Unusable: see there.
        """
        headers = {**self._headers, "Range": f"bytes={start}-{end - 1}"}
        if if_range:
            headers["If-Range"] = if_range
        for url in dict.fromkeys([self._located or self.url, self.url]):
            try:
                answer = client.request("GET", url, headers, home=self._home)
                try:
                    return answer, self._check(answer, start, end, total, unix)
                except BaseException:
                    answer.close()
                    raise
            except Unusable:
                self._located = ""
                if url == self.url:
                    raise
        raise AssertionError("the last URL either answers or raises")

    def _check(self, answer: Answer, start: int, end: int, total: int, unix: float) -> Body:
        if answer.status != 416:
            check_status(answer.status, answer.headers, answer.url, unix)
        body = judge(answer.status, answer.headers, start, end, total, answer.url)
        self.answered = True
        self._located = answer.url
        return body


def sources_of(
    urls: Sequence[str], headers: Mapping[str, str], mirrors: Sequence[str]
) -> list[Source]:
    """A source for each URL. The headers belong to the host of the first."""
    home = access.origin(urls[0])
    return [Source(url, headers, home) for url in dict.fromkeys([*urls, *mirrors])]


class Route:
    """One connection's way through the sources: the first that works, and back-off.

    Args:
        sources: shared with other connections; what is unusable for one is so for all.
    """

    def __init__(self, sources: Sequence[Source], options: Options) -> None:
        self._sources = sources
        self._options = options
        self._given_up: dict[str, MlosError] = {}
        self._failures = 0

    def pick(self) -> Source:
        """The source to ask next.

        Raises:
            MlosError: none is left; the preferred one's error.
        """
        usable = self._usable()
        if usable:
            return usable[0]
        first = self._sources[0]
        error = first.fault or self._given_up[first.url]
        if len(self._sources) > 1:
            last = self._sources[-1]
            other = last.fault or self._given_up[last.url]
            hint = f"its {len(self._sources) - 1} mirrors failed too, the last: {other.message}"
            raise type(error)(error.message, hint=hint)
        raise error

    def _usable(self) -> list[Source]:
        return [s for s in self._sources if s.fault is None and s.url not in self._given_up]

    def progressed(self) -> None:
        """Bytes came: earlier failures no longer count."""
        self._failures = 0

    def failed(self, source: Source, fault: Transient) -> float:
        """Seconds to wait before the next attempt, which may be at another source."""
        self._failures += 1
        attempts = self._options.attempts
        if not source.answered:
            attempts = min(attempts, FRUITLESS)
        if len(self._usable()) > 1:
            attempts = min(attempts, BESIDE_OTHERS)
        if self._failures >= attempts:
            self._given_up[source.url] = fault.error
            self._failures = 0
            return 0.0
        return fault.after_s or backoff(self._failures, self._options.clock.chance())
