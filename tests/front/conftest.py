# SPDX-License-Identifier: BUSL-1.1
"""A service without a daemon behind it, and the real front end over it in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import uvloop

from mlos_core import errors
from mlos_core.front import http
from mlos_core.front.limits import Limits
from mlos_core.types import Signature, TensorSpec

STATS = {
    "state": "ready",
    "requests": 7,
    "failures": 2,
    "cancelled": 1,
    "executions": 3,
    "rows": 12,
    "queue_ns": 1_000,
    "input_ns": 2_000,
    "infer_ns": 3_000_000_000,
    "output_ns": 4_000,
    "copied_bytes": 64,
    "recovered": 1,
    "restarts": 5,
    "channels": 2,
    "workers": 1,
}


class Result(dict[str, Any]):
    def __init__(self, outputs: dict[str, Any], released: list[str], parameters: Any = None):
        super().__init__(outputs)
        self.parameters = parameters or {}
        self._released = released

    def release(self) -> None:
        self._released.append("released")
        self.clear()


def spec(name: str, dtype: str, *shape: int, optional: bool = False) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape, optional=optional)


SIGNATURES = {
    "add": Signature(
        (spec("a", "float32", -1), spec("b", "float32", -1)), (spec("sum", "float32", -1),)
    ),
    "half": Signature((spec("x", "float16", -1),), (spec("x", "float16", -1),)),
    "echo": Signature((spec("x", "float64", -1),), (spec("x", "float64", -1),)),
    "ints": Signature(
        (spec("x", "int64", -1, -1),), (spec("x", "int64", -1, -1), spec("n", "int64"))
    ),
    "flags": Signature((spec("x", "bool", -1),), (spec("x", "bool", -1),)),
    "team/text/upper": Signature((spec("text", "bytes", -1),), (spec("text", "bytes", -1),)),
    "story": Signature((spec("prompt", "bytes", 1),), (), streaming=True),
    "slow": Signature((spec("x", "float32", -1),), (spec("x", "float32", -1),)),
    "broken": Signature((spec("x", "float32", -1),), ()),
    "failing": Signature((spec("x", "float32", -1),), ()),
}


class Handle:
    def __init__(self, name: str, service: FakeService, room: int, version: str = "") -> None:
        self.signature = SIGNATURES[name]
        self.name = name
        self.version = version
        self.room = room
        self.closed = False
        self.service = service

    async def infer(
        self, inputs: Any, *, timeout: Any, parameters: Any, outputs: Any, wait: bool
    ) -> Result:
        service = self.service
        if self.closed:
            raise errors.Closed("the handle was closed")
        service.asked.append((self.name, dict(inputs), timeout, dict(parameters), tuple(outputs)))
        service.versions.append(self.version)
        if self.name == "slow":
            await self._wait()
        if self.name == "broken":
            raise RuntimeError("a secret of the implementation")
        if self.name == "failing":
            raise errors.from_wire(parameters["code"], "it failed", "do something")
        if service.refusals:
            error = service.refusals.pop(0)
            self.closed = True
            raise error
        answer = service.answer(self.name, inputs)
        answer = {k: v for k, v in answer.items() if not outputs or k in outputs}
        return Result(answer, service.released, dict(parameters.get("echo", {})))

    async def _wait(self) -> None:
        service = self.service
        service.started.set()
        try:
            await asyncio.get_running_loop().run_in_executor(None, service.proceed.wait, 30)
        except asyncio.CancelledError:
            service.cancelled.set()
            raise

    async def stream(self, inputs: Any, *, timeout: Any, parameters: Any) -> Any:
        service = self.service
        if code := parameters.get("refuse"):
            raise errors.from_wire(code, "refused", "at once")
        try:
            for number in range(parameters.get("events", 3)):
                if number == parameters.get("fail_at"):
                    raise errors.ModelFailed("the model fell over", hint="pick it up")
                if number == parameters.get("bug_at"):
                    raise RuntimeError("a secret of the implementation")
                if number == parameters.get("wait_at"):
                    service.started.set()
                    await asyncio.Event().wait()
                yield {"token": number, "text": inputs["prompt"][0].decode()}
        except (asyncio.CancelledError, GeneratorExit):
            service.cancelled.set()
            raise

    async def renew(self) -> bool:
        new = self.service.moved.get(self.name)
        if new is None or new == self.signature:
            return False
        self.signature = new
        return True

    async def close(self) -> None:
        self.closed = True
        self.service.closed.append(self.name)


class FakeService:
    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.released: list[str] = []
        self.closed: list[str] = []
        self.refusals: list[errors.MlosError] = []
        self.attached: list[Any] = []
        self.registered: list[Any] = []
        self.changed: list[Any] = []
        self.versions: list[str] = []
        self.weighted: list[str] = []
        self.moved: dict[str, Signature] = {}
        self.loading: asyncio.Event | None = None
        self.gone: set[str] = set()
        self.is_ready = True
        self.started = threading.Event()
        self.proceed = threading.Event()
        self.cancelled = threading.Event()
        self.client = SimpleNamespace(model=self._attach)

    async def _attach(
        self,
        name: str,
        *,
        version: str,
        slots: int,
        request_bytes: int,
        reply_bytes: int,
        timeout: float,
    ) -> Handle:
        self._known(name, version)
        if self.loading is not None:
            await self.loading.wait()
        handle = Handle(name, self, request_bytes, version)
        self.attached.append(handle)
        return handle

    def _known(self, name: str, version: str = "") -> None:
        if name not in SIGNATURES or name in self.gone:
            raise errors.NotFound(f"no model {name!r}", hint="list the models")
        if version not in ("", "1.0", "2.0") or f"{name}@{version}" in self.gone:
            raise errors.NotFound(f"no version {version!r}", hint="it has 1.0, 2.0")

    def pick(self, name: str) -> str:
        return self.weighted.pop(0) if self.weighted else ""

    def answer(self, name: str, inputs: Any) -> dict[str, Any]:
        if name == "add":
            return {"sum": inputs["a"] + inputs["b"]}
        if name == "ints":
            return {"x": inputs["x"] * 2, "n": np.array(inputs["x"].size)}
        if name == "team/text/upper":
            upper = np.empty(len(inputs["text"]), dtype=object)
            upper[:] = [item.upper() for item in inputs["text"]]
            return {"text": upper}
        return {"x": inputs["x"]}

    def info(self, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "version": "1.0",
            "plugin": "echo",
            "path": "/models/x",
            "device": "cpu",
            "state": "ready",
            "reason": "",
            "signature": SIGNATURES.get(name),
            "workers": [],
            "versions": [
                {"version": "1.0", "state": "ready"},
                {"version": "2.0", "state": "ready"},
            ],
        }

    async def register(self, name: str, path: str, **options: Any) -> dict[str, Any]:
        if path == "/missing":
            raise errors.LoadFailed("there is no such file", hint="check the path")
        self.registered.append((name, path, options))
        return self.info(name)

    async def unregister(self, name: str, version: str = "") -> dict[str, Any]:
        self._known(name, version)
        self.gone.add(f"{name}@{version}" if version else name)
        return self.info(name)

    async def swap_model(self, name: str, **given: Any) -> dict[str, Any]:
        return await self._change("swap_model", name, given)

    async def rollback_model(self, name: str, **given: Any) -> dict[str, Any]:
        return await self._change("rollback_model", name, given)

    async def route_model(self, name: str, **given: Any) -> dict[str, Any]:
        return await self._change("route_model", name, given)

    async def load_model(self, name: str, **given: Any) -> dict[str, Any]:
        return await self._change("load_model", name, given)

    async def unload_model(self, name: str, **given: Any) -> dict[str, Any]:
        return await self._change("unload_model", name, given)

    async def _trial(self) -> None:
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def _change(self, method: str, name: str, given: dict[str, Any]) -> dict[str, Any]:
        self._known(name, given.get("version") or "")
        if given.get("path") == "/broken":
            raise errors.LoadFailed("the new one does not load", hint="the old one goes on")
        if given.get("canary"):
            await self._trial()
        self.changed.append((method, name, given))
        return self.info(name)

    async def swap_plugin(self, name: str, **given: Any) -> dict[str, Any]:
        self.changed.append(("swap_plugin", name, given))
        return {
            "plugin": name,
            "from_version": "1",
            "to_version": "2",
            "models": ["add"],
            "seconds": 0.5,
        }

    async def models(self) -> list[dict[str, Any]]:
        return [self.info(name) for name in SIGNATURES if name not in self.gone]

    async def model(self, name: str) -> dict[str, Any]:
        self._known(name)
        return self.info(name)

    async def plugins(self) -> list[dict[str, Any]]:
        return [{"name": "echo", "state": "ready"}, {"name": "bad", "state": "broken"}]

    async def status(self) -> dict[str, Any]:
        return {"version": "0.1.0", "uptime_s": 3.5, "clients": 2, "channels": 4, "models": 9}

    async def stats(self, name: str = "", histograms: bool = False) -> dict[str, Any]:
        return {name or "add": {**STATS, "versions": {"1.0": STATS}}}

    async def ready(self) -> dict[str, Any]:
        return {"ready": self.is_ready, "models": {}}


class Running:
    """The front end in a thread with a loop of its own."""

    def __init__(self, service: FakeService, folder: Path, limits: Limits) -> None:
        self.service = service
        self.socket = str(folder / "http.sock")
        self.config = SimpleNamespace(
            http_host="127.0.0.1", http_port=0, http_socket=self.socket, body_limit=1 << 20
        )
        self.limits = limits
        self._ready = threading.Event()
        self._thread = threading.Thread(target=uvloop.run, args=(self._main(),))
        self._thread.start()
        assert self._ready.wait(30)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self.front = await http.serve(self.service, self.config, self.limits)
        self.url = self.front.addresses[0]
        self.port = int(self.url.rpartition(":")[2])
        self._ready.set()
        await self._end.wait()
        await self.front.stop()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(30)
        assert not self._thread.is_alive()

    def client(self, transport: str = "tcp") -> httpx.Client:
        uds = self.socket if transport == "uds" else None
        return httpx.Client(
            base_url=self.url, transport=httpx.HTTPTransport(uds=uds), timeout=30, trust_env=False
        )


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def run_front(service: FakeService, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(**limits: Any) -> Running:
        running = Running(service, tmp_path, Limits(**{"body": 1 << 20, **limits}))
        started.append(running)
        return running

    yield start
    service.proceed.set()
    for running in started:
        running.stop()


@pytest.fixture
def front(run_front: Callable[..., Running]) -> Running:
    return run_front()


@pytest.fixture(params=["tcp", "uds"])
def client(front: Running, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    with front.client(request.param) as client:
        yield client
