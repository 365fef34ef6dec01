# SPDX-License-Identifier: BUSL-1.1
"""Rows, table and picture of `llm_http.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plot
import report
from http_load import Measured
from rich.console import Console
from rich.table import Table

BASELINE = "llama.cpp"
_FIGURE: Any = {"squeeze": False, "sharex": "col", "layout": "constrained"}
TITLES = {
    "ttft": "time to the first token",
    "itl": "time between tokens",
    "tok_s": "tokens per second, all clients",
}


def rows(contestant: str, case: str, rounds: Sequence[Measured]) -> list[report.Row]:
    """Three rows of one contestant and case; each round counts alike."""
    head = {"contestant": contestant, "case": case}
    found = []
    for metric in ("ttft", "itl"):
        samples = [np.array(_times(one, metric), np.int64) for one in rounds]
        samples = [one for one in samples if one.size]
        if samples:
            values = {name: round(ns / 1e6, 3) for name, ns in report.quantiles(samples).items()}
            count = sum(one.size for one in samples)
            found.append({**head, "metric": metric, "unit": "ms", "n": count, **values})
    speeds = sorted((one.tokens / one.seconds for one in rounds), reverse=True)
    values = np.quantile(speeds, [1 - share for share in report.QUANTILES.values()])
    named = {n: round(float(v), 2) for n, v in zip(report.QUANTILES, values, strict=True)}
    found.append({**head, "metric": "tok_s", "unit": "tok/s", "n": len(speeds), **named})
    return found


def _times(one: Measured, metric: str) -> list[int]:
    return one.first if metric == "ttft" else one.between


def compare(rows: Sequence[report.Row]) -> None:
    """Give each row the ratio of its median to the baseline's."""
    base = {(r["case"], r["metric"]): r["median"] for r in rows if r["contestant"] == BASELINE}
    for row in rows:
        if value := base.get((row["case"], row["metric"])):
            row["ratio"] = round(row["median"] / value, 3)


def show(console: Console, rows: Sequence[report.Row]) -> None:
    """One line per row."""
    table = Table()
    for name in ("metric", "case", "contestant"):
        table.add_column(name, no_wrap=True)
    for name in ("n", "median", "p90", "p99", "unit", f"x {BASELINE}"):
        table.add_column(name, justify="right")
    for metric in TITLES:
        for row in rows:
            if row["metric"] == metric:
                ratio = f"{row['ratio']:.2f}" if "ratio" in row else ""
                numbers = (plot.short(row[name]) for name in ("median", "p90", "p99"))
                where = (metric, row["case"], row["contestant"], str(row["n"]))
                table.add_row(*where, *numbers, row["unit"], ratio)
    console.print(table)


def draw(machine: Mapping[str, Any], rows: Sequence[report.Row], path: Path) -> None:
    """A column of panels for each metric, a row for each number of clients."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "mlos", "svg.fonttype": "path"})
    from matplotlib import pyplot

    cases = list(dict.fromkeys(row["case"] for row in rows))
    figure, panels = pyplot.subplots(
        len(cases), len(TITLES), figsize=(11, 1 + len(cases)), **_FIGURE
    )
    for column, (metric, title) in enumerate(TITLES.items()):
        for line, case in enumerate(cases):
            members = [r for r in rows if (r["metric"], r["case"]) == (metric, case)]
            members.sort(key=lambda row: row["median"], reverse=metric == "tok_s")
            if metric == "tok_s":  # a dot alone: there is one sample per round
                members = [{**row, "p99": row["median"]} for row in members]
            plot.panel(panels[line, column], f"{case}: {title}", members)
            panels[line, column].xaxis.set_minor_formatter("")
        panels[-1, column].set_xlabel("tok/s" if metric == "tok_s" else "ms", fontsize=8)
    title = f"{machine['cpu']}, {machine['cores']} cores: dot at the median, line to p99"
    figure.suptitle(title, x=0.01, ha="left", fontsize=8, color="#52514e")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)
