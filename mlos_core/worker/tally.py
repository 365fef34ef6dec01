# SPDX-License-Identifier: BUSL-1.1
"""Counters of a worker, written by its loop and read by its control thread."""

from __future__ import annotations

import logging
from collections.abc import Callable

from mlos_core.ipc.messages import WorkerStats
from mlos_core.smi import Statistics
from mlos_core.worker.port import Port

log = logging.getLogger(__name__)


class Tally:
    """What only the loop knows; the port counts the rest with every answer.

    One thread writes; a reader may see a sum that is one call old.
    """

    __slots__ = ("cancelled", "copied_bytes", "engine", "executions", "rows")

    def __init__(self) -> None:
        self.executions = 0
        self.rows = 0
        self.cancelled = 0
        self.copied_bytes = 0
        self.engine: Callable[[], Statistics] = dict

    def statistics(self, port: Port, channels: int) -> WorkerStats:
        """A snapshot of this and of what the port counted."""
        counted = port.counters()
        return WorkerStats(
            requests=counted["answered"],
            failures=counted["failures"],
            cancelled=self.cancelled + counted["cancelled"],
            executions=self.executions,
            rows=self.rows,
            queue_ns=counted["queue_ns"],
            input_ns=counted["input_ns"],
            infer_ns=counted["infer_ns"],
            output_ns=counted["output_ns"],
            copied_bytes=self.copied_bytes + counted["copied_bytes"],
            recovered=counted["recovered"],
            channels=channels,
            engine=self._engine_statistics(),
        )

    def _engine_statistics(self) -> Statistics:
        try:
            return self.engine()
        except Exception:
            log.exception("the engine's statistics raised")
            return {}
