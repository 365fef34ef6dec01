# SPDX-License-Identifier: BUSL-1.1
"""What the loops need of a port: the protocol that the real one and the fake one keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from mlos_core.errors import MlosError
from mlos_core.ipc.histogram import Times
from mlos_core.types import Array


class Request(Protocol):
    """One claimed request. It ends in exactly one `answer` or `fail`.

    Its attributes may not be read after that: the object may serve the next request.
    """

    checked: Any
    """The loop's own note on this object; None on a header not seen before."""

    @property
    def channel(self) -> int:
        """Index of its channel."""
        ...

    @property
    def kind(self) -> int:
        """`header.INFER` or `header.STREAM`."""
        ...

    @property
    def inputs(self) -> dict[str, Array]:
        """Read-only views of the client's memory; the same object for the same header."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """The wanted outputs; empty means all."""
        ...

    @property
    def parameters(self) -> dict[str, Any]:
        """What the caller passed beside the tensors."""
        ...

    @property
    def attempt(self) -> int:
        """How many workers died over it before."""
        ...

    @property
    def deadline_ns(self) -> int:
        """CLOCK_MONOTONIC; 0 means none."""
        ...

    @property
    def submitted_ns(self) -> int:
        """When the client submitted it, by the client's word."""
        ...

    @property
    def taken_ns(self) -> int:
        """When it was claimed."""
        ...

    @property
    def events_sent(self) -> int:
        """Events that earlier attempts put into the stream."""
        ...

    @property
    def owner(self) -> str:
        """Who asks."""
        ...

    @property
    def key(self) -> int:
        """The same for every attempt at this request, another for any other request."""
        ...

    def journal(self) -> tuple[bytes, ...]:
        """Notes of earlier attempts on the first events they sent."""
        ...

    def cancelled(self) -> bool:
        """Cancelled, past its deadline, or its client is gone."""
        ...

    def allocate(self, name: str, dtype: str, shape: tuple[int, ...]) -> Array:
        """A writable array where the client will read output `name`."""
        ...

    def answer(
        self,
        outputs: Mapping[str, Array],
        parameters: dict[str, Any] | None = None,
        started_ns: int = 0,
        ended_ns: int = 0,
    ) -> None:
        """Publish the reply."""
        ...

    def again(self, outputs: Mapping[str, Array]) -> bool:
        """Publish `outputs` if they are the very arrays of the last answer to this header;
        false, and nothing published, otherwise."""
        ...

    def fail(self, error: MlosError) -> None:
        """Publish an error instead."""
        ...

    def emit(self, data: object, note: bytes | None = None) -> bool:
        """Put one event into the stream; false when its ring is full."""
        ...


class Port(Protocol):
    """The worker's end of all channels of one model."""

    @property
    def bell_fd(self) -> int:
        """The doorbell's descriptor."""
        ...

    def attach(self, fd: int, event_fd: int = -1, owner: str = "") -> int:
        """Map a channel of `owner` and take over both descriptors; its index."""
        ...

    def detach(
        self, index: int, *, finish: bool = False, gone: Callable[[], None] = lambda: None
    ) -> None:
        """Let a channel go as soon as the claiming thread comes by.

        What is held of it is cancelled, or with `finish` finished; then `gone` is called."""
        ...

    def fds(self, index: int) -> tuple[int, int]:
        """Segment and eventfd of a channel."""
        ...

    def recover(self, index: int, limit: int, alive: tuple[int, ...]) -> None:
        """Queue what dead workers left in a channel."""
        ...

    def interrupt(self) -> None:
        """Make a waiting `next` return None."""
        ...

    def stop_claiming(self, left: Callable[[], None] = lambda: None) -> None:
        """`next` and `poll` return None from now on; `left` is called when that is so."""
        ...

    def broken(self) -> list[tuple[int, str]]:
        """Channels found broken since the last call, with the reason. Claiming thread only."""
        ...

    def next(self, timeout: float | None = None) -> Request | None:
        """The next request; None after the timeout, or when it is time to look around."""
        ...

    def receiver(self, timeout: float | None = None) -> Callable[[], Request | None]:
        """`next` with that timeout, as a function."""
        ...

    def poll(self) -> Request | None:
        """The next request if one waits."""
        ...

    def counters(self) -> Mapping[str, int]:
        """Sums since the start, and how many requests are held."""
        ...

    def times(self) -> Mapping[str, Times]:
        """How long answered requests took: `request`, `queue` and `infer`."""
        ...

    def pending(self) -> int:
        """Requests in the channels that no worker has claimed."""
        ...

    def close(self) -> None:
        """Let everything go."""
        ...
