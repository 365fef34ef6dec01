# SPDX-License-Identifier: BUSL-1.1
"""The servers that `batching.py` compares: their settings, and how each is started and ended."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import batching_load
import harness
import http_servers
import onnx_files
from ipc_peers.mlos import environment, socket_of

from mlos_core.client import Client, connect
from mlos_core.errors import MlosError

PEERS = Path(__file__).resolve().parent / "batching_peers"
PACKAGES = {
    "litserve": ("litserve==0.2.19",),
    # MLServer 1.7.1 does not start with uvloop 0.22 and later.
    "mlserver": ("mlserver==1.7.1", "uvloop<0.22"),
}


@dataclass(frozen=True)
class Setting:
    """How a server batches, and how the threads are divided."""

    size: int
    delay_us: int = 2000
    workers: int = 1
    threads: int = 2
    spin: bool = True
    fast_queue: bool = False
    front: int = 1

    def describe(self, contestant: str) -> str:
        if contestant == "onnxruntime":
            return f"batch {self.size}, {self.threads} threads"
        text = f"batch {self.size}, {self.delay_us / 1000:g} ms, "
        text += f"{self.workers or 'no'} workers of {self.threads} threads"
        more = {
            "no spinning": not self.spin,
            "fast queue": self.fast_queue,
            f"{self.front} fronts": self.front > 1,
        }
        return ", ".join([text, *(name for name, said in more.items() if said)])


@dataclass(frozen=True)
class Place:
    """What all servers of a run share."""

    case: str
    file: Path
    folder: Path
    cache: Path
    tag: str


Server = Callable[[Place, Setting], "contextlib.AbstractContextManager[str]"]
Variants = Callable[[Setting], Sequence[Setting]]


# --- what is tried --------------------------------------------------------------------------


def first_settings(contestant: str, threads: int, quick: bool) -> list[Setting]:
    """Where the search begins: every size with every division of the threads."""
    if contestant == "onnxruntime":
        sizes = (1, 8, 32) if quick else (1, 2, 4, 8, 16, 32, 64)
        return [Setting(size, 0, 1, threads) for size in sizes]
    sizes = (16,) if quick else (8, 16, 32)
    divisions = [(1, threads)] if quick else [(1, threads), (threads, 1)]
    # MLOS Core knows by itself when waiting pays; for the others 0 means no batches.
    delay = 0 if contestant.startswith("mlos") else 2000
    return [Setting(size, delay, *division) for size in sizes for division in divisions]


def further_settings(contestant: str, quick: bool) -> list[Variants]:
    """The steps after the first, each from the best that is known."""
    if quick or contestant == "onnxruntime":
        return []
    delays = {"mlos": (500, 2000), "litserve": (500, 10000, 50000), "mlserver": (500, 10000)}
    mine = delays[contestant.partition("-")[0]]
    steps: list[Variants] = [
        lambda best: [replace(best, delay_us=us) for us in mine],
        lambda best: [replace(best, spin=False)] if best.threads > 1 else [],
    ]
    if contestant == "litserve":
        steps.append(lambda best: [replace(best, fast_queue=True), replace(best, front=2)])
    if contestant == "mlserver":
        # 0: the model runs in the server's own process.
        steps.append(lambda best: [replace(best, workers=0, threads=best.workers * best.threads)])
    return steps


# --- the servers ----------------------------------------------------------------------------


@contextlib.contextmanager
def nothing(place: Place, setting: Setting) -> Iterator[str]:
    """Onnxruntime in the client's own process needs no server."""
    yield ""


@contextlib.contextmanager
def mlosd(place: Place, setting: Setting, http: bool) -> Iterator[tuple[str, str]]:
    """A fresh daemon with the model registered; its socket, and its host and port for HTTP."""
    home = Path(tempfile.mkdtemp(prefix="mlosd-", dir=place.folder))
    env = environment(home, MLOS_HTTP=str(http), MLOS_HTTP_PORT="0", MLOS_BENCH_RUN=place.tag)
    log, control = home / "mlosd.log", socket_of(home)
    command = [sys.executable, "-P", "-m", "mlos_core.cli.mlosd"]
    with http_servers.process(command, env, log) as child:
        http_servers.wait_until(lambda: http_servers.connects(Path(control)), child, log)
        with connect(control) as client:
            register(client, place, setting)
            addresses = client.call("status")["http"]
        tcp = [one.removeprefix("http://") for one in addresses if one.startswith("http://")]
        yield control, tcp[0].rstrip("/") if http else ""


def register(client: Client, place: Place, setting: Setting) -> None:
    """Raises `ContestantFailed` with the daemon's reason."""
    try:
        client.call("register", **registration(place, setting))
    except MlosError as err:
        raise harness.ContestantFailed(f"mlosd: {err}") from None


def registration(place: Place, setting: Setting) -> dict[str, Any]:
    batched = onnx_files.MODELS[place.case].batched
    options: dict[str, Any] = {
        "intra_op_num_threads": setting.threads,
        "allow_spinning": setting.spin,
    }
    return {
        "name": place.case,
        "path": str(place.file),
        "plugin": "onnx",
        "options": options | ({} if batched is None else {"batched": batched}),
        "instances": setting.workers,
        "batch": {"max_batch_size": setting.size, "max_queue_delay_us": setting.delay_us},
    }


@contextlib.contextmanager
def mlos_shm(place: Place, setting: Setting) -> Iterator[str]:
    with mlosd(place, setting, http=False) as (control, _):
        yield control


@contextlib.contextmanager
def mlos_http(place: Place, setting: Setting) -> Iterator[str]:
    with mlosd(place, setting, http=True) as (_, address):
        yield address


@contextlib.contextmanager
def litserve(place: Place, setting: Setting) -> Iterator[str]:
    port = free_ports(1)[0]
    kinds = {n: a.dtype.name for n, a in batching_load.questions(place.case)[0].items()}
    job = {**vars(setting), "file": str(place.file), "port": port, "inputs": kinds}
    python = venv(place.cache, "litserve")
    command = [str(python), "-P", str(PEERS / "litserve_server.py"), json.dumps(job)]
    log = place.folder / "litserve.log"
    with http_servers.process(command, peer_environment(place), log) as child:
        url = f"http://127.0.0.1:{port}/health"
        http_servers.wait_until(lambda: http_servers.answers(url), child, log)
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def mlserver(place: Place, setting: Setting) -> Iterator[str]:
    home = place.folder / "mlserver"
    home.mkdir(exist_ok=True)
    http, grpc, metrics = free_ports(3)
    server = {
        "host": "127.0.0.1",
        "http_port": http,
        "grpc_port": grpc,
        "metrics_port": metrics,
        "metrics_endpoint": None,
        "debug": False,
        "parallel_workers": setting.workers,
    }
    model = {
        "name": place.case,
        "implementation": "mlserver_runtime.Onnx",
        "max_batch_size": setting.size,
        "max_batch_time": setting.delay_us / 1e6,
        "parameters": {
            "extra": {"file": str(place.file), "threads": setting.threads, "spin": setting.spin}
        },
    }
    (home / "settings.json").write_text(json.dumps(server))
    (home / "model-settings.json").write_text(json.dumps(model))
    python, log = venv(place.cache, "mlserver"), place.folder / "mlserver.log"
    command = [str(python.with_name("mlserver")), "start", str(home)]
    env = peer_environment(place) | {"PYTHONPATH": str(PEERS)}
    with http_servers.process(command, env, log) as child:
        url = f"http://127.0.0.1:{http}/v2/models/{place.case}/ready"
        http_servers.wait_until(lambda: http_servers.answers(url), child, log)
        yield f"127.0.0.1:{http}"


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [one.getsockname()[1] for one in sockets]


def peer_environment(place: Place) -> dict[str, str]:
    """Nothing of ours is on the path of a server that is not ours."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return inherited | {"MLOS_BENCH_RUN": place.tag, "HOME": str(place.folder)}


def venv(cache: Path, name: str) -> Path:
    """The Python of a venv with that server and the same onnxruntime and numpy as ours."""
    home = cache / name
    ready = home / "ready"
    python = home / "bin" / "python"
    wanted = [*PACKAGES[name], *(f"{one}=={version(one)}" for one in ("onnxruntime", "numpy"))]
    if not ready.exists() or ready.read_text() != "\n".join(wanted):
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, *wanted], check=True, stderr=subprocess.DEVNULL)
        ready.write_text("\n".join(wanted))
    return python


SERVERS: dict[str, tuple[str, Server]] = {
    "onnxruntime": ("process", nothing),
    "mlos-shm": ("shm", mlos_shm),
    "mlos-http": ("http", mlos_http),
    "litserve": ("litserve", litserve),
    "mlserver": ("mlserver", mlserver),
}
"""By contestant: what its client is, and its server."""
