# SPDX-License-Identifier: BUSL-1.1
"""What the channel adds to real models: onnxruntime in process and through MLOS Core.

silero-vad, magika and rapidocr's three models, with the same session options and thread
count everywhere. Each contestant is a client process of its own; all of one model take
turns of a fraction of a second, and start anew each round. Every contestant's last answer
is compared, bit by bit, with what onnxruntime gives in that process.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import select
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import leftovers
import msgspec
import numpy as np
import report
from ipc_peers import mlos
from rich.console import Console
from rich.table import Table
from sampling import Samples

import axon_client
from mlos_core.client import connect

BASELINE = "onnxruntime"
CONTESTANTS = (BASELINE, "mlos-infer", "mlos-prepared")
# package, part of the file's name, shapes of the inputs
CASES: dict[str, tuple[str, str, dict[str, tuple[int, ...]]]] = {
    "silero-vad": (
        "pypi/silero-vad@6.2.1",
        "silero_vad.onnx",
        {"input": (1, 576), "state": (2, 1, 128), "sr": ()},
    ),
    "magika": ("pypi/magika@1.0.3", "model.onnx", {"bytes": (1, 2048)}),
    "rapidocr-cls": ("pypi/rapidocr@3.10.0", "_cls_", {"x": (1, 3, 48, 192)}),
    "rapidocr-det": ("pypi/rapidocr@3.10.0", "_det_", {"x": (1, 3, 320, 320)}),
    "rapidocr-rec": ("pypi/rapidocr@3.10.0", "_rec_", {"x": (1, 3, 48, 320)}),
}
SPECIAL = {"sr": np.array(16000, np.int64)}
INTEGERS = {"bytes": np.int32}
PATIENCE_S = 60.0

Answer = dict[str, Any]


class Job(msgspec.Struct, frozen=True):
    """One client process."""

    contestant: str
    case: str
    file: str
    socket: str
    samples: str
    threads: int


class ClientFailed(Exception):
    """A client ended, or said nothing for too long."""


# --- the client process -----------------------------------------------------------------------


def inputs_of(case: str) -> dict[str, Any]:
    """Random inputs, the same in every process."""
    noise = np.random.default_rng(1)
    made: dict[str, Any] = {}
    for name, shape in CASES[case][2].items():
        if name in SPECIAL:
            made[name] = SPECIAL[name]
        elif name in INTEGERS:
            made[name] = noise.integers(0, 257, shape, INTEGERS[name])
        else:
            made[name] = noise.standard_normal(shape, np.float32)
    return made


def in_process(file: str, threads: int, inputs: dict[str, Any]) -> Callable[[], Answer]:
    """The model with onnxruntime in this process."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda: dict(zip(names, session.run(None, inputs), strict=True))


def prepared(model: Any, inputs: dict[str, Any]) -> Callable[[], Answer]:
    """A prepared call whose inputs lie in the channel, as those of onnxruntime in this
    process lie where it reads them."""
    call: Callable[[], Answer] = model.prepare(inputs)
    return call


def client(job: Job) -> None:
    """Measure for as many seconds as each line of the input says."""
    inputs = inputs_of(job.case)
    with contextlib.ExitStack() as stack:
        if job.contestant == BASELINE:
            ask = in_process(job.file, job.threads, inputs)
        else:
            model = stack.enter_context(connect(job.socket)).model(job.case)
            direct = lambda: model.infer(inputs)  # noqa: E731
            ask = prepared(model, inputs) if job.contestant == "mlos-prepared" else direct
        with Path(job.samples).open("ab") as file:
            for line in sys.stdin:
                measure(ask, float(line)).tofile(file)
                print("measured", flush=True)
        got = {name: array.copy() for name, array in ask().items()}
    expected = in_process(job.file, job.threads, inputs)()
    for name, array in expected.items():
        if got[name].tobytes() != array.tobytes():
            raise ClientFailed(f"{job.contestant} gives other bits for {name!r} of {job.case}")


def measure(ask: Callable[[], Answer], seconds: float) -> Samples:
    """Nanoseconds of each call, at least three; the first two warm up and do not count."""
    from time import perf_counter_ns as clock

    ask(), ask()
    samples: list[int] = []
    end = clock() + int(seconds * 1e9)
    while (begin := clock()) < end or len(samples) < 3:
        answer = ask()
        samples.append(clock() - begin)
        del answer
    return np.array(samples, np.int64)


# --- the harness ------------------------------------------------------------------------------


@contextlib.contextmanager
def started(job: Job, tag: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-P", __file__, "--client", msgspec.json.encode(job).decode()]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "MLOS_BENCH_RUN": tag}
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
    with child:
        try:
            yield child
            assert child.stdin
            child.stdin.close()
            if child.wait(PATIENCE_S):
                raise ClientFailed(f"{job.contestant}, {job.case}: ended with {child.returncode}")
        finally:
            child.kill()


def turn(child: subprocess.Popen[bytes], seconds: float) -> None:
    """Let one client measure while the others wait."""
    assert child.stdin
    assert child.stdout
    child.stdin.write(f"{seconds}\n".encode())
    child.stdin.flush()
    ready = select.select([child.stdout], [], [], PATIENCE_S)[0]
    if not ready or child.stdout.readline() != b"measured\n":
        raise ClientFailed("a client has failed; see what it wrote above")


def run_round(jobs: Sequence[Job], turns: int, seconds: float, tag: str) -> list[list[Samples]]:
    """All contestants of one model, in turns of changing order; their samples by turn."""
    order = random.Random(uuid.uuid4().int)
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(started(job, tag)) for job in jobs]
        for child in children:
            turn(child, 0.1)
        for job in jobs:
            os.truncate(job.samples, 0)
        ends: list[list[int]] = [[] for _ in jobs]
        for _ in range(turns):
            for index in order.sample(range(len(jobs)), len(jobs)):
                turn(children[index], seconds)
                ends[index].append(Path(jobs[index].samples).stat().st_size // 8)
    return [
        np.split(np.fromfile(job.samples, np.int64), cuts[:-1])
        for job, cuts in zip(jobs, ends, strict=True)
    ]


def install(home: Path) -> dict[str, str]:
    """Each case's model file, in a store at `home`."""
    files = {}
    for case, (package, word, _) in CASES.items():
        model = axon_client.install(package, home=home)
        (name,) = [m.path for m in model.models if word in Path(m.path).name]
        files[case] = str(model.model_file(name))
    return files


def run(args: argparse.Namespace, folder: Path, tag: str) -> dict[tuple[str, str], list[Samples]]:
    files = install(args.home or folder / "axon")
    socket = mlos.socket_of(folder)
    results: dict[tuple[str, str], list[Samples]] = {}
    os.environ["MLOS_BENCH_RUN"] = tag
    with mlos.daemon(folder, MLOS_HTTP="false"):
        with connect(socket) as control:
            for case in args.cases:
                options = {"intra_op_num_threads": args.threads}
                known = {"path": files[case], "plugin": "onnx", "options": options}
                control.call("register", name=case, **known)
        for _ in range(args.rounds):
            for case in args.cases:
                jobs = [
                    Job(name, case, files[case], socket, f"{folder}/{name}.ns", args.threads)
                    for name in CONTESTANTS
                ]
                samples = run_round(jobs, args.turns, args.seconds, tag)
                for name, one in zip(CONTESTANTS, samples, strict=True):
                    results.setdefault((name, case), []).extend(one)
    return results


def added(results: dict[tuple[str, str], list[Samples]], name: str, case: str) -> list[float]:
    """What a contestant's median has above the baseline's in the same turn, in µs."""
    both = zip(results[name, case], results[BASELINE, case], strict=True)
    return [float(np.median(ours) - np.median(base)) / 1000 for ours, base in both]


def print_added(
    console: Console, rows: Sequence[report.Row], extra: dict[tuple[str, str], list[float]]
) -> None:
    table = Table(title="µs per call, and what the channel adds to the median")
    for name in ("model", "contestant", "n", "median", "p99", "added", "middle half of the turns"):
        left = name in ("model", "contestant")
        table.add_column(name, justify="left" if left else "right", no_wrap=left)
    for one in rows:
        more = extra[one["contestant"], one["case"]]
        table.add_row(
            one["case"],
            one["contestant"],
            str(one["n"]),
            f"{one['median']:.1f}",
            f"{one['p99']:.1f}",
            f"{np.median(more):.1f}",
            "{:.1f} to {:.1f}".format(*np.quantile(more, (0.25, 0.75))),
        )
    console.print(table)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="two short rounds: does everything run?")
    add("--json", type=Path, metavar="FILE", help="write machine and rows here")
    add("--home", type=Path, help="axon store with the models (default: a temporary one)")
    add("--cases", type=lambda text: text.split(","), default=list(CASES), metavar="A,B")
    add("--threads", type=int, default=1, help="of onnxruntime, inside an operator")
    add("--rounds", type=int, default=6, help="each with fresh client processes")
    add("--turns", type=int, default=8, help="of each client in a round")
    add("--seconds", type=float, default=0.25, help="of each turn")
    add("--client", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.rounds, args.turns, args.seconds = 2, 2, 0.1
    for name in args.cases:
        if name not in CASES:
            parser.error(f"no case {name!r}; there are {', '.join(CASES)}")
    return args


def main() -> int:
    args, console = arguments(), Console()
    if args.client:
        client(msgspec.json.decode(args.client, type=Job))
        return 0
    if not console.is_terminal:
        console.width = 120
    tag, before, machine = uuid.uuid4().hex, leftovers.shared_memory(), report.machine()
    with tempfile.TemporaryDirectory(prefix="models-") as name:
        results = run(args, Path(name), tag)
    extra = {(name, case): added(results, name, case) for name, case in results}
    rows = [
        report.row(name, case, results[name, case])
        | {"added_median": round(float(np.median(extra[name, case])), 3)}
        for case in args.cases
        for name in CONTESTANTS
    ]
    if args.json:
        report.write(args.json, machine, rows)
    print_added(console, rows, extra)
    left = leftovers.complaints(before, tag)
    for line in left:
        console.print(f"[red]{line}[/]", highlight=False)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
