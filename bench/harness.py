# SPDX-License-Identifier: BUSL-1.1
"""Runs contestants in interleaved rounds, each in fresh processes, and keeps raw samples.

One round runs every (case, contestant) pair once, in an order that is shuffled anew: a
server process, a client process, warm-up, measurement, end. Nothing of one contestant
runs while another one is measured, and what a process is dealt at its start (addresses,
cores, page placement) is dealt again each round. Every wait here has a deadline, and a
pair that fails is reported and left out from then on.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import sampling
from ipc_peers.process import Job

HERE = Path(__file__).resolve().parent
READY_S = 30.0
STOP_S = 10.0
SLACK_S = 60.0
"""What a client may take beyond its planned time, in seconds."""

# glibc returns a freed block of some hundred KiB to the kernel and faults it in again for
# the next message, in some processes and not in others, depending on what they freed
# before. Contestants that copy would be charged for that; nobody is.
ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": str(1 << 30), "MALLOC_MMAP_THRESHOLD_": str(1 << 30)}


class ContestantFailed(Exception):
    """A server or client process ended with an error, or not at all."""


@dataclass(frozen=True)
class Case:
    """A payload size, as it is named in the results."""

    name: str
    nbytes: int
    in_place: bool = False


Key = tuple[str, str]
"""Contestant and case."""


@dataclass
class Results:
    """Samples in ns per contestant and case, one array per round; and what failed."""

    samples: dict[Key, list[sampling.Samples]] = field(default_factory=dict)
    failures: dict[Key, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cores:
    """The cores of either process; empty is whatever the scheduler says."""

    client: tuple[int, ...] = ()
    server: tuple[int, ...] = ()


def run_rounds(
    pairs: Sequence[tuple[str, Case]],
    plan: sampling.Plan,
    rounds: int,
    *,
    cores: Cores = Cores(),
    tag: str,
    progress: Callable[[int, str, str], None] = lambda *_: None,
) -> Results:
    """All rounds of all pairs.

    Args:
        tag: goes into the environment of every process, for `leftovers.processes`.
        progress: is told round, contestant and case before each measurement.
    """
    results, order = Results(), random.Random(1)
    for turn in range(rounds):
        for contestant, case in order.sample(list(pairs), len(pairs)):
            key = (contestant, case.name)
            if key in results.failures:
                continue
            progress(turn, contestant, case.name)
            try:
                samples = run_pair(contestant, case, plan, cores, tag)
            except ContestantFailed as err:
                results.failures[key] = str(err)
            else:
                results.samples.setdefault(key, []).append(samples)
    return results


def run_pair(
    contestant: str, case: Case, plan: sampling.Plan, cores: Cores, tag: str
) -> sampling.Samples:
    """One server, one client, one measurement.

    Raises:
        ContestantFailed: with what the process said last.
    """
    with tempfile.TemporaryDirectory(prefix="ipc-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        ready, ready_fd = os.pipe()
        stack.callback(os.close, ready)
        base = Job(contestant, case.nbytes, case.in_place, name, plan, f"{name}/samples")
        try:
            job = msgspec.structs.replace(base, ready_fd=ready_fd, cpus=cores.server)
            server = stack.enter_context(process("server", job, folder, tag))
            job = msgspec.structs.replace(base, cpus=cores.client)
            client = stack.enter_context(process("client", job, folder, tag))
        finally:
            os.close(ready_fd)
        if not select.select([ready], [], [], READY_S)[0] or not os.read(ready, 1):
            raise ContestantFailed(f"server: {last_words(folder, 'server')}")
        planned = plan.warmup_s + plan.budget_s + 2 * plan.least * plan.period_us / 1e6
        finish(client, planned + SLACK_S, folder)
        stop(server, folder)
        return np.fromfile(job.samples, np.int64)


@contextlib.contextmanager
def process(role: str, job: Job, folder: Path, tag: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the pair, in a group of its own that is ended at exit."""
    # -P: nothing is imported from the folder in which the benchmark was started.
    command = [sys.executable, "-P", "-m", "ipc_peers.process", role]
    env = os.environ | ALLOCATOR | {"PYTHONPATH": str(HERE), "MLOS_BENCH_RUN": tag}
    with (folder / f"{role}.log").open("wb") as log:
        child = subprocess.Popen(
            [*command, msgspec.json.encode(job).decode()],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=env,
            pass_fds=[job.ready_fd] if job.ready_fd >= 0 else [],
            start_new_session=True,
        )
    try:
        yield child
    finally:
        end(child)


def end(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and after a while SIGKILL for the whole group of the child."""
    if child.stdin:
        child.stdin.close()
    if child.poll() is None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait(STOP_S)


def finish(client: subprocess.Popen[bytes], seconds: float, folder: Path) -> None:
    """Let the client measure, and wait for its end."""
    try:
        client.communicate(b"go\n", timeout=seconds)
    except subprocess.TimeoutExpired:
        raise ContestantFailed(f"client: no end within {seconds:.0f} s") from None
    if client.returncode:
        raise ContestantFailed(f"client: {last_words(folder, 'client')}")


def stop(server: subprocess.Popen[bytes], folder: Path) -> None:
    """End the server, which has to manage that by itself."""
    server.terminate()
    try:
        code = server.wait(STOP_S)
    except subprocess.TimeoutExpired:
        raise ContestantFailed(f"server: no end within {STOP_S:.0f} s") from None
    if code:
        raise ContestantFailed(f"server: {last_words(folder, 'server')}")


def last_words(folder: Path, role: str) -> str:
    """What a process said last: its exception on one line, or its last line."""
    text = (folder / f"{role}.log").read_text(errors="replace").strip()
    _, found, after = text.rpartition("Traceback (most recent call last):")
    if not found:
        return text.rpartition("\n")[2] or "no word"
    frames = itertools.dropwhile(lambda line: line.startswith(" ") or not line, after.splitlines())
    return textwrap.shorten(" ".join(frames), 300)


@contextlib.contextmanager
def burner(tag: str) -> Iterator[None]:
    """A process that burns one core, wherever the scheduler puts it."""
    env = os.environ | {"MLOS_BENCH_RUN": tag}
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"], env=env)
    try:
        time.sleep(0.2)  # the scheduler spreads it before anything is measured
        yield
    finally:
        child.kill()
        child.wait(STOP_S)
