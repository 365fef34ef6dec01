# SPDX-License-Identifier: BUSL-1.1
"""What dynamic batching gives: 32 single requests at once, against ready batches in process.

Contestants: onnxruntime in the client's own process on ready batches of the best fixed
size; MLOS Core over shared memory and over HTTP; LitServe and MLServer, each in a venv of
its own. All have the same model file, the same onnxruntime and the same number of threads
in total. Each is tuned first, by its own knobs, and measured at its best; see README.md.
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
from pathlib import Path

import batching_load
import batching_rows
import harness
import leftovers
import msgspec
import numpy as np
import onnx_files
import plot
import report
from batching_load import Job, Outcome
from batching_servers import SERVERS, Place, Setting, first_settings, further_settings
from rich.console import Console

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mlos-bench"
CASES = ("minilm", "magika")
Say = Callable[[str], None]


class Bench:
    """Measures one contestant at a time, each in fresh processes."""

    def __init__(self, args: argparse.Namespace, place: Place) -> None:
        self.args = args
        self.place = place
        self.expected = str(place.folder / f"{place.case}.npy")
        session = onnx_files.session(str(place.file), args.threads)
        answers = [session.run(None, one)[0][0] for one in batching_load.questions(place.case)]
        np.save(self.expected, np.stack(answers))

    def measure(self, contestant: str, setting: Setting, seconds: float) -> Outcome:
        """One server, one client, one window.

        Raises:
            ContestantFailed: with what the process said last.
        """
        kind, server = SERVERS[contestant]
        with server(self.place, setting) as address:
            job = Job(
                case=self.place.case,
                file=str(self.place.file),
                kind=kind,
                address=address,
                expected=self.expected,
                result=str(self.place.folder / "outcome.json"),
                threads=setting.threads,
                size=setting.size,
                in_flight=self.args.in_flight,
                warmup_s=self.args.warmup,
                seconds=seconds,
            )
            return run_client(job, self.place)

    def tune(self, contestant: str, say: Say) -> tuple[Setting, list[report.Row]]:
        """The setting with the most answers per second, and a row for each that was tried."""
        tried: dict[Setting, float] = {}

        def attempt(setting: Setting) -> None:
            if setting in tried:
                return
            outcome = self.measure(contestant, setting, self.args.tune_seconds)
            tried[setting] = outcome.rows / outcome.seconds
            say(f"tune {contestant}: {tried[setting]:.0f}/s, {setting.describe(contestant)}")

        for setting in first_settings(contestant, self.args.threads, self.args.quick):
            attempt(setting)
        for step in further_settings(contestant, self.args.quick):
            for setting in step(max(tried, key=tried.__getitem__)):
                attempt(setting)
        return max(tried, key=tried.__getitem__), [
            tuning_row(contestant, self.place.case, setting, rate)
            for setting, rate in tried.items()
        ]


def tuning_row(contestant: str, case: str, setting: Setting, rate: float) -> report.Row:
    """Kept beside the results, so that nobody has to believe which setting was best."""
    return {
        "contestant": contestant,
        "case": case,
        "metric": "tuning",
        "unit": "1/s",
        "median": round(rate, 2),
        "setting": setting.describe(contestant),
    }


def run_client(job: Job, place: Place) -> Outcome:
    """The load in a process of its own."""
    command = [sys.executable, "-P", batching_load.__file__, msgspec.json.encode(job).decode()]
    env = os.environ | {"PYTHONPATH": str(harness.HERE), "MLOS_BENCH_RUN": place.tag}
    log = place.folder / "client.log"
    patience = job.warmup_s + job.seconds + harness.SLACK_S
    try:
        with log.open("wb") as out:
            child = subprocess.run(command, env=env, stderr=out, timeout=patience, check=False)
    except subprocess.TimeoutExpired:
        raise harness.ContestantFailed(f"client: no end within {patience:.0f} s") from None
    if child.returncode:
        raise harness.ContestantFailed(f"client: {harness.last_words(place.folder, 'client')}")
    return msgspec.json.decode(Path(job.result).read_bytes(), type=Outcome)


def run_case(
    args: argparse.Namespace, place: Place, say: Say
) -> tuple[list[report.Row], dict[str, list[Outcome]], list[str]]:
    """Tune all, then interleaved rounds; rows, raw outcomes, and what failed."""
    bench, order = Bench(args, place), random.Random(1)
    best: dict[str, Setting] = {}
    rows: list[report.Row] = []
    outcomes: dict[str, list[Outcome]] = {}
    failures: list[str] = []
    for contestant in args.contestants:
        try:
            best[contestant], tried = bench.tune(contestant, say)
            rows += tried
        except harness.ContestantFailed as err:
            failures.append(f"{contestant}, {place.case}: {err}")
    for turn in range(args.rounds):
        for contestant in order.sample(list(best), len(best)):
            say(f"round {turn + 1}/{args.rounds}: {contestant}, {place.case}")
            try:
                outcome = bench.measure(contestant, best[contestant], args.seconds)
            except harness.ContestantFailed as err:
                failures.append(f"{contestant}, {place.case}: {err}")
                del best[contestant]
            else:
                outcomes.setdefault(contestant, []).append(outcome)
    for contestant, setting in best.items():
        told = setting.describe(contestant)
        rows += batching_rows.rows(contestant, place.case, told, outcomes[contestant])
    return rows, outcomes, failures


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="few settings, one short round: does everything run?")
    add("--json", type=Path, metavar="FILE", help="write machine and rows here")
    add("--raw", type=Path, metavar="FILE", help="write every latency in ns here (.npz)")
    add("--picture", type=Path, metavar="FILE", help="ends in .svg or .png")
    add("--markdown", type=Path, metavar="FILE", help="write the table here")
    add("--cases", type=lambda text: text.split(","), default=["minilm"], metavar="A,B")
    add("--contestants", type=lambda text: text.split(","), default=list(SERVERS), metavar="A,B")
    add("--threads", type=int, default=os.cpu_count(), help="of onnxruntime, in total")
    add("--in-flight", type=int, default=32, help="single requests at once")
    add("--rounds", type=int, default=4, help="each with fresh processes")
    add("--seconds", type=float, default=4.0, help="of each measurement")
    add("--tune-seconds", type=float, default=1.5, help="of each setting that is tried")
    add("--warmup", type=float, default=1.0, help="seconds before each measurement")
    add("--cache", type=Path, default=CACHE, help="models, and the venvs of the other servers")
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.seconds, args.tune_seconds, args.warmup = 1, 1.0, 0.5, 0.5
    for given, known in ((args.cases, onnx_files.MODELS), (args.contestants, SERVERS)):
        for name in given:
            if name not in known:
                parser.error(f"no {name!r}; there are {', '.join(known)}")
    return args


def save_raw(path: Path, outcomes: dict[tuple[str, str], list[Outcome]]) -> None:
    arrays = {
        f"{case}/{name}/{turn}": np.array(one.latencies, np.int64)
        for (case, name), rounds in outcomes.items()
        for turn, one in enumerate(rounds)
    }
    np.savez_compressed(path, **arrays)


def main() -> int:
    args, console = arguments(), Console()
    if not console.is_terminal:
        console.width = 150
    say = lambda line: console.print(line, style="dim", highlight=False)  # noqa: E731
    tag, before, machine = uuid.uuid4().hex, leftovers.shared_memory(), report.machine()
    rows: list[report.Row] = []
    raw: dict[tuple[str, str], list[Outcome]] = {}
    failures: list[str] = []
    for case in args.cases:
        file = onnx_files.install(case, args.cache)
        with tempfile.TemporaryDirectory(prefix="batching-") as name:
            place = Place(case, file, Path(name), args.cache, tag)
            found, outcomes, failed = run_case(args, place, say)
        rows, failures = rows + found, failures + failed
        raw |= {(case, name): rounds for name, rounds in outcomes.items()}
    batching_rows.compare(rows)
    write(args, machine, rows, raw)
    batching_rows.show(console, rows)
    failures += leftovers.complaints(before, tag)
    for line in failures:
        console.print(f"[red]{line}[/]", highlight=False)
    return 1 if failures else 0


def write(
    args: argparse.Namespace,
    machine: dict[str, object],
    rows: list[report.Row],
    raw: dict[tuple[str, str], list[Outcome]],
) -> None:
    if args.json:
        report.write(args.json, machine, rows)
    if args.raw:
        save_raw(args.raw, raw)
    if args.markdown:
        args.markdown.write_text(batching_rows.markdown(rows))
    if args.picture and rows:
        plot.grid(machine, rows, args.picture, batching_rows.TITLES)


if __name__ == "__main__":
    sys.exit(main())
