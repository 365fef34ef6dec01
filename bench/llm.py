# SPDX-License-Identifier: BUSL-1.1
"""Synapse and llama.cpp on the same GGUF file with the same number of threads.

Prefill, decode of parallel streams, time to the first token, memory, and what the
shared-memory client adds. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import harness
import leftovers
import llm_daemon
import llm_limits
import llm_rows
import report
from llm_daemon import CLIENT, DAEMON
from llm_daemon import MEMORY as DAEMON_MEMORY
from llm_peers import CONTESTANTS
from llm_peers.peer import Job
from llm_peers.running import Setup, find_python, started, time_start
from rich.console import Console

THROUGHPUT = ("prefill-128", "prefill-512", "decode-1", "decode-4", "decode-16", "decode-32")
START, MEMORY = "start", "memory"
CASES = (*THROUGHPUT, START, DAEMON, MEMORY, DAEMON_MEMORY, CLIENT)
MODULES = {"synapse": "mlos_core", "llama.cpp": "llama_cpp"}
PYTHON = "MLOS_BENCH_LLAMA_PYTHON"
PROMPT = "The capital of France is"
MEMORY_CONTEXT = 2048
THROUGHPUT_CONTEXT = 4096
"""Tokens: 32 streams of 64 and some to spare."""

Samples = dict[tuple[str, str], list[list[int]]]
Progress = Callable[[str], None]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("model", help="a GGUF file")
    add("--quick", action="store_true", help="few samples: does everything run?")
    add("--json", type=Path, metavar="FILE", help="write machine and rows here")
    add("--contestants", type=names, default=list(CONTESTANTS), metavar="A,B")
    add("--cases", type=names, default=list(CASES), metavar="A,B", help=f"of {', '.join(CASES)}")
    add("--threads", type=int, default=2, help="of every contestant (2)")
    add("--rounds", type=int, default=5, help="each with fresh processes (5)")
    add("--turns", type=int, default=3, help="of each contestant, case and round (3)")
    add("--prefills", type=int, default=4, help="prompts per turn (4)")
    add("--steps", type=int, default=48, help="decoding steps per turn (48)")
    add(
        "--llama-python",
        default=os.environ.get(PYTHON, ""),
        metavar="PYTHON",
        help=f"one that has llama-cpp-python ({PYTHON}; default: this one)",
    )
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.turns, args.prefills, args.steps = 1, 1, 1, 4
    for given, known in ((args.cases, CASES), (args.contestants, CONTESTANTS)):
        for name in given:
            if name not in known:
                parser.error(f"no {name!r}; there are {', '.join(known)}")
    return args


def names(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def setup(args: argparse.Namespace, folder: Path, tag: str) -> Setup:
    """Who runs with which Python. Each contestant may keep files in the folder of the run."""
    given = {"llama.cpp": args.llama_python}
    pythons, jobs = {}, {}
    for name in args.contestants:
        python = find_python(given.get(name, ""), MODULES[name])
        if not python:
            raise SystemExit(f"{name}: no {MODULES[name]} found; see --llama-python")
        options = {"cache_dir": f"{folder}/cache"} if name == "synapse" else {}
        pythons[name] = python
        jobs[name] = Job(str(Path(args.model).resolve()), args.threads, THROUGHPUT_CONTEXT, options)
    return Setup(pythons, jobs, folder, tag)


def throughput(args: argparse.Namespace, made: Setup, say: Progress) -> tuple[Samples, dict]:
    """Samples of each contestant and case, one list per turn; and what the contestants are.

    A round has fresh processes, both alive; they take turns in an order shuffled anew.
    """
    found: Samples = {}
    about: dict[str, dict[str, str]] = {}
    order = random.Random(1)
    cases = [case for case in args.cases if case in THROUGHPUT]
    for turn in range(args.rounds if cases else 0):
        with ExitStack() as stack:
            peers = [stack.enter_context(started(made, name)) for name in args.contestants]
            about |= {peer.contestant: peer.about for peer in peers}
            for case in order.sample(cases, len(cases)):
                count = args.prefills if case.startswith("prefill") else args.steps
                for _ in range(args.turns):
                    for peer in order.sample(peers, len(peers)):
                        say(f"round {turn + 1} of {args.rounds}: {peer.contestant}, {case}")
                        samples = peer.samples(case, count)
                        found.setdefault((peer.contestant, case), []).append(samples)
    return found, about


def starts(args: argparse.Namespace, made: Setup, say: Progress) -> list[report.Row]:
    """Seconds to the first token; the first start of each, which may fill caches, is a row of
    its own."""
    found: dict[str, list[float]] = {name: [] for name in args.contestants}
    tokens: dict[str, int] = {}
    order = random.Random(2)
    for turn in range(2 * args.rounds + 1):
        for name in order.sample(args.contestants, len(args.contestants)):
            say(f"start {turn + 1}: {name}")
            seconds, tokens[name] = time_start(made, name, PROMPT)
            found[name].append(seconds)
    rows = [llm_rows.plain(name, START, "s", times[1:]) for name, times in found.items()]
    for row in rows:
        row |= {"first_s": round(found[row["contestant"]][0], 4)}
        row |= {"token": tokens[row["contestant"]]}
    return rows


def memory(args: argparse.Namespace, made: Setup, say: Progress) -> list[report.Row]:
    """Peak resident MiB after a prompt and some steps, with a cache for as many tokens."""
    jobs = {n: Job(j.model, j.threads, MEMORY_CONTEXT, j.options) for n, j in made.jobs.items()}
    small = Setup(made.pythons, jobs, made.folder, made.tag)
    file = Path(args.model).stat().st_size / (1 << 20)
    rows = []
    for name in args.contestants:
        say(f"memory: {name}")
        with started(small, name) as peer:
            peer.samples("prefill-512", 1)
            peer.samples("decode-1", args.steps)
            parts = peer.memory()
        row = llm_rows.plain(name, MEMORY, "MiB", [parts["peak"]])
        rows.append(row | {"parts": {k: round(v, 1) for k, v in parts.items()}, "file": file})
    return rows


class Outcome:
    """Rows, what the contestants are, and what failed; a part that fails takes no other along."""

    def __init__(self) -> None:
        self.rows: list[report.Row] = []
        self.about: dict[str, dict[str, str]] = {}
        self.failures: list[str] = []

    def add(self, part: Callable[[], list[report.Row]]) -> None:
        try:
            self.rows += part()
        except (harness.ContestantFailed, subprocess.TimeoutExpired) as err:
            self.failures.append(str(err))


def measure(args: argparse.Namespace, made: Setup, say: Progress) -> Outcome:
    """All the cases that are wanted."""
    outcome = Outcome()

    def decode_and_prefill() -> list[report.Row]:
        samples, outcome.about = throughput(args, made, say)
        order = sorted(samples, key=lambda key: args.cases.index(key[1]))
        return [llm_rows.throughput(name, case, samples[name, case]) for name, case in order]

    outcome.add(decode_and_prefill)
    if START in args.cases:
        outcome.add(lambda: starts(args, made, say))
    if "synapse" in args.contestants and llm_daemon.CASES & set(args.cases):
        outcome.add(lambda: llm_daemon.rows(args, made, PROMPT, say))
    if MEMORY in args.cases:
        outcome.add(lambda: memory(args, made, say))
    return outcome


def main() -> int:
    args, console = arguments(), Console()
    if not console.is_terminal:
        console.width = 120
    tag, before, machine = uuid.uuid4().hex, leftovers.shared_memory(), report.machine()
    os.environ["MLOS_BENCH_RUN"] = tag
    with tempfile.TemporaryDirectory(prefix="llm-") as name:
        made = setup(args, Path(name), tag)
        limits = llm_limits.probe(args.threads, Path(name))
        with console.status("starting") as status:
            outcome = measure(args, made, status.update)
    rows = outcome.rows
    llm_rows.compare(rows, against={DAEMON: START, DAEMON_MEMORY: MEMORY})
    llm_rows.bound(rows, limits, llm_limits.work_of(args.model))
    if args.json:
        more = {
            "model": Path(args.model).name,
            "threads": args.threads,
            "contestants": outcome.about,
        }
        more |= {"limits": asdict(limits) if limits else None}
        report.write(args.json, machine | more, rows)
    llm_rows.show(console, rows, limits)
    left = [*outcome.failures, *leftovers.complaints(before, tag)]
    for line in left:
        console.print(f"[red]{line}[/]", highlight=False)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
