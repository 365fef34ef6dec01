# SPDX-License-Identifier: BUSL-1.1
"""A contestant's process, seen from the harness."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import harness

from llm_peers.peer import Job

PATIENCE_S = 300.0
STOP_S = 20.0


@dataclass(frozen=True)
class Setup:
    """What every process of a run shares: each contestant's Python and job, a folder for its
    log, and the tag by which leftovers are found."""

    pythons: Mapping[str, str]
    jobs: Mapping[str, Job]
    folder: Path
    tag: str


class Running:
    """A process that has the model and answers one line with another."""

    def __init__(self, contestant: str, child: subprocess.Popen[bytes], folder: Path) -> None:
        self.contestant = contestant
        self._child = child
        self._folder = folder
        self.about: dict[str, str] = self._answer()["ready"]

    def samples(self, case: str, count: int) -> list[int]:
        """Nanoseconds of `count` samples."""
        found: list[int] = self._ask({"case": case, "count": count})["ns"]
        return found

    def memory(self) -> dict[str, float]:
        """MiB, by kind."""
        found: dict[str, float] = self._ask({"memory": True})["mib"]
        return found

    def _ask(self, wish: dict[str, Any]) -> dict[str, Any]:
        assert self._child.stdin
        with contextlib.suppress(BrokenPipeError):  # the answer says why
            self._child.stdin.write(json.dumps(wish).encode() + b"\n")
            self._child.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._child.stdout
        ready = select.select([self._child.stdout], [], [], PATIENCE_S)[0]
        line = self._child.stdout.readline() if ready else b""
        if not line:
            raise harness.ContestantFailed(harness.last_words(self._folder, self.contestant))
        found: dict[str, Any] = json.loads(line)
        return found


def environment(tag: str) -> dict[str, str]:
    """Of every process; nothing of this one's PYTHONPATH."""
    return os.environ | {"PYTHONPATH": str(harness.HERE), "MLOS_BENCH_RUN": tag}


def command(setup: Setup, contestant: str) -> list[str]:
    job = json.dumps(asdict(setup.jobs[contestant]))
    return [setup.pythons[contestant], "-P", "-m", "llm_peers.process", contestant, job]


@contextlib.contextmanager
def started(setup: Setup, contestant: str) -> Iterator[Running]:
    """A contestant with the model loaded, and its end.

    Raises:
        ContestantFailed: with its last words.
    """
    with (setup.folder / f"{contestant}.log").open("wb") as log:
        child = subprocess.Popen(
            command(setup, contestant),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment(setup.tag),
        )
    with child:
        try:
            yield Running(contestant, child, setup.folder)
            assert child.stdin
            child.stdin.close()
            child.wait(STOP_S)
        finally:
            child.kill()


def time_start(setup: Setup, contestant: str, prompt: str) -> tuple[float, int]:
    """Seconds from the start of a process to its first token after `prompt`, and that token."""
    with (setup.folder / f"{contestant}.log").open("wb") as log:
        begin = time.monotonic_ns()
        done = subprocess.run(
            [*command(setup, contestant), prompt],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment(setup.tag),
            timeout=PATIENCE_S,
            check=False,
        )
    if done.returncode:
        raise harness.ContestantFailed(harness.last_words(setup.folder, contestant))
    found = json.loads(done.stdout)
    return (found["at_ns"] - begin) / 1e9, found["token"]


def find_python(given: str, module: str) -> str:
    """The Python that can import `module`: the given one, else this one; empty if neither."""
    python = given or sys.executable
    words = [python, "-P", "-c", f"import {module}"]
    try:
        done = subprocess.run(words, check=False, timeout=PATIENCE_S, capture_output=True)
    except OSError:
        return ""
    return "" if done.returncode else python
