# SPDX-License-Identifier: BUSL-1.1
"""Background tasks whose failures are seen."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from mlos_core.daemon.logs import Log

_log = Log("tasks")


class Tasks:
    """Keeps references to its tasks, logs what they raise, and cancels them at the end."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Run `work` beside the caller."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("task_failed", exc=error, task=task.get_name())

    def cancel(self) -> None:
        """Cancel all of them."""
        for task in list(self._tasks):
            task.cancel()

    async def stop(self) -> None:
        """Cancel all of them and wait until they are gone."""
        tasks = list(self._tasks)
        self.cancel()
        if tasks:
            await asyncio.wait(tasks)
