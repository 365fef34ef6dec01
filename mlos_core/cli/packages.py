# SPDX-License-Identifier: BUSL-1.1
"""Packages of models: axon finds or fetches them, with a bar that is gone once they are there."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from mlos_core.errors import Unavailable

Report = Callable[[str, int, int], None]
_SPEC: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][^\s]*")


def is_package(text: str) -> bool:
    """Whether a word names a package, `namespace/name[@version]`, and no file or folder."""
    return bool(_SPEC.fullmatch(text)) and not Path(text).exists()


def of_package(text: str, file: str | None, *, quiet: bool) -> dict[str, Any]:
    """What to register for a package; it is installed first if it is not there.

    Args:
        file: which of the package's models; None for the main one.
        quiet: show no bar.

    Raises:
        MlosError: it cannot be had, or has no such model.
    """
    try:
        from axon_client import obtain, register
    except ImportError as err:
        raise Unavailable(f"axon does not import: {err}", hint="reinstall mlos-core") from err
    with bar(wanted=not quiet) as report:
        model = obtain.obtain(text, install=True, progress=report)
    return register.parameters(model, file=file)


def ignore(what: str, done: int, total: int) -> None:
    """A report that nobody wants."""


@contextmanager
def bar(*, wanted: bool = True) -> Iterator[Report]:
    """A bar on the standard error, if that is a terminal."""
    if not wanted or not sys.stderr.isatty():
        yield ignore
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.description:>12}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", visible=False, total=None)

        def report(what: str, done: int, total: int) -> None:
            bars.update(task, visible=True, description=what, completed=done, total=total or None)

        yield report
