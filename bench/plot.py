# SPDX-License-Identifier: BUSL-1.1
"""Draws a results file: `plot.py RESULTS.json PICTURE.svg` (or .png), or `... TABLE.md`.

The picture has one panel per case, all on one logarithmic axis: a dot at the median, a line
from there to p99.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import report

OURS, FLOOR, OTHERS = "#2a78d6", "#0b0b0b", "#a3a29b"


def colour(contestant: str) -> str:
    if contestant.startswith(("mlos", "synapse")):
        return OURS
    return FLOOR if contestant.startswith("bare-ring") else OTHERS


def short(value_us: float) -> str:
    """Three digits: `4.04`, `61.8`, `10300`."""
    return f"{value_us:.3g}" if value_us < 1000 else f"{value_us:.0f}"


def panel(axes: Any, case: str, rows: Sequence[report.Row]) -> None:
    rows = list(reversed(rows))  # the fastest is drawn last, at the top
    for place, row in enumerate(rows):
        paint = colour(row["contestant"])
        axes.plot([row["median"], row["p99"]], [place, place], color=paint, lw=2)
        axes.plot([row["median"]], [place], "o", color=paint, ms=7)
        axes.annotate(
            short(row["median"]),
            (row["p99"], place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_xscale("log")
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_yticks(range(len(rows)), [row["contestant"] for row in rows], fontsize=8)
    axes.set_title(case, loc="left", fontsize=10)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(axis="x", lw=0.5, color="#e1e0d9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def draw(data: dict[str, Any], path: Path) -> None:
    """The picture, the same bytes for the same data."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "mlos", "svg.fonttype": "path"})
    from matplotlib import pyplot

    cases = report.cases_of(data["rows"])
    heights = [len(rows) * 0.22 + 0.45 for rows in cases.values()]
    figure, panels = pyplot.subplots(
        len(cases),
        1,
        figsize=(8, sum(heights) + 0.4),
        squeeze=False,
        sharex=True,
        height_ratios=heights,
        layout="constrained",
    )
    for axes, (case, rows) in zip(panels[:, 0], cases.items(), strict=True):
        panel(axes, case, rows)
    panels[0, 0].set_xlim(right=max(row["p99"] for row in data["rows"]) * 3)
    panels[-1, 0].set_xlabel("round trip in µs: dot at the median, line to p99", fontsize=8)
    where = data["machine"]
    title = f"{where['cpu']}, {where['cores']} cores, Python {where['python']}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=8, color="#52514e")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)


class Column(NamedTuple):
    """A metric in `grid`: what it is, its unit, and whether more of it is better."""

    title: str
    unit: str
    falling: bool = False


def grid(
    machine: Mapping[str, Any],
    rows: Sequence[report.Row],
    path: Path,
    columns: Mapping[str, Column],
) -> None:
    """A column of panels for each metric, a line of them for each case; axes begin at 0."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "mlos", "svg.fonttype": "path"})
    from matplotlib import pyplot

    cases = list(dict.fromkeys(row["case"] for row in rows))
    most = max(len({r["contestant"] for r in rows if r["case"] == case}) for case in cases)
    size = (4.5 * len(columns), 0.6 + (0.6 + 0.22 * most) * len(cases))
    figure, panels = pyplot.subplots(
        len(cases), len(columns), figsize=size, squeeze=False, layout="constrained"
    )
    for place, (metric, column) in enumerate(columns.items()):
        for line, case in enumerate(cases):
            members = [r for r in rows if (r["metric"], r["case"]) == (metric, case)]
            members.sort(key=lambda row: row["median"], reverse=column.falling)
            panel(panels[line, place], f"{case}: {column.title}", members)
            panels[line, place].set_xscale("linear")
            panels[line, place].xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            panels[line, place].set_xlim(0, 1.15 * max(row["p99"] for row in members))
        panels[-1, place].set_xlabel(column.unit, fontsize=8)
    title = f"{machine['cpu']}, {machine['cores']} cores: dot at the median, line to p99"
    figure.suptitle(title, x=0.01, ha="left", fontsize=8, color="#52514e")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)


def markdown(data: dict[str, Any]) -> str:
    """Medians (and p99) in µs, one line per contestant, one column per case."""
    cases = report.cases_of(data["rows"])
    order = list(dict.fromkeys(row["contestant"] for rows in cases.values() for row in rows))
    lines = ["| | " + " | ".join(cases) + " |", "|---|" + "---:|" * len(cases)]
    for contestant in order:
        cells = [cell(rows, contestant) for rows in cases.values()]
        lines.append(f"| {contestant} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def cell(rows: Sequence[report.Row], contestant: str) -> str:
    row = next((row for row in rows if row["contestant"] == contestant), None)
    return f"{short(row['median'])} ({short(row['p99'])})" if row else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("picture", type=Path, help="ends in .svg, .png or .md")
    args = parser.parse_args()
    data = json.loads(args.results.read_text())
    if args.picture.suffix == ".md":
        args.picture.write_text(markdown(data))
    else:
        draw(data, args.picture)


if __name__ == "__main__":
    main()
