# SPDX-License-Identifier: BUSL-1.1
"""Counters of a worker, written by its loop and read by its control thread."""

from __future__ import annotations

from mlos_core.ipc.messages import WorkerStats
from mlos_core.worker.port import Port


class Tally:
    """Sums since the worker's start. One thread writes; a reader may see a sum a call old."""

    __slots__ = (
        "copied_bytes",
        "executions",
        "failures",
        "infer_ns",
        "input_ns",
        "output_ns",
        "queue_ns",
        "requests",
        "rows",
    )

    def __init__(self) -> None:
        self.requests = 0
        self.failures = 0
        self.executions = 0
        self.rows = 0
        self.queue_ns = 0
        self.input_ns = 0
        self.infer_ns = 0
        self.output_ns = 0
        self.copied_bytes = 0

    def statistics(self, port: Port, channels: int) -> WorkerStats:
        """A snapshot, together with what the port counted."""
        counted = port.counters()
        return WorkerStats(
            requests=self.requests,
            failures=self.failures + counted.get("failures", 0),
            cancelled=counted.get("cancelled", 0),
            executions=self.executions,
            rows=self.rows,
            queue_ns=self.queue_ns,
            input_ns=self.input_ns,
            infer_ns=self.infer_ns,
            output_ns=self.output_ns,
            copied_bytes=self.copied_bytes + counted.get("copied_bytes", 0),
            recovered=counted.get("recovered", 0),
            channels=channels,
        )
