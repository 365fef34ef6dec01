# SPDX-License-Identifier: BUSL-1.1
"""From raw samples to rows, to the JSON file and to a table on the screen."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

Row = dict[str, Any]
Samples = npt.NDArray[np.int64]
QUANTILES = {"median": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}
PACKAGES = ("mlos-core", "numpy", "iceoryx2", "pyzmq", "grpcio", "uvicorn", "starlette")


def row(contestant: str, case: str, rounds: Sequence[Samples]) -> Row:
    """One line of the results: quantiles in µs of samples in ns, and their number."""
    return {
        "contestant": contestant,
        "case": case,
        "metric": "rtt",
        "unit": "us",
        "n": sum(samples.size for samples in rounds),
        **{name: round(value / 1000, 3) for name, value in quantiles(rounds).items()},
    }


def quantiles(rounds: Sequence[Samples]) -> dict[str, int]:
    """Samples at the quantiles, each round counting alike.

    A fast round takes more samples in its time than a slow one; without weights the fast
    ones would decide.
    """
    values = np.concatenate(rounds)
    weights = np.concatenate([np.full(samples.size, 1 / samples.size) for samples in rounds])
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / len(rounds)
    places = np.searchsorted(reached, list(QUANTILES.values()))
    found = values[order][np.minimum(places, values.size - 1)]
    return dict(zip(QUANTILES, found.tolist(), strict=True))


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "hypervisor": "hypervisor" in Path("/proc/cpuinfo").read_text(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "libc": " ".join(platform.libc_ver()),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := version_of(name))},
        "load_1min": os.getloadavg()[0],
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def write(path: Path, machine: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """The results file: machine and rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


def cases_of(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """The rows of each case, fastest first, the cases as they come."""
    cases: dict[str, list[Row]] = {}
    for one in rows:
        cases.setdefault(one["case"], []).append(one)
    return {name: sorted(rows, key=lambda one: one["median"]) for name, rows in cases.items()}


def ratio(value: float, base: Row | None, key: str) -> str:
    return f"{value / base[key]:.2f}" if base else "-"


class Detail(NamedTuple):
    """What the table says beyond the row: the mean of all rounds, and the lowest and the
    highest median of a round, in µs."""

    mean: str
    medians: str


def detail(rounds: Sequence[Samples]) -> Detail:
    medians = [float(np.median(samples)) / 1000 for samples in rounds]
    mean = float(np.mean([samples.mean() for samples in rounds])) / 1000
    return Detail(f"{mean:.2f}", f"{min(medians):.1f}-{max(medians):.1f}")


def print_table(
    console: Console,
    rows: Sequence[Row],
    baseline: str,
    details: Mapping[tuple[str, str], Detail],
) -> None:
    """One table per case, with ratios to `baseline`."""
    for case, members in cases_of(rows).items():
        base = next((one for one in members if one["contestant"] == baseline), None)
        title = f"{case}: round trip in µs, and how many times {baseline}'s"
        table = Table(title=title, title_justify="left")
        table.add_column("contestant", no_wrap=True)
        for name in ("n", "median", "rounds", "mean", "p90", "p99", "p999"):
            table.add_column(name, justify="right")
        for name in ("x median", "x p999"):
            table.add_column(name, justify="right")
        for one in members:
            more = details[one["contestant"], case]
            table.add_row(
                one["contestant"],
                str(one["n"]),
                f"{one['median']:.2f}",
                more.medians,
                more.mean,
                *(f"{one[key]:.2f}" for key in ("p90", "p99", "p999")),
                ratio(one["median"], base, "median"),
                ratio(one["p999"], base, "p999"),
            )
        console.print(table)
