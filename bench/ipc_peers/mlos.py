# SPDX-License-Identifier: BUSL-1.1
"""MLOS Core: a private daemon with the echo plugin's `number` model.

The server process is the daemon's parent: it registers the model, and ends the daemon when
it is ended. The client talks to the model's worker through shared memory.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import ClassVar, cast

from ipc_peers.peer import CONNECT_S, AsyncPeer, Bytes, Peer
from mlos_core.client import connect, connect_async
from mlos_core.errors import MlosError

MODEL = "number"
DESCRIPTION = """\
mode = "number"
inputs = [{ name = "x", dtype = "float64", shape = [-1] }]
"""
CALL_S = 10.0
STOP_S = 8.0


class DaemonEnded(Exception):
    """With what the daemon said."""


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """A daemon of this pair alone, at its defaults but for `settings`."""
    inherited = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("MLOS_") or key.startswith("MLOS_BENCH_")
    }
    private = {"MLOS_RUN_DIR": f"{folder}/run", "MLOS_STATE_DIR": f"{folder}/state"}
    return inherited | private | settings


@contextlib.contextmanager
def daemon(folder: Path, **settings: str) -> Iterator[None]:
    """A running daemon that has the model, and its end."""
    command = [sys.executable, "-P", "-c", "from mlos_core.cli.mlosd import main; main()"]
    with (folder / "mlosd.log").open("wb") as log:
        child = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment(folder, **settings)
        )
    try:
        register(child, folder)
        yield
    finally:
        child.terminate()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(STOP_S)


def socket_of(folder: Path) -> str:
    return f"{folder}/run/mlosd.sock"


def register(child: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait for the daemon, and register the model with it."""
    path = folder / "number.echo"
    path.write_text(DESCRIPTION)
    end = time.monotonic() + CONNECT_S
    while True:
        try:
            with connect(socket_of(folder), timeout=CONNECT_S) as client:
                client.call("register", name=MODEL, path=str(path))
                return
        except MlosError as err:
            if child.poll() is not None:
                raise DaemonEnded((folder / "mlosd.log").read_text()) from None
            if not err.retryable or time.monotonic() > end:
                raise
            time.sleep(0.02)


def stay(ready: Callable[[], None]) -> None:
    """The daemon serves; its parent waits for the end."""
    ready()
    while True:
        signal.pause()


class Infer(Peer):
    """`model.infer` with a NumPy array in and the NumPy result out."""

    wait_mode: ClassVar[str] = "adaptive"

    def serve(self, ready: Callable[[], None]) -> None:
        settings = {"MLOS_WAIT_MODE": self.wait_mode, "MLOS_HTTP": "false"}
        with daemon(self.setting.folder, **settings):
            stay(ready)

    def connect(self) -> None:
        self.client = connect(socket_of(self.setting.folder), timeout=CONNECT_S)
        self.model = self.client.model(MODEL, wait_mode=self.wait_mode, **self.arena())

    def arena(self) -> dict[str, int]:
        """Room for two payloads, and for the answers."""
        return {"request_bytes": 2 * self.setting.nbytes + (1 << 20), "reply_bytes": 1 << 20}

    def payload(self) -> Bytes:
        if self.setting.in_place:
            array = self.model.alloc((self.setting.nbytes // 8,), "float64")
            array[:] = 0
            return cast("Bytes", array.view("uint8"))
        return super().payload()

    def caller(self, payload: Bytes) -> Callable[[], float]:
        infer = self.model.infer
        inputs = {"x": payload.view("float64")}

        def call() -> float:
            return infer(inputs)["number"].item()

        return call

    def close(self) -> None:
        if hasattr(self, "client"):
            self.client.close()


class Spin(Infer):
    """`infer` with polling forced on both sides."""

    wait_mode = "spin"


class Block(Infer):
    """`infer` with sleeping forced on both sides."""

    wait_mode = "block"


class Prepared(Infer):
    """`model.prepare`: the request is encoded once, and each call sends what lies in its
    arrays. The payload is copied there, unless it is there already."""

    def caller(self, payload: Bytes) -> Callable[[], float]:
        values = payload.view("float64")
        prepared = self.model.prepare({"x": values})
        place = prepared.inputs["x"]

        def call() -> float:
            place[:] = values
            return prepared()["number"].item()

        def call_in_place() -> float:
            return prepared()["number"].item()

        return call_in_place if self.setting.in_place else call


class Async(Infer, AsyncPeer):
    """`await model.infer` in an asyncio loop, which sleeps until the answer is there."""

    async def connect_async(self) -> None:
        self.connection = await connect_async(socket_of(self.setting.folder), timeout=CONNECT_S)
        self.model = await self.connection.model(MODEL, **self.arena())

    def caller(self, payload: Bytes) -> Callable[[], Awaitable[float]]:
        infer = self.model.infer
        inputs = {"x": payload.view("float64")}

        async def call() -> float:
            return (await infer(inputs))["number"].item()

        return call

    async def close_async(self) -> None:
        await self.connection.close()
