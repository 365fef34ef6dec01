# SPDX-License-Identifier: BUSL-1.1
"""Rows and tables of `sharing.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import plot
import report
from rich.console import Console
from rich.table import Table

ALONE, SHARED = "alone", "shared"
NAMES = {ALONE: "onnxruntime in each", SHARED: "mlosd"}
TITLES = {
    "memory": plot.Column("memory of all processes", "MiB of PSS"),
    "rate": plot.Column("answers per second", "1/s", falling=True),
}


@dataclass(frozen=True)
class Outcome:
    """One measurement: times in ns, answers per second, and MiB by role."""

    times: npt.NDArray[np.int64]
    rate: float
    memory: dict[str, float]
    differ: int
    worst: float

    def describe(self) -> str:
        return f"{plot.short(self.rate)}/s, {sum(self.memory.values()):.0f} MiB"


def tuning(contestant: str, case: str, setting: str, outcome: Outcome) -> report.Row:
    """What a setting gave that was tried."""
    return {
        "contestant": NAMES[contestant],
        "case": case,
        "metric": "tuning",
        "unit": "1/s",
        "median": round(outcome.rate, 2),
        "memory": round(sum(outcome.memory.values()), 1),
        "setting": setting,
    }


def rows(contestant: str, case: str, setting: str, rounds: Sequence[Outcome]) -> list[report.Row]:
    """Memory, rate and latency of one contestant and case; each round counts alike."""
    head = {"contestant": NAMES[contestant], "case": case}
    totals = [round(sum(one.memory.values()), 1) for one in rounds]
    rates = [round(one.rate, 2) for one in rounds]
    parts = {
        name: round(float(np.median([one.memory[name] for one in rounds])), 1)
        for name in rounds[0].memory
    }
    times = {
        name: round(ns / 1e6, 3)
        for name, ns in report.quantiles([one.times for one in rounds]).items()
    }
    count = sum(one.times.size for one in rounds)
    told = {
        "setting": setting,
        "differ": sum(one.differ for one in rounds),
        "worst": max(one.worst for one in rounds),
    }
    return [
        {**head, "metric": "memory", "unit": "MiB", **spread(totals), "parts": parts},
        {**head, "metric": "rate", "unit": "1/s", **spread(rates), **told},
        {
            **head,
            "metric": "latency",
            "unit": "ms",
            "n": count,
            **times,
        },
    ]


def spread(values: Sequence[float]) -> dict[str, Any]:
    """The median of the rounds; `p99` is the median again, a dot in the picture."""
    middle = round(float(np.median(values)), 2)
    return {"n": len(values), "median": middle, "p99": middle, "rounds": list(values)}


def compare(rows: Sequence[report.Row]) -> None:
    """Give each row the ratio of its median to that of the processes that load the model."""
    base = {(r["case"], r["metric"]): r["median"] for r in rows if r["contestant"] == NAMES[ALONE]}
    for row in rows:
        value = base.get((row["case"], row["metric"]))
        if value and row["metric"] != "tuning":
            row["ratio"] = round(row["median"] / value, 3)


HEADS = (
    *("model", "", "memory MiB", "ratio", "answers/s", "ratio", "median ms", "p99 ms"),
    *("answers", "setting"),
)
_RIGHT = range(2, 8)


def lines(rows: Sequence[report.Row]) -> list[list[str]]:
    """One line per case and contestant, as text."""
    by = {(r["case"], r["contestant"], r["metric"]): r for r in rows if r["metric"] != "tuning"}
    found = []
    for case, name in dict.fromkeys(where[:2] for where in by):
        memory, rate, time = (by[case, name, metric] for metric in ("memory", "rate", "latency"))
        cells = [f"{memory['median']:.0f}", told_ratio(memory)]
        cells += [plot.short(rate["median"]), told_ratio(rate)]
        cells += [plot.short(time["median"]), plot.short(time["p99"])]
        same = f"within {rate['worst']:.0e}" if rate["differ"] else "same bits"
        found.append([case, name, *cells, same, rate["setting"]])
    return found


def told_ratio(row: report.Row) -> str:
    return f"{row['ratio']:.2f}" if "ratio" in row else ""


def show(console: Console, rows: Sequence[report.Row]) -> None:
    table = Table()
    for place, name in enumerate(HEADS):
        table.add_column(name, justify="right" if place in _RIGHT else "left")
    for line in lines(rows):
        table.add_row(*line)
    console.print(table)


def markdown(rows: Sequence[report.Row]) -> str:
    """The same table for a README."""
    marks = ["---:" if place in _RIGHT else "---" for place in range(len(HEADS))]
    table: list[Any] = [HEADS, marks, *lines(rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in table)
