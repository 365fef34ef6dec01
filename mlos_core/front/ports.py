# SPDX-License-Identifier: BUSL-1.1
"""What a front end needs of the rest of the system, and nothing more.

The daemon's service and its asyncio client fit these protocols; so do the fakes of the tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Protocol

from mlos_core.types import Array, Signature


class Result(Protocol):
    """The outputs of one request: a mapping of arrays that live until `release`."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """What the model answered beside its tensors."""

    def __getitem__(self, name: str, /) -> Array: ...

    def __iter__(self) -> Iterator[str]: ...

    def __len__(self) -> int: ...

    def release(self) -> None:
        """Give the memory back; the arrays must not be read any more."""


class Handle(Protocol):
    """An open channel to one model."""

    @property
    def signature(self) -> Signature:
        """What the model takes and returns."""

    @property
    def closed(self) -> bool:
        """Nothing more can be asked: given up here, or by the daemon."""

    async def renew(self) -> bool:
        """Attach anew if the model takes something else by now; whether it does."""

    async def close(self) -> None:
        """Give the channel up."""

    async def infer(
        self,
        inputs: Mapping[str, Any],
        *,
        timeout: float | None = None,
        parameters: Mapping[str, Any] | None = None,
        outputs: Sequence[str] = (),
        wait: bool = False,
    ) -> Result:
        """Ask once, perhaps waiting for a place. Cancelling the caller cancels the request."""

    def stream(
        self,
        inputs: Mapping[str, Any],
        *,
        timeout: float | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[Any]:
        """Ask an engine model; closing the iterator cancels the request."""


class Client(Protocol):
    """An asyncio client of the daemon's own control socket."""

    async def model(
        self,
        name: str,
        *,
        version: str,
        slots: int,
        request_bytes: int,
        reply_bytes: int,
        timeout: float,
    ) -> Handle:
        """Attach to `name` with room for that many requests and bytes in flight, waiting at
        most `timeout` seconds while it is being loaded. No version follows the route.

        Raises:
            NotFound: no model of that name, or no such version.
            Unavailable: the model is not ready.
        """


class Service(Protocol):
    """The operations of the control plane. Each raises `MlosError` only."""

    @property
    def client(self) -> Client:
        """The data plane."""

    async def register(
        self,
        name: str,
        path: str,
        plugin: str = "",
        version: str = "",
        device: str = "cpu",
        options: dict[str, Any] | None = None,
        instances: int = 1,
        batch: dict[str, Any] | None = None,
        manifest: dict[str, Any] | None = None,
        warmup: bool = True,
        replace: bool = False,
        wait: bool = True,
        timeout: float = 60.0,
        add: bool = False,
        python: str = "",
        threads: int = 0,
        cpus: str = "",
        numa_node: int = -1,
        load: str = "now",
        keep_alive: float = -1.0,
        memory: int = 0,
        warmup_inputs: str = "",
    ) -> Any:
        """Load a model and give it a name; returns its information."""

    async def swap_model(
        self,
        name: str,
        version: str = "",
        path: str = "",
        new_version: str = "",
        plugin: str = "",
        options: dict[str, Any] | None = None,
        warmup_inputs: str = "",
        canary: float = 0.0,
        max_error_rate: float = 0.05,
        allow_new_signature: bool = False,
        timeout: float = 300.0,
    ) -> Any:
        """Replace a version while it is asked; returns the model's information."""

    async def rollback_model(self, name: str, version: str = "", timeout: float = 300.0) -> Any:
        """Serve again what was served before the last swap."""

    async def route_model(
        self, name: str, weights: dict[str, float] | None = None, version: str = ""
    ) -> Any:
        """Weights, one version, or with neither the latest."""

    async def load_model(
        self, name: str, version: str = "", wait: bool = True, timeout: float = 60.0
    ) -> Any:
        """Load a version that is not in memory."""

    async def unload_model(self, name: str, version: str = "") -> Any:
        """Give a version's memory back; the next request loads it again."""

    async def unregister(self, name: str, version: str = "") -> Any:
        """Drain a model, or one version of it, and forget it."""

    async def swap_plugin(
        self,
        name: str,
        python: str = "",
        canary: float = 0.0,
        max_error_rate: float = 0.05,
        timeout: float = 300.0,
    ) -> Any:
        """Replace a plugin by what is installed now, while its models are asked."""

    def pick(self, name: str) -> str:
        """The version for the next request without one; empty where the route is not weighted,
        or there is no such model."""

    async def models(self) -> Any:
        """Information on every model."""

    async def model(self, name: str) -> Any:
        """Information on one model."""

    async def plugins(self) -> Any:
        """Every plugin found, the broken ones with a reason."""

    async def status(self) -> Any:
        """The daemon's own state."""

    async def stats(self, name: str = "", histograms: bool = False) -> Any:
        """Counters by model name, with the counts of the histograms if asked for."""

    async def ready(self) -> Any:
        """Whether the data plane answers: a mapping with the key `ready`."""


class HttpConfig(Protocol):
    """The settings of the HTTP front end, as the daemon's configuration names them."""

    @property
    def http_host(self) -> str:
        """Address to listen on; empty for no TCP."""

    @property
    def http_port(self) -> int:
        """0 for any free port."""

    @property
    def http_socket(self) -> str:
        """Path of the Unix socket; empty for none."""

    @property
    def body_limit(self) -> int:
        """Largest request body in bytes."""
