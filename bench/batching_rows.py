# SPDX-License-Identifier: BUSL-1.1
"""Rows and tables of `batching.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plot
import report
from batching_load import Outcome
from rich.console import Console
from rich.table import Table

BASELINE = "onnxruntime"
TITLES = {
    "rate": plot.Column("answers per second", "1/s", falling=True),
    "latency": plot.Column("time of a request", "ms"),
}


def rows(contestant: str, case: str, setting: str, rounds: Sequence[Outcome]) -> list[report.Row]:
    """Two rows of one contestant and case; each round counts alike."""
    head = {"contestant": contestant, "case": case}
    told = {
        "setting": setting,
        "same_bits": sum(one.same_bits for one in rounds),
        "compared": sum(one.compared for one in rounds),
        "worst": max(one.worst for one in rounds),
    }
    rates = [round(one.rows / one.seconds, 2) for one in rounds]
    told["rounds"] = rates
    samples = [np.array(one.latencies, np.int64) for one in rounds]
    times = {name: round(ns / 1e6, 3) for name, ns in report.quantiles(samples).items()}
    count = sum(one.size for one in samples)
    slow = np.quantile(rates, [1 - share for share in report.QUANTILES.values()])
    shares = {name: round(float(v), 2) for name, v in zip(report.QUANTILES, slow, strict=True)}
    return [
        {
            **head,
            "metric": "rate",
            "unit": "1/s",
            "n": len(rates),
            **shares,
            "rounds": rates,
            **told,
        },
        {**head, "metric": "latency", "unit": "ms", "n": count, **times},
    ]


def compare(rows: Sequence[report.Row]) -> None:
    """Give each row the ratio of its median to the baseline's."""
    base = {(r["case"], r["metric"]): r["median"] for r in rows if r["contestant"] == BASELINE}
    for row in rows:
        if value := base.get((row["case"], row["metric"])):
            row["ratio"] = round(row["median"] / value, 3)


def lines(rows: Sequence[report.Row]) -> list[list[str]]:
    """One line per case and contestant, the fastest first, as text."""
    found = []
    for case in dict.fromkeys(row["case"] for row in rows):
        rates = [r for r in rows if (r["case"], r["metric"]) == (case, "rate")]
        for rate in sorted(rates, key=lambda row: -row["median"]):
            name = rate["contestant"]
            time = next(r for r in rows if key(r) == (name, case, "latency"))
            found.append(
                [
                    case,
                    name,
                    f"{rate['median']:.0f}",
                    f"{rate['ratio']:.2f}" if "ratio" in rate else "",
                    plot.short(time["median"]),
                    plot.short(time["p99"]),
                    told_answers(rate),
                    rate["setting"],
                ]
            )
    return found


def key(row: report.Row) -> tuple[str, str, str]:
    return row["contestant"], row["case"], row["metric"]


def told_answers(row: report.Row) -> str:
    """Whether the answers were the unbatched ones."""
    if row["same_bits"] == row["compared"]:
        return "same bits"
    return f"within {row['worst']:.0e}"


HEADS = ("model", "contestant", "answers/s", "ratio", "median ms", "p99 ms", "answers", "setting")


def show(console: Console, rows: Sequence[report.Row]) -> None:
    table = Table()
    for name in HEADS:
        table.add_column(name, justify="right" if name in HEADS[2:6] else "left")
    for line in lines(rows):
        table.add_row(*line)
    console.print(table)


def markdown(rows: Sequence[report.Row]) -> str:
    """The same table for a README."""
    marks = ["---:" if name in HEADS[2:6] else "---" for name in HEADS]
    table: list[Any] = [HEADS, marks, *lines(rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in table)
