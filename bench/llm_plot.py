# SPDX-License-Identifier: BUSL-1.1
"""Draws the results of `llm.py`: `llm_plot.py RESULTS.json PICTURE.svg` (or .png), or
`... TABLE.md`.

The picture has one panel per case. Tokens per second: a dot at the median, a line to what the
slowest hundredth of the steps stays under, a tick at the machine's limit. Seconds and MiB: a
dot at the median, a line to p99.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import report
from plot import colour, short

NAMES = {"tok_s": "tok/s, more is better", "s": "s", "MiB": "MiB at most", "us": "µs per token"}


def panel(axes: Any, case: str, rows: Sequence[report.Row]) -> None:
    rows = list(reversed(rows))
    for place, row in enumerate(rows):
        paint = colour(row["contestant"])
        axes.plot([row["median"], row["p99"]], [place, place], color=paint, lw=2)
        axes.plot([row["median"]], [place], "o", color=paint, ms=7)
        if "limit" in row:
            axes.plot([row["limit"]], [place], "|", color="#52514e", ms=11)
        ratio = f" ({row['ratio']:.2f} x)" if row.get("ratio", 1) != 1 else ""
        axes.annotate(
            short(row["median"]) + ratio,
            (max(row["median"], row["p99"]), place),
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    most = max(max(row["median"], row["p99"], row.get("limit", 0)) for row in rows)
    axes.set_xlim(0, most * 1.25)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_yticks(range(len(rows)), [row["contestant"] for row in rows], fontsize=8)
    axes.set_title(f"{case}: {NAMES[rows[0]['metric']]}", loc="left", fontsize=10)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="x", lw=0.5, color="#e1e0d9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def cases_of(data: dict[str, Any]) -> dict[str, list[report.Row]]:
    """The rows of each case, as they come."""
    cases: dict[str, list[report.Row]] = {}
    for row in data["rows"]:
        cases.setdefault(row["case"], []).append(row)
    return {name: sorted(rows, key=lambda row: row["contestant"]) for name, rows in cases.items()}


def draw(data: dict[str, Any], path: Path) -> None:
    """The picture, the same bytes for the same data."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "mlos", "svg.fonttype": "path"})
    from matplotlib import pyplot

    cases = cases_of(data)
    heights = [len(rows) * 0.22 + 0.5 for rows in cases.values()]
    size = (8, sum(heights) + 0.4)
    figure, panels = pyplot.subplots(
        len(cases), 1, figsize=size, squeeze=False, height_ratios=heights, layout="constrained"
    )
    for axes, (case, rows) in zip(panels[:, 0], cases.items(), strict=True):
        panel(axes, case, reversed_order(rows))
    where = data["machine"]
    title = f"{where['model']}, {where['threads']} threads of {where['cpu']}; | the machine's limit"
    figure.suptitle(title, x=0.01, ha="left", fontsize=8, color="#52514e")
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=150)


def reversed_order(rows: Sequence[report.Row]) -> list[report.Row]:
    """Ours on top."""
    return sorted(rows, key=lambda row: not row["contestant"].startswith("synapse"))


def markdown(data: dict[str, Any]) -> str:
    """One line per case: medians, the ratio, and the part of the machine's limit reached."""
    names = list(dict.fromkeys(row["contestant"] for row in data["rows"]))
    lines = [
        "| | unit | " + " | ".join(names) + " | ratio | of the limit |",
        "|---|---|" + "---:|" * (len(names) + 2),
    ]
    for case, rows in cases_of(data).items():
        known = {row["contestant"]: row for row in rows}
        cells = [short(known[name]["median"]) if name in known else "" for name in names]
        ours = known.get("synapse", {})
        ratio = f"{ours['ratio']:.2f}" if "ratio" in ours else ""
        part = f"{ours['of_limit']:.0%} ({ours['limited_by']})" if "of_limit" in ours else ""
        lines.append(f"| {case} | {rows[0]['unit']} | {' | '.join(cells)} | {ratio} | {part} |")
    return "\n".join(lines) + "\n"


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
