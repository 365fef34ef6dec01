# SPDX-License-Identifier: BUSL-1.1
"""Eight processes that use one model: each with a copy of its own, or all through MLOS Core.

Each process asks one question after the other. Counted are the answers of all within one
window, and the memory of all processes that belong to it (PSS, in which what several
share counts once) while they are at it: with MLOS Core daemon, plugin host and workers too.
Both are tuned first, by answers per second; see README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import select
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import harness
import leftovers
import numpy as np
import onnx_files
import plot
import report
import sharing_rows
from batching import CACHE
from batching_servers import Place, Setting, mlosd
from llm_peers.memory import resident
from rich.console import Console
from sharing_rows import ALONE, SHARED, Outcome

QUESTIONS = 4
CASES = ("minilm", "minilm-passages", "ocr-page", "nudenet")
PATIENCE_S = 60.0
Say = Callable[[str], None]
Child = subprocess.Popen[str]


@dataclass(frozen=True)
class Window:
    """How long is waited before the window, and how long it is."""

    warmup_s: float
    seconds: float


class Bench:
    """One model: its questions, their answers, and the measurement of one setting."""

    def __init__(self, args: argparse.Namespace, place: Place) -> None:
        self.args = args
        self.place = place
        self.questions = place.folder / "questions"
        self.questions.mkdir()
        self.answers = place.folder / "answers.npy"
        made = onnx_files.MODELS[place.case].requests(QUESTIONS)
        for name in made[0]:
            np.save(self.questions / name, np.stack([one[name] for one in made]))
        session = onnx_files.session(str(place.file), args.threads)
        np.save(self.answers, np.stack([session.run(None, one)[0] for one in made]))

    def measure(self, contestant: str, setting: Setting, window: Window) -> Outcome:
        """All processes, from their start to their end.

        Raises:
            ContestantFailed: one of them, or the daemon, ended with an error.
        """
        tag = uuid.uuid4().hex
        place = Place(self.place.case, self.place.file, self.place.folder, self.place.cache, tag)
        with contextlib.ExitStack() as stack:
            where = str(place.file)
            if contestant == SHARED:
                where, _ = stack.enter_context(mlosd(place, setting, http=False))
            children = [
                stack.enter_context(self.started(contestant, where, setting, number, tag))
                for number in range(self.args.processes)
            ]
            return observe(children, window, tag)

    @contextlib.contextmanager
    def started(
        self, contestant: str, where: str, setting: Setting, number: int, tag: str
    ) -> Iterator[Child]:
        given = [contestant, self.place.case, where, str(setting.threads)]
        given += [str(self.questions), str(self.answers), str(number)]
        command = [sys.executable, "-P", str(harness.HERE / "sharing_client.py"), *given]
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"MLOS_BENCH_RUN": tag},
        )
        with child:
            try:
                yield child
            finally:
                child.kill()


def observe(children: Sequence[Child], window: Window, tag: str) -> Outcome:
    """Let all work, take their memory while they do, and add up their answers."""
    for child in children:
        if read_line(child) != "ready":
            raise harness.ContestantFailed("a process did not get ready; see what it wrote above")
    begin = time.monotonic_ns() + int(window.warmup_s * 1e9)
    end = begin + int(window.seconds * 1e9)
    for child in children:
        tell(child, f"{begin} {end}\n")
    time.sleep(max(0.0, (end - time.monotonic_ns()) / 1e9))
    # They work on until they are told to stop: this is their memory at work, and taking it
    # disturbs no answer that counts.
    memory = memory_of(tag, [child.pid for child in children])
    for child in children:
        tell(child, "stop\n")
    told = [json.loads(read_line(child)) for child in children]
    calls = np.array([call for one in told for call in one["calls"]], np.int64).reshape(-1, 2)
    return Outcome(
        times=calls[:, 1] - calls[:, 0],
        rate=rate(calls, begin, end),
        memory=memory,
        differ=sum(one["differ"] for one in told),
        worst=max(one["worst"] for one in told),
    )


def rate(calls: Any, begin: int, end: int) -> float:
    """Answers per second; of a call that is partly in the window, that part counts.

    With slow models, whole calls alone would make the rate a matter of luck.
    """
    inside = np.minimum(calls[:, 1], end) - np.maximum(calls[:, 0], begin)
    return float((inside / (calls[:, 1] - calls[:, 0])).sum() / (end - begin) * 1e9)


def memory_of(tag: str, clients: Sequence[int]) -> dict[str, float]:
    """MiB of PSS, of the processes that ask and of those behind them."""
    pids = leftovers.processes(tag)
    return {
        "clients": sum(resident(pid)["pss"] for pid in clients),
        "servers": sum(resident(pid)["pss"] for pid in pids if pid not in clients),
    }


def tell(child: Child, line: str) -> None:
    assert child.stdin
    with contextlib.suppress(BrokenPipeError):  # its end is told by `read_line`
        child.stdin.write(line)
        child.stdin.flush()


def read_line(child: Child) -> str:
    """The next line of a process; raises `ContestantFailed` if none comes."""
    assert child.stdout
    line = ""
    if select.select([child.stdout], [], [], PATIENCE_S)[0]:
        line = child.stdout.readline().strip()
    if not line:
        raise harness.ContestantFailed("a process has failed; see what it wrote above")
    return line


# --- settings -------------------------------------------------------------------------------


def settings(contestant: str, case: str, args: argparse.Namespace) -> list[Setting]:
    """What is tried: threads of each process; or batching, and how the threads are divided."""
    if contestant == ALONE:
        return [Setting(1, 0, 1, threads) for threads in ((1,) if args.quick else (1, 0))]
    alone = onnx_files.MODELS[case].rows > 1  # enough rows already
    size = 1 if alone else args.processes
    one = Setting(size, 0, 1, args.threads)
    if args.quick:
        return [one]
    quiet, many = replace(one, spin=False), Setting(size, 0, args.threads, 1)
    return [one, quiet, many, *([] if alone else [replace(one, size=1)])]


def describe(contestant: str, setting: Setting) -> str:
    if contestant == ALONE:
        return f"threads in each process: {setting.threads or 'its own choice'}"
    spin = "" if setting.spin else ", no spinning"
    return f"{setting.workers} x {setting.threads} threads, batch {setting.size}{spin}"


ALIKE = 1.05
"""Memory that differs by less is the same memory."""


def choose(tried: dict[Setting, Outcome], enough: float) -> Setting:
    """Of those with at least `enough` answers per second the one with the least memory, and of
    those that have no more, the fastest; the fastest of all, if none is fast enough."""
    good = [one for one, outcome in tried.items() if outcome.rate >= enough]
    if not good:
        return max(tried, key=lambda one: tried[one].rate)
    least = min(total(tried[one]) for one in good)
    lean = [one for one in good if total(tried[one]) <= ALIKE * least]
    return max(lean, key=lambda one: tried[one].rate)


def total(outcome: Outcome) -> float:
    return sum(outcome.memory.values())


# --- the run --------------------------------------------------------------------------------


def run_case(args: argparse.Namespace, place: Place, say: Say) -> list[report.Row]:
    """Tune both, then interleaved rounds."""
    bench, order = Bench(args, place), random.Random(1)
    rows: list[report.Row] = []
    best: dict[str, Setting] = {}
    enough = math.inf  # of those who load the model, the fastest counts
    for contestant in (ALONE, SHARED):
        tried: dict[Setting, Outcome] = {}
        for setting in settings(contestant, place.case, args):
            outcome = bench.measure(contestant, setting, Window(args.warmup, args.tune_seconds))
            tried[setting], told = outcome, describe(contestant, setting)
            say(f"tune {place.case}, {contestant}: {outcome.describe()}, {told}")
            rows.append(sharing_rows.tuning(contestant, place.case, told, outcome))
        best[contestant] = choose(tried, enough)
        enough = tried[best[contestant]].rate
    outcomes: dict[str, list[Outcome]] = {name: [] for name in best}
    for turn in range(args.rounds):
        for contestant in order.sample(list(best), len(best)):
            window = Window(args.warmup, args.seconds)
            outcome = bench.measure(contestant, best[contestant], window)
            outcomes[contestant].append(outcome)
            say(f"round {turn + 1}: {place.case}, {contestant}: {outcome.describe()}")
    for contestant, setting in best.items():
        told = describe(contestant, setting)
        rows += sharing_rows.rows(contestant, place.case, told, outcomes[contestant])
    return rows


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="one short round: does everything run?")
    add("--json", type=Path, metavar="FILE", help="write machine and rows here")
    add("--picture", type=Path, metavar="FILE", help="ends in .svg or .png")
    add("--markdown", type=Path, metavar="FILE", help="write the table here")
    add("--cases", type=lambda text: text.split(","), default=list(CASES), metavar="A,B")
    add("--processes", type=int, default=8, help="that use the model")
    add("--threads", type=int, default=os.cpu_count(), help="of the workers, in total")
    add("--rounds", type=int, default=3, help="each with fresh processes")
    add("--seconds", type=float, default=4.0, help="of each measurement")
    add("--tune-seconds", type=float, default=1.0, help="of each setting that is tried")
    add("--warmup", type=float, default=1.0, help="seconds before each measurement")
    add("--cache", type=Path, default=CACHE, help="where the models are kept")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seconds, args.tune_seconds, args.warmup = 1, 1.0, 0.5, 0.5
    for name in args.cases:
        if name not in onnx_files.MODELS:
            parser.error(f"no case {name!r}; there are {', '.join(onnx_files.MODELS)}")
    return args


def main() -> int:
    args, console = arguments(), Console()
    if not console.is_terminal:
        console.width = 150
    say = lambda line: console.print(line, style="dim", highlight=False)  # noqa: E731
    before, machine = leftovers.shared_memory(), report.machine()
    rows: list[report.Row] = []
    failures: list[str] = []
    for case in args.cases:
        file = onnx_files.install(case, args.cache)
        with tempfile.TemporaryDirectory(prefix="sharing-") as name:
            place = Place(case, file, Path(name), args.cache, "")
            try:
                rows += run_case(args, place, say)
            except harness.ContestantFailed as err:
                failures.append(f"{case}: {err}")
    sharing_rows.compare(rows)
    write(args, machine, rows)
    sharing_rows.show(console, rows)
    left = leftovers.shared_memory() - before
    failures += [f"left in /dev/shm: {name}" for name in sorted(left)]
    for line in failures:
        console.print(f"[red]{line}[/]", highlight=False)
    return 1 if failures else 0


def write(args: argparse.Namespace, machine: dict[str, Any], rows: list[report.Row]) -> None:
    if args.json:
        report.write(args.json, machine, rows)
    if args.markdown:
        args.markdown.write_text(sharing_rows.markdown(rows))
    if args.picture and rows:
        plot.grid(machine, rows, args.picture, sharing_rows.TITLES)


if __name__ == "__main__":
    sys.exit(main())
