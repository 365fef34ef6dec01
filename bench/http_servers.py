# SPDX-License-Identifier: BUSL-1.1
"""The servers that `llm_http.py` compares: started on a model file, and ended."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import harness

from mlos_core.client import connect
from mlos_core.errors import MlosError

READY_S = 120.0
NAME = "model"
LLAMA_SLOTS = 16


@dataclass(frozen=True)
class Setup:
    """What all servers of a run share."""

    model: Path
    threads: int
    context: int
    llama_python: str
    llama_server: str
    folder: Path
    tag: str


def environment(setup: Setup, **more: str) -> dict[str, str]:
    return os.environ | {"MLOS_BENCH_RUN": setup.tag} | more


@contextlib.contextmanager
def process(
    command: list[str], env: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a group of its own, which is ended with it."""
    with log.open("wb") as out:
        child = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        harness.end(child)


def wait_until(ready: Callable[[], bool], child: subprocess.Popen[bytes], log: Path) -> None:
    """Poll until the server is there.

    Raises:
        ContestantFailed: it ended, or does not come.
    """
    end = time.monotonic() + READY_S
    while not ready():
        if child.poll() is not None or time.monotonic() > end:
            raise harness.ContestantFailed(harness.last_words(log.parent, log.stem))
        time.sleep(0.02)


@contextlib.contextmanager
def mlosd(setup: Setup) -> Iterator[str]:
    """The daemon with the model registered; its base URL."""
    home = setup.folder / "mlosd"
    home.mkdir(exist_ok=True)
    run, log = home / "run" / "mlosd.sock", setup.folder / "synapse.log"
    env = environment(
        setup,
        MLOS_RUN_DIR=str(run.parent),
        MLOS_STATE_DIR=str(home / "state"),
        MLOS_HTTP="true",
        MLOS_HTTP_PORT="0",
    )
    with process([sys.executable, "-P", "-m", "mlos_core.cli.mlosd"], env, log) as child:
        wait_until(lambda: connects(run), child, log)
        with connect(run) as client:
            options = {"threads": setup.threads}
            client.call("register", name=NAME, path=str(setup.model), options=options)
            addresses = client.call("status")["http"]
        yield next(one for one in addresses if one.startswith("http://")) + "/v1"


def connects(path: Path) -> bool:
    try:
        connect(path).close()
    except (MlosError, OSError):
        return False
    return True


@contextlib.contextmanager
def llama_cpp(setup: Setup) -> Iterator[str]:
    """llama-server where there is one, llama-cpp-python's server otherwise."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    root, log = f"http://127.0.0.1:{port}", setup.folder / "llama.cpp.log"
    if setup.llama_server:
        command, ready = llama_server(setup, port), "/health"
    else:
        command, ready = llama_cpp_python(setup, port), "/v1/models"
    with process(command, environment(setup), log) as child:
        wait_until(lambda: answers(root + ready), child, log)
        yield root + "/v1"


def llama_server(setup: Setup, port: int) -> list[str]:
    """llama.cpp's own server, with room for as many requests at once as the largest load."""
    options = {
        "model": str(setup.model),
        "alias": NAME,
        "host": "127.0.0.1",
        "port": port,
        "ctx-size": 2 * setup.context,
        "parallel": LLAMA_SLOTS,
        "threads": setup.threads,
        "threads-batch": setup.threads,
    }
    return [
        setup.llama_server,
        *(w for n, value in options.items() for w in (f"--{n}", str(value))),
    ]


def llama_cpp_python(setup: Setup, port: int) -> list[str]:
    """Answers one request after the other. One that comes later must not break off an earlier
    one, which it does by default."""
    options = {
        "model": str(setup.model),
        "model_alias": NAME,
        "host": "127.0.0.1",
        "port": port,
        "n_ctx": setup.context,
        "n_threads": setup.threads,
        "n_threads_batch": setup.threads,
        "interrupt_requests": False,
        "verbose": False,
    }
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    return [setup.llama_python, "-P", "-m", "llama_cpp.server", *flags]


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


SERVERS = {"synapse": mlosd, "llama.cpp": llama_cpp}
