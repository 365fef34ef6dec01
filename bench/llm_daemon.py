# SPDX-License-Identifier: BUSL-1.1
"""The cases with a daemon: its start to the first token, and what the client adds per token."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
import leftovers
import llm_rows
import numpy as np
import report
from ipc_peers.mlos import environment, socket_of
from llm_peers.memory import resident
from llm_peers.peer import Job
from llm_peers.running import PATIENCE_S, Setup, find_python, started
from llm_peers.running import environment as environment_of_peers

from mlos_core.client import connect
from mlos_core.errors import MlosError

DAEMON, CLIENT, MEMORY = "start-daemon", "client", "memory-daemon"
CASES = {DAEMON, CLIENT, MEMORY}
CONTEXT = 2048
NAME = "llm"
ENGINE, THROUGH = "synapse-engine", "synapse-client"
ANSWER = 64
"""Tokens of an answer of the case `client`."""
STOP_S = 15.0
Progress = Callable[[str], None]


def rows(args: argparse.Namespace, made: Setup, prompt: str, say: Progress) -> list[report.Row]:
    """Of the cases that are wanted."""
    folder = made.folder / "mlos"
    folder.mkdir()
    found = []
    with daemon(folder):
        register(args, folder)
        if CLIENT in args.cases:
            found += client(args, made, socket_of(folder), say)
        if MEMORY in args.cases:
            say(MEMORY)
            found += memory(args, made, socket_of(folder))
    if DAEMON in args.cases:
        found += starts(args, made, folder, prompt, say)
    return found


@contextlib.contextmanager
def daemon(folder: Path) -> Iterator[None]:
    """A daemon with the models that were registered in that folder, at its defaults."""
    command = [sys.executable, "-P", "-m", "mlos_core.cli.mlosd"]
    with ended(command, environment(folder, MLOS_HTTP_PORT="0"), folder / "mlosd.log"):
        yield


@contextlib.contextmanager
def ended(command: list[str], env: dict[str, str], log: Path) -> Iterator[None]:
    """A process, until the block ends."""
    with log.open("wb") as file:
        child = subprocess.Popen(command, stdout=file, stderr=file, env=env)
    try:
        yield
    finally:
        child.terminate()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(STOP_S)


def patiently(what: Callable[[], None], log: Path) -> None:
    """Try until it works, every millisecond."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return what()
        except (MlosError, OSError) as err:
            if time.monotonic() > end or (isinstance(err, MlosError) and not err.retryable):
                raise harness.ContestantFailed(
                    f"{err}; {harness.last_words(log.parent, log.stem)}"
                ) from None
            time.sleep(0.001)


def register(args: argparse.Namespace, folder: Path) -> None:
    options = {"threads": args.threads, "cache_dir": str(folder / "cache")}
    options["kv_blocks"] = CONTEXT // 32
    path = str(Path(args.model).resolve())

    def attempt() -> None:
        with connect(socket_of(folder)) as client:
            client.call("register", name=NAME, path=path, plugin="synapse", options=options)

    patiently(attempt, folder / "mlosd.log")


# --- start ------------------------------------------------------------------------------------


def starts(
    args: argparse.Namespace, made: Setup, folder: Path, prompt: str, say: Progress
) -> list[report.Row]:
    """Seconds from the start of a server to the first token at its client, which runs
    already. llama.cpp's is llama-cpp-python's HTTP server, where it is installed."""
    ways: dict[str, Callable[[], float]] = {"synapse": lambda: start_mlosd(folder, prompt)}
    server = find_python(made.pythons.get("llama.cpp", ""), "llama_cpp.server.app")
    if server and "llama.cpp" in args.contestants:
        ways["llama.cpp"] = lambda: start_server(args, made, server, prompt)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(2 * args.rounds):
        for name, way in ways.items():
            say(f"{DAEMON} {turn + 1}: {name}")
            found[name].append(way())
    return [llm_rows.plain(name, DAEMON, "s", times) for name, times in found.items()]


def start_mlosd(folder: Path, prompt: str) -> float:
    text = np.array([prompt.encode()], dtype=object)

    def ask() -> None:
        with connect(socket_of(folder)) as client:
            model = client.model(NAME)
            with model.stream({"text": text}, parameters={"max_tokens": 1}) as events:
                next(events)

    begin = time.monotonic()
    with daemon(folder):
        patiently(ask, folder / "mlosd.log")
        return time.monotonic() - begin


def start_server(args: argparse.Namespace, made: Setup, python: str, prompt: str) -> float:
    port = free_port()
    words = ["--model", args.model, "--n_threads", str(args.threads), "--port", str(port)]
    command = [python, "-P", "-m", "llama_cpp.server", *words, "--n_ctx", "2048"]
    log = made.folder / "llama-server.log"
    body = json.dumps({"prompt": prompt, "max_tokens": 1})

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request(
                "POST", "/v1/completions", body, {"Content-Type": "application/json"}
            )
            answer = connection.getresponse()
            if answer.status != 200:
                raise harness.ContestantFailed(f"llama.cpp's server: {answer.read()[:200]!r}")
            answer.read()

    begin = time.monotonic()
    with ended(command, environment_of_peers(made.tag), log):
        patiently(ask, log)
        return time.monotonic() - begin


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# --- memory -----------------------------------------------------------------------------------


def memory(args: argparse.Namespace, made: Setup, path: str) -> list[report.Row]:
    """Peak resident MiB of the worker after an answer; `parts` has what the daemon, the
    plugin host and the worker occupy together (`all_pss`), what they share counted once."""
    with connect(path) as client:
        text = np.array([b"word " * 400], dtype=object)
        wanted = {"max_tokens": args.steps, "ignore_eos": True}
        with client.model(NAME).stream({"text": text}, parameters=wanted) as events:
            for _ in events:
                pass
        (worker,) = client.call("model", name=NAME)["workers"]
        parts = resident(worker["pid"])
    parts["all_pss"] = sum(resident(pid)["pss"] for pid in leftovers.processes(made.tag))
    row = llm_rows.plain("synapse", MEMORY, "MiB", [parts["peak"]])
    return [row | {"parts": {name: round(value, 1) for name, value in parts.items()}}]


# --- the client -------------------------------------------------------------------------------


def client(args: argparse.Namespace, made: Setup, path: str, say: Progress) -> list[report.Row]:
    """Time per token of one answer: of the engine in the process that asks, and in a worker,
    through shared memory. They take turns; `added_median` is the median of the differences."""
    job = made.jobs["synapse"]
    options = {ENGINE: job.options, THROUGH: {"socket": path, "name": NAME}}
    jobs = {n: Job(job.model, job.threads, job.context, o) for n, o in options.items()}
    both = Setup(dict.fromkeys(jobs, sys.executable), jobs, made.folder, made.tag)
    found: dict[str, list[list[int]]] = {name: [] for name in jobs}
    for turn in range(args.rounds):
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(started(both, name)) for name in jobs]
            for _ in range(4 * args.turns):
                for peer in peers:
                    say(f"{CLIENT} {turn + 1}: {peer.contestant}")
                    found[peer.contestant].append(peer.samples(f"answer-{ANSWER}", 2))
    return added(found)


def added(found: dict[str, list[list[int]]]) -> list[report.Row]:
    """Rows in µs, and what the client adds."""
    made = [
        llm_rows.plain(name, CLIENT, "us", [ns / 1000 for turn in turns for ns in turn])
        for name, turns in found.items()
    ]
    pairs = zip(found[THROUGH], found[ENGINE], strict=True)
    more = [float(np.median(ours) - np.median(base)) / 1000 for ours, base in pairs]
    made[-1]["added_median"] = round(float(np.median(more)), 2)
    made[-1]["added_middle_half"] = [round(float(q), 2) for q in np.quantile(more, (0.25, 0.75))]
    return made
