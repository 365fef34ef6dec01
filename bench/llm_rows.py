# SPDX-License-Identifier: BUSL-1.1
"""From samples to rows of the results file, and to a table on the screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import llm_limits
import numpy as np
import report
from llm_peers.peer import parse
from rich.console import Console
from rich.table import Table

BASELINE = "llama.cpp"
UNITS = {"tok_s": "tok/s", "s": "s", "MiB": "MiB", "us": "µs"}


def throughput(contestant: str, case: str, rounds: Sequence[Sequence[int]]) -> report.Row:
    """Tokens per second; `p99` is what the slowest hundredth of the steps stays under."""
    number = parse(case)[1]
    found = report.quantiles([np.array(one, np.int64) for one in rounds])
    values = {name: round(number * 1e9 / ns, 2) for name, ns in found.items()}
    return make(contestant, case, "tok_s", sum(len(one) for one in rounds), values)


def plain(contestant: str, case: str, metric: str, values: Sequence[float]) -> report.Row:
    """Seconds, MiB or microseconds: quantiles of `values`."""
    found = np.quantile(values, list(report.QUANTILES.values()))
    named = {n: round(float(v), 4) for n, v in zip(report.QUANTILES, found, strict=True)}
    return make(contestant, case, metric, len(values), named)


def make(
    contestant: str, case: str, metric: str, count: int, values: Mapping[str, float]
) -> report.Row:
    head = {"contestant": contestant, "case": case, "metric": metric, "unit": UNITS[metric]}
    return {**head, "n": count, **values}


def compare(rows: Sequence[report.Row], *, against: Mapping[str, str] | None = None) -> None:
    """Give each row its ratio to the baseline's median of the same case, or of the case that
    `against` names for it."""
    base = {row["case"]: row["median"] for row in rows if row["contestant"] == BASELINE}
    for row in rows:
        value = base.get(row["case"]) or base.get((against or {}).get(row["case"], ""))
        if value:
            row["ratio"] = round(row["median"] / value, 3)


def bound(
    rows: Sequence[report.Row], machine: llm_limits.Machine | None, work: llm_limits.Work
) -> None:
    """Give each row of tokens per second the machine's limit, and the part reached of it."""
    for row in rows:
        if machine and row["metric"] == "tok_s":
            most, by = llm_limits.limit(machine, work, row["case"])
            part = round(row["median"] / most, 4)
            row.update(limit=round(most, 1), limited_by=by, of_limit=part)


def show(console: Console, rows: Sequence[report.Row], machine: llm_limits.Machine | None) -> None:
    """One line per row."""
    if machine:
        console.print(
            f"this machine: {machine.bytes_per_s / 1e9:.1f} GB/s read, "
            f"{machine.int8_ops_per_s / 1e12:.2f} TOP/s int8",
            highlight=False,
        )
    table = Table()
    for name in ("case", "contestant"):
        table.add_column(name, no_wrap=True)
    for name in ("n", "median", "p99", "unit", f"x {BASELINE}", "limit", "by", "% of it"):
        table.add_column(name, justify="left" if name in ("unit", "by") else "right")
    for row in rows:
        reached = f"{row['of_limit'] * 100:.0f}" if "of_limit" in row else ""
        table.add_row(
            *(row["case"], row["contestant"], str(row["n"])),
            *(digits(row["median"]), digits(row["p99"]), row["unit"]),
            f"{row['ratio']:.2f}" if "ratio" in row else "",
            *(digits(row["limit"]) if "limit" in row else "", row.get("limited_by", ""), reached),
        )
    console.print(table)
    for row in rows:
        if "added_median" in row:
            low, high = row["added_middle_half"]
            console.print(
                f"the client adds {row['added_median']:.1f} µs per token "
                f"(middle half of the turns: {low:.1f} to {high:.1f})",
                highlight=False,
            )


def digits(value: float) -> str:
    """Three digits, or all of a larger number."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
