# SPDX-License-Identifier: BUSL-1.1
"""Fetching the demo's models, with a bar that is gone once they are there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from mlos_core.errors import Unavailable

Report = Callable[[str, int, int], None]


def install(package: str, folder: Path) -> Path:
    """The main model of a package, in a store in `folder`.

    Raises:
        MlosError: it cannot be had.
    """
    try:
        import axon_client
    except ImportError as err:
        raise Unavailable(f"axon does not import: {err}", hint="reinstall mlos-core") from err
    with _bar() as report:
        return axon_client.install(package, home=folder / "axon", progress=report).model_file()


@contextmanager
def _bar() -> Iterator[Report | None]:
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description:>12}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", visible=False, total=None)

        def report(what: str, done: int, total: int) -> None:
            bars.update(task, visible=True, description=what, completed=done, total=total or None)

        yield report
