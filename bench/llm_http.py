# SPDX-License-Identifier: BUSL-1.1
"""Servers with OpenAI's interface under the same load: time to the first token, time between
tokens, tokens per second, at several numbers of clients. See README.md beside this file.

A round starts each server once, in an order shuffled anew, lets it answer one request, puts
every load on it and ends it; nothing else runs meanwhile. A server that runs already takes
part as `--url NAME=http://host:port/v1`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import harness
import http_load
import http_rows
import leftovers
import report
from http_load import Load, Measured
from http_servers import NAME, SERVERS, Setup
from rich.console import Console

PYTHON = "MLOS_BENCH_LLAMA_PYTHON"
LOADS = {1: 4, 4: 3, 16: 2}
"""Requests of each client, by the number of clients."""
WARM_TOKENS = 8

Results = dict[tuple[str, str], list[Measured]]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("model", type=Path, help="a GGUF file")
    add("--quick", action="store_true", help="one round, short: does everything run?")
    add("--json", type=Path, metavar="FILE", help="write machine and rows here")
    add("--picture", type=Path, metavar="FILE", help="draw them: .svg or .png")
    add("--contestants", type=names, default=list(SERVERS), metavar="A,B")
    add("--url", action="append", default=[], metavar="NAME=URL", help="a server that runs")
    add("--url-model", default=NAME, help="what the model is called there")
    add("--clients", type=numbers, default=list(LOADS), metavar="1,4,16")
    add("--tokens", type=int, default=64, help="of each answer (64)")
    add("--rounds", type=int, default=5)
    add("--threads", type=int, default=2, help="of every server (2)")
    add("--context", type=int, default=4096, help="tokens that a server has room for (4096)")
    add(
        "--llama-python",
        default=os.environ.get(PYTHON, sys.executable),
        metavar="PYTHON",
        help=f"one that has llama-cpp-python with its server ({PYTHON}; default: this one)",
    )
    add("--llama-server", default="", metavar="FILE", help="llama.cpp's own server, if built")
    args = parser.parse_args()
    for name in args.contestants:
        if name not in SERVERS:
            parser.error(f"no contestant {name!r}; there are {', '.join(SERVERS)}")
    if any("=" not in one for one in args.url):
        parser.error("--url is NAME=http://host:port/v1")
    if args.quick:
        args.rounds, args.tokens = 1, 8
    return args


def names(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def numbers(text: str) -> list[int]:
    return [int(part) for part in names(text)]


@contextlib.contextmanager
def running(name: str, args: argparse.Namespace, setup: Setup) -> Iterator[tuple[str, str]]:
    """The base URL of a contestant, and what the model is called there."""
    urls = dict(one.split("=", 1) for one in args.url)
    if name in urls:
        yield urls[name].rstrip("/"), args.url_model
        return
    with SERVERS[name](setup) as base:
        yield base, NAME


def loads(args: argparse.Namespace) -> dict[str, Load]:
    """By the name of the case."""
    return {
        f"http-{clients}": Load(clients, 1 if args.quick else LOADS.get(clients, 2), args.tokens)
        for clients in args.clients
    }


def measure(
    args: argparse.Namespace, setup: Setup, console: Console
) -> tuple[Results, dict[str, str]]:
    """All rounds; what failed is left out from then on."""
    results: Results = {}
    failures: dict[str, str] = {}
    contestants = [*args.contestants, *(one.split("=", 1)[0] for one in args.url)]
    order = random.Random(1)
    for turn in range(args.rounds):
        for name in order.sample(contestants, len(contestants)):
            if name in failures:
                continue
            console.print(f"round {turn + 1} of {args.rounds}: {name}", highlight=False)
            try:
                with running(name, args, setup) as (base, model):
                    one_turn(name, base, model, turn, loads(args), results)
            except (harness.ContestantFailed, http_load.BadAnswer, OSError, TimeoutError) as err:
                failures[name] = f"{type(err).__name__}: {err}"
    return results, failures


def one_turn(
    name: str, base: str, model: str, turn: int, cases: dict[str, Load], results: Results
) -> None:
    """Every load on one server that has just been started."""
    http_load.measure(base, model, Load(1, 1, WARM_TOKENS), f"warm-{turn}")
    for case, load in cases.items():
        measured = http_load.measure(base, model, load, f"{turn}-{case}")
        results.setdefault((name, case), []).append(measured)


def rows_of(results: Results, failures: dict[str, str]) -> list[report.Row]:
    rows: list[report.Row] = []
    for (name, case), rounds in sorted(results.items(), key=lambda item: _number(item[0][1])):
        if name not in failures:
            rows += http_rows.rows(name, case, rounds)
    return rows


def _number(case: str) -> int:
    return int(case.rpartition("-")[2])


def main() -> int:
    args, console = arguments(), Console()
    if not console.is_terminal:
        console.width = 120
    tag, before, machine = uuid.uuid4().hex, leftovers.shared_memory(), report.machine()
    with tempfile.TemporaryDirectory(prefix="llm-http-") as folder:
        llama = args.llama_python, args.llama_server
        setup = Setup(args.model.resolve(), args.threads, args.context, *llama, Path(folder), tag)
        results, failures = measure(args, setup, console)
    rows = rows_of(results, failures)
    http_rows.compare(rows)
    http_rows.show(console, rows)
    if args.json:
        report.write(args.json, machine, rows)
    if args.picture and rows:
        http_rows.draw(machine, rows, args.picture)
    left = leftovers.complaints(before, tag)
    for name, reason in failures.items():
        console.print(f"[red]failed:[/] {name}: {reason}", highlight=False)
    for line in left:
        console.print(f"[red]{line}[/]", highlight=False)
    return 1 if failures or left else 0


if __name__ == "__main__":
    sys.exit(main())
