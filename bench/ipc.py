# SPDX-License-Identifier: BUSL-1.1
"""What a call into another process costs: MLOS Core and its alternatives, side by side.

A no-op model takes a payload and returns one number. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

import harness
import leftovers
import numpy as np
import report
from harness import Case, Cores
from ipc_peers import CONTESTANTS
from rich.console import Console
from sampling import Plan

SIZES = {"64B": 64, "4KiB": 4 << 10, "602112B": 602_112, "16MiB": 16 << 20}
CASES = (*SIZES, "602112B-inplace", "16MiB-inplace")
BASELINE = "bare-ring"


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="few rounds, short: does everything run?")
    add("--json", type=Path, metavar="FILE", help="write machine and rows here")
    add("--raw", type=Path, metavar="FILE", help="write all samples here (ns, .npz)")
    add("--contestants", type=names, default=list(CONTESTANTS), metavar="A,B")
    add(
        "--cases",
        type=names,
        default=list(CASES),
        metavar="A,B",
        help=f"of {', '.join(CASES)}; any size can be -inplace",
    )
    add("--rounds", type=int, metavar="N", help="default 6, with --quick 2")
    add("--seconds", type=float, metavar="S", help="measured per round (0.5; paced 2)")
    add("--paced", type=int, default=0, metavar="US", help="one request per so many µs")
    add("--burner", action="store_true", help="beside a process that burns one core")
    add("--pin", type=cores, default=Cores(), metavar="C:S", help="cores of client and server")
    args = parser.parse_args(argv)
    check(parser, args)
    return args


def names(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def cores(text: str) -> Cores:
    client, _, server = text.partition(":")
    return Cores(*(tuple(int(core) for core in names(side)) for side in (client, server)))


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    for name in args.contestants:
        if name not in CONTESTANTS:
            parser.error(f"no contestant {name!r}; there are {', '.join(CONTESTANTS)}")
    for name in args.cases:
        if name.removesuffix("-inplace") not in SIZES:
            parser.error(f"no case {name!r}; there are {', '.join(CASES)}")
    if args.paced < 0 or (args.rounds is not None and args.rounds < 1):
        parser.error("--paced and --rounds are positive numbers")


def suffix(args: argparse.Namespace) -> str:
    """What marks the cases of a run that is no plain closed loop: `-paced1ms-burner`."""
    pace = f"{args.paced // 1000}ms" if args.paced % 1000 == 0 else f"{args.paced}us"
    return (f"-paced{pace}" if args.paced else "") + ("-burner" if args.burner else "")


def pairs(args: argparse.Namespace) -> list[tuple[str, Case]]:
    """Who runs what: in-place cases are for those who can."""
    cases = [
        Case(name + suffix(args), SIZES[name.removesuffix("-inplace")], name.endswith("-inplace"))
        for name in args.cases
    ]
    return [
        (name, case)
        for case in cases
        for name in args.contestants
        if CONTESTANTS[name].in_place or not case.in_place
    ]


def plan(args: argparse.Namespace) -> Plan:
    """Time per round; `least` keeps slow pairs from ending with a handful of samples."""
    seconds = args.seconds or (2.0 if args.paced else 0.5) / (5 if args.quick else 1)
    warmup = min(seconds, 0.3)
    return Plan(warmup, seconds, 5 if args.quick else 40, 200_000, args.paced)


def run(args: argparse.Namespace, console: Console, tag: str) -> harness.Results:
    rounds = args.rounds or (2 if args.quick else 6)
    todo = pairs(args)
    with contextlib.ExitStack() as stack:
        if args.burner:
            stack.enter_context(harness.burner(tag))
        status = stack.enter_context(console.status("starting"))

        def progress(turn: int, contestant: str, case: str) -> None:
            status.update(f"round {turn + 1} of {rounds}: {contestant}, {case}")

        return harness.run_rounds(
            todo, plan(args), rounds, cores=args.pin, tag=tag, progress=progress
        )


def save_raw(path: Path, results: harness.Results) -> None:
    """All samples: `contestant/case/round`, in ns."""
    np.savez_compressed(
        path,
        **{
            re.sub(r"[^\w/-]", "_", f"{contestant}/{case}/{turn}"): samples
            for (contestant, case), rounds in results.samples.items()
            for turn, samples in enumerate(rounds)
        },
    )


def main() -> int:
    args, console = arguments(), Console()
    if not console.is_terminal:
        console.width = 120
    tag, before, machine = uuid.uuid4().hex, leftovers.shared_memory(), report.machine()
    results = run(args, console, tag)
    rows = [
        report.row(contestant, case.name, results.samples[contestant, case.name])
        for contestant, case in pairs(args)
        if (contestant, case.name) in results.samples
        and (contestant, case.name) not in results.failures
    ]
    if args.json:
        report.write(args.json, machine, rows)
    if args.raw:
        save_raw(args.raw, results)
    details = {key: report.detail(rounds) for key, rounds in results.samples.items()}
    report.print_table(console, rows, BASELINE, details)
    left = leftovers.complaints(before, tag)
    for (contestant, case), reason in results.failures.items():
        console.print(f"[red]failed:[/] {contestant}, {case}: {reason}", highlight=False)
    for line in left:
        console.print(f"[red]{line}[/]", highlight=False)
    return 1 if results.failures or left else 0


if __name__ == "__main__":
    sys.exit(main())
