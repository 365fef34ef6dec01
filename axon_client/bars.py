# SPDX-License-Identifier: BUSL-1.1
"""Progress bars of several tasks at once, with speed and remaining time.

Nothing is drawn of what is over within a second. Downloads report from several threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

PATIENCE_S: Final = 1.0
MOST_DONE: Final = 6
"""Finished tasks that stay in sight; of a hundred files the others are in the way."""
_LABELS: Final = {
    "download": "downloading",
    "upload": "uploading",
    "unpack": "unpacking",
    "copy": "copying",
    "hash": "hashing",
    "join": "joining",
    "verify": "verifying",
    "wait": "waiting for another axon",
}


def label(task: str) -> str:
    """What is shown for a task: `download model.onnx` is "downloading model.onnx"."""
    verb, _, rest = task.partition(" ")
    text = f"{_LABELS.get(verb, verb)} {rest}".rstrip()
    return "".join(c if c.isprintable() else " " for c in text)


class Bars:
    """Draws what `progress` is told, from the first report after a second on."""

    def __init__(
        self, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bars = Progress(
            TextColumn("{task.description}", justify="right", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True),
            console=console or Console(stderr=True),
            transient=True,
        )
        self._clock = clock
        self._begin = clock()
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}
        self._done: list[str] = []
        self._drawn = False

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            if self._drawn:
                self._bars.stop()

    def progress(self, task: str, done: int, total: int) -> None:
        """A `Progress`."""
        with self._lock:
            if not self._drawn:
                if self._clock() - self._begin < PATIENCE_S or (total and done >= total):
                    return
                self._bars.start()
                self._drawn = True
            self._update(task, done, total)

    def _update(self, task: str, done: int, total: int) -> None:
        if task not in self._tasks:
            name = label(task)[:60]
            self._tasks[task] = self._bars.add_task(name, total=total or None)
        self._bars.update(self._tasks[task], completed=done, total=total or None)
        if total and done >= total and task not in self._done:
            self._done.append(task)
        elif task in self._done and done < total:
            self._done.remove(task)  # the same task again, of another package
        while len(self._done) > MOST_DONE:
            self._bars.remove_task(self._tasks.pop(self._done.pop(0)))
