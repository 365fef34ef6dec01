# SPDX-License-Identifier: BUSL-1.1
"""How exact Synapse and llama.cpp are on one GGUF file, judged by `transformers` in float32.

Greedy answers to varied prompts: how many agree with the judge's to their end, and for how
many tokens. The next-token distributions, over a text and over the judge's answers: KL
divergence, and perplexity. Each contestant runs in a process of its own, one after the other,
and all get the same token ids. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import report
from accuracy.prompts import PROMPTS
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
PEERS = HERE / "accuracy"
TEXT = HERE / "data" / "alice.txt"
JUDGE = "transformers-f32"
PATIENCE_S = 3600
PYTHONS = {"judge": "MLOS_BENCH_JUDGE_PYTHON", "llama": "MLOS_BENCH_LLAMA_PYTHON"}


class Contestant(NamedTuple):
    """A script of `accuracy/`, which Python runs it, its option, and on which file."""

    script: str
    python: str
    option: str = ""
    f32: bool = False


CONTESTANTS = {
    "synapse": Contestant("synapse_peer.py", "own", "mixed"),
    "synapse-int8": Contestant("synapse_peer.py", "own", "int8"),
    "synapse-int16": Contestant("synapse_peer.py", "own", "int16"),
    "llama.cpp": Contestant("llama_cpp_peer.py", "llama"),
    "llama.cpp-f32": Contestant("llama_cpp_peer.py", "llama", f32=True),
}
METRICS = {
    "agreed": "prompts",
    "shared": "tokens",
    "kl_chat": "nat",
    "kl_text": "nat",
    "perplexity": "",
    "perplexity_off": "%",
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("model", type=Path, help="a GGUF file")
    add("--json", type=Path, metavar="FILE", help="add machine and rows here")
    add("--contestants", type=names, default=list(CONTESTANTS), metavar="A,B")
    add("--threads", type=int, default=2)
    add("--quick", action="store_true", help="few prompts, short: does everything run?")
    add("--text", type=Path, default=TEXT)
    add("--tokens", type=int, default=5000, help="of the text (5000)")
    add("--window", type=int, default=1000, help="tokens that are read as one text (1000)")
    add("--stride", type=int, default=4, help="each so many positions of the text for KL (4)")
    add("--new-tokens", type=int, default=64)
    add("--folder", type=Path, help="keep all files here; what is there is used")
    for who, variable in PYTHONS.items():
        add(f"--{who}-python", default=os.environ.get(variable, sys.executable), metavar="PYTHON")
    args = parser.parse_args()
    for name in args.contestants:
        if name not in CONTESTANTS:
            parser.error(f"no contestant {name!r}; there are {', '.join(CONTESTANTS)}")
    if args.quick:
        args.tokens, args.window, args.new_tokens = 200, 100, 8
    return args


def names(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def run(args: argparse.Namespace, folder: Path, script: str, python: str, **changes: Any) -> None:
    """One process to its end; what it says goes to this one's standard error."""
    order = {
        "name": "",
        "model": str(args.model.resolve()),
        "folder": str(folder),
        "threads": args.threads,
        "new_tokens": args.new_tokens,
        "stride": args.stride,
        **changes,
    }
    own = {"own": sys.executable, "judge": args.judge_python, "llama": args.llama_python}
    environ = os.environ | {"PYTHONPATH": str(PEERS), "TOKENIZERS_PARALLELISM": "false"}
    subprocess.run(
        [own[python], "-P", str(PEERS / script), json.dumps(order)],
        env=environ,
        check=True,
        timeout=PATIENCE_S,
    )


def make_f32(args: argparse.Namespace, folder: Path) -> Path:
    """The file's twin in float32."""
    twin = folder / "f32.gguf"
    if not twin.exists():
        command = [args.judge_python, "-P", str(PEERS / "to_f32.py"), str(args.model), str(twin)]
        subprocess.run(command, check=True, timeout=PATIENCE_S)
    return twin


def compete(args: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    """Everybody's results, by name."""
    prompts = PROMPTS[:3] if args.quick else PROMPTS
    text = args.text.read_text()
    given = {"prompts": prompts, "text": text, "tokens": args.tokens, "window": args.window}
    (folder / "texts.json").write_text(json.dumps(given))
    if not (folder / "answers.json").exists():
        console.print("the judge answers")
        run(args, folder, "llama_cpp_peer.py", "llama", option="tokens")
        run(args, folder, "judge.py", "judge", name=JUDGE)
    results = {JUDGE: json.loads((folder / f"{JUDGE}.json").read_text())}
    for name in args.contestants:
        if not (folder / f"{name}.json").exists():
            console.print(f"{name} answers")
            each = CONTESTANTS[name]
            model = str(make_f32(args, folder) if each.f32 else args.model.resolve())
            run(args, folder, each.script, each.python, name=name, model=model, option=each.option)
        results[name] = json.loads((folder / f"{name}.json").read_text())
        off = results[name]["perplexity"] / results[JUDGE]["perplexity"] - 1
        results[name]["perplexity_off"] = off * 100
    return results


def rows(model: Path, results: dict[str, Any]) -> list[report.Row]:
    """A row per contestant and metric; the case is the file."""
    made = []
    for name, result in results.items():
        for metric, unit in METRICS.items():
            if metric in result:
                made.append(
                    {
                        "contestant": name,
                        "case": model.name,
                        "metric": metric,
                        "unit": unit,
                        **counts(metric, result),
                        "median": round(result[metric], 7),
                    }
                )
    return made


def counts(metric: str, result: dict[str, Any]) -> dict[str, Any]:
    """Of how many."""
    if metric.startswith("kl_"):
        return {"n": result["kl_positions"][metric.removeprefix("kl_")]}
    if metric in ("agreed", "shared"):
        return {"n": result["prompts" if metric == "agreed" else "answered"]}
    return {}


def print_table(console: Console, model: Path, results: dict[str, Any]) -> None:
    table = Table(title=model.name, title_justify="left")
    table.add_column("contestant", no_wrap=True)
    for metric in METRICS:
        table.add_column(metric, justify="right")
    for name, result in results.items():
        cells = (f"{result[m]:.6g}" if m in result else "-" for m in METRICS)
        table.add_row(name, *cells)
    console.print(table)


def keep(path: Path, model: Path, new: Sequence[report.Row]) -> None:
    """The results file: this run's rows in the place of earlier ones of the same file."""
    old = json.loads(path.read_text())["rows"] if path.exists() else []
    kept = [row for row in old if row["case"] != model.name]
    report.write(path, report.machine(), [*kept, *new])


def main() -> int:
    args, console = arguments(), Console()
    if not console.is_terminal:
        console.width = 120
    with tempfile.TemporaryDirectory(prefix="llm-accuracy-") as name:
        folder = (args.folder or Path(name)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        results = compete(args, folder, console)
    print_table(console, args.model, results)
    if args.json:
        keep(args.json, args.model, rows(args.model, results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
