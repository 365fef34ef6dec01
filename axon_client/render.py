# SPDX-License-Identifier: BUSL-1.1
"""What `axon` prints: JSON for machines, tables and bars for people.

Text from a package goes through `plain`: a description may not drive the terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from axon_client.introspect import read_onnx
from axon_client.manifest import IOSpec, as_dict
from axon_client.models import InstalledModel
from axon_client.progress import Progress, silent
from axon_client.verify import Problem
from mlos_core.errors import MlosError

_LABELS = {
    "download": "downloading",
    "unpack": "unpacking",
    "copy": "copying",
    "hash": "hashing",
    "verify": "verifying",
}


def plain(text: str) -> Text:
    """Text without control characters and without markup."""
    return Text("".join(c if c.isprintable() else " " for c in text))


def show_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")
    sys.stdout.flush()


def show(*lines: str) -> None:
    """Lines of text."""
    console = Console(soft_wrap=True, highlight=False)
    for line in lines:
        console.print(plain(line))


def show_error(error: MlosError) -> None:
    """One clear line, and what to do about it, on standard error."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(Text.assemble(("error: ", "bold red"), plain(error.message)))
    if error.hint:
        console.print(Text.assemble(("hint: ", "bold"), plain(error.hint)))


def error_json(error: MlosError) -> dict[str, Any]:
    """An error as `--json` shows it."""
    return {"error": {"code": error.code, "message": error.message, "hint": error.hint}}


@contextmanager
def progress_bars(wanted: bool) -> Iterator[Progress]:
    """Progress bars on standard error, if that is a terminal."""
    if not wanted or not sys.stderr.isatty():
        yield silent
        return
    columns = (TextColumn("{task.description:>12}"), BarColumn(), DownloadColumn())
    with Bars(*columns, TransferSpeedColumn(), console=Console(stderr=True)) as bars:
        tasks: dict[str, Any] = {}

        def progress(task: str, done: int, total: int) -> None:
            if task not in tasks:
                tasks[task] = bars.add_task(_LABELS.get(task, task), total=total or None)
            bars.update(tasks[task], completed=done, total=total or None)

        yield progress


def summary(model: InstalledModel) -> dict[str, Any]:
    """One model in a list. A damaged manifest is shown as its error."""
    about: dict[str, Any] = {
        "package": str(model.spec),
        "namespace": model.spec.namespace,
        "name": model.spec.name,
        "version": model.spec.version,
        "path": str(model.path),
    }
    try:
        format = model.manifest.spec.format.execution_format
        models = [file.path for file in model.models]
        return about | {"format": format, "size": model.size, "models": models}
    except MlosError as error:
        return about | error_json(error)


def show_list(models: Sequence[InstalledModel]) -> None:
    """A table of installed models."""
    if not models:
        show("no models are installed; try: axon install pypi/magika")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("package", "format", "models", "size"):
        table.add_column(title, overflow="fold", justify="right" if title == "size" else "left")
    for model in models:
        row = summary(model)
        if "error" in row:
            table.add_row(plain(row["package"]), "damaged", "", "")
        else:
            count = str(len(row["models"]))
            table.add_row(plain(row["package"]), plain(row["format"]), count, decimal(row["size"]))
    Console(highlight=False).print(table)


def details(model: InstalledModel) -> dict[str, Any]:
    """Everything known of one model."""
    return {
        "package": str(model.spec),
        "path": str(model.path),
        "manifest": model.manifest.as_dict(),
        "models": [_model_details(model, file.path) for file in model.models],
    }


def _model_details(model: InstalledModel, path: str) -> dict[str, Any]:
    file = model.choose(path)
    about: dict[str, Any] = {"path": file.path, "format": file.format, "type": file.type}
    try:
        io = model.io(path)
        if file.format == "onnx":
            header = read_onnx(model.path / file.path)
            about |= {"opsets": header.opsets, "producer": header.producer}
    except (MlosError, OSError) as error:
        return about | {"error": str(error)}
    return about | {
        "inputs": [as_dict(spec) for spec in io.inputs],
        "outputs": [as_dict(spec) for spec in io.outputs],
    }


def show_details(model: InstalledModel) -> None:
    """A page about one model."""
    about, format = model.manifest.metadata, model.manifest.spec.format
    facts = {
        "package": str(model.spec),
        "description": about.description,
        "license": about.license,
        "homepage": about.homepage,
        "authors": ", ".join(author.name for author in about.authors),
        "tags": ", ".join(about.tags),
        "source": model.manifest.distribution.package.url,
        "path": str(model.path),
        "size": f"{decimal(model.size)} in {len(format.files)} files",
    }
    show(*(f"{label:12} {value}" for label, value in facts.items() if value))
    for file in model.models:
        main = " (main)" if file.type == "main" else ""
        show("", f"{file.path}  {file.format}{main}", *_io_lines(model, file.path))


def _io_lines(model: InstalledModel, path: str) -> Iterator[str]:
    try:
        io = model.io(path)
    except (MlosError, OSError) as error:
        yield f"  {error}"
        return
    for side, specs in (("input", io.inputs), ("output", io.outputs)):
        for spec in specs:
            yield f"  {side:7} {spec.name}: {tensor(spec)}"


def tensor(spec: IOSpec) -> str:
    """`float32[?, 3, 224, 224]`."""
    if spec.shape is None:
        return f"{spec.dtype}[...]"
    return f"{spec.dtype}[{', '.join('?' if d < 0 else str(d) for d in spec.shape)}]"


def show_problems(model: InstalledModel, problems: Sequence[Problem]) -> None:
    """The result of verifying one model."""
    if not problems:
        show(f"{model.spec}: all files are as they should be")
        return
    show(f"{model.spec}: {len(problems)} problems", *(f"  {problem}" for problem in problems))
