# SPDX-License-Identifier: BUSL-1.1
"""What `axon` prints: JSON for machines, tables and bars for people.

Text from a package goes through `plain`: a description may not drive the terminal.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
import msgspec

from axon_client.progress import Progress, silent
from mlos_core.errors import MlosError

if TYPE_CHECKING:
    from rich.text import Text

    from axon_client.models import InstalledModel
    from axon_client.verify import Problem


def clean(text: str) -> str:
    """Text without control characters."""
    return "".join(c if c.isprintable() else " " for c in text)


def plain(text: str) -> Text:
    """Text for a table, without control characters and without markup."""
    from rich.text import Text

    return Text(clean(text))


def size(count: int) -> str:
    """A number of bytes, such as `12.3 MB`; empty if it is negative: unknown."""
    from rich.filesize import decimal

    return decimal(count) if count >= 0 else ""


def show_json(value: Any) -> None:
    """One JSON document on standard output."""
    try:
        data = msgspec.json.format(msgspec.json.encode(value), indent=2)
    except UnicodeEncodeError:  # the name of a file that is not UTF-8, which json escapes
        import json

        data = json.dumps(msgspec.to_builtins(value), indent=2).encode()
    sys.stdout.buffer.write(data + b"\n")
    sys.stdout.flush()


def show(*lines: str) -> None:
    """Lines of text."""
    for line in lines:
        click.echo(clean(line))


def warn(text: str) -> None:
    """One line on standard error: something is amiss, the command goes on."""
    click.echo(_styled("warning: ", fg="yellow", bold=True) + clean(text), err=True)


def show_error(error: MlosError) -> None:
    """One clear line, and what to do about it, on standard error."""
    click.echo(_styled("error: ", fg="red", bold=True) + clean(error.message), err=True)
    if error.hint:
        click.echo(_styled("hint: ", bold=True) + clean(error.hint), err=True)


def _styled(text: str, **style: Any) -> str:
    return text if os.environ.get("NO_COLOR") else click.style(text, **style)


def error_json(error: MlosError) -> dict[str, Any]:
    """An error as `--json` shows it."""
    return {"error": {"code": error.code, "message": error.message, "hint": error.hint}}


@contextmanager
def progress_bars(wanted: bool) -> Iterator[Progress]:
    """Progress bars on standard error, if that is a terminal and it takes over a second."""
    if not wanted or not sys.stderr.isatty():
        yield silent
        return
    from axon_client.bars import Bars  # needs what draws them, which takes a while to import

    with Bars() as bars:
        yield bars.progress


def show_table(
    titles: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()
) -> None:
    """Rows below titles; the columns named in `right` hold numbers."""
    table = [[clean(cell) for cell in row] for row in (titles, *rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    if sys.stdout.isatty() and sum(widths) + 2 * len(widths) > shutil.get_terminal_size().columns:
        _show_folded(table, right)
        return
    for number, row in enumerate(table):
        cells = zip(titles, row, widths, strict=True)
        fitted = [text.rjust(w) if name in right else text.ljust(w) for name, text, w in cells]
        line = "  ".join(fitted).rstrip()
        click.echo(line if number else _styled(line, bold=True))


def _show_folded(table: Sequence[Sequence[str]], right: Sequence[str]) -> None:
    """A table that is too wide for the terminal: what is long goes on in the next line."""
    from rich.console import Console
    from rich.table import Table

    plainly = os.environ.get("NO_COLOR")
    drawn = Table(box=None, header_style="" if plainly else "bold", pad_edge=False)
    for title in table[0]:
        drawn.add_column(title, overflow="fold", justify="right" if title in right else "left")
    for row in table[1:]:
        drawn.add_row(*map(plain, row))
    Console(highlight=False).print(drawn)


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
    rows = [summary(model) for model in models]
    show_table(("package", "format", "models", "size"), map(_row, rows), ("models", "size"))


def _row(about: dict[str, Any]) -> tuple[str, ...]:
    if "error" in about:
        return (about["package"], "damaged", "", "")
    return (about["package"], about["format"], str(len(about["models"])), size(about["size"]))


def show_problems(model: InstalledModel, problems: Sequence[Problem]) -> None:
    """The result of verifying one model."""
    if not problems:
        show(f"{model.spec}: all files are as they should be")
        return
    show(f"{model.spec}: {len(problems)} problems", *(f"  {problem}" for problem in problems))
