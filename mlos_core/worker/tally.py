# SPDX-License-Identifier: BUSL-1.1
"""Counters of a worker, written by its loop and read by its control thread."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from mlos_core.ipc.messages import WorkerStats
from mlos_core.smi import Statistics
from mlos_core.worker.port import Port

log = logging.getLogger(__name__)

_EXACT_ROWS: Final = 128


class Tally:
    """What only the loop knows; the port counts the rest with every answer.

    One thread writes; a reader may see a sum that is one call old.

    Attributes:
        executions: calls of the model.
        rows: of all calls together where requests are batched; else one for each call.
        cancelled: requests that ended while they waited here.
        rejected: requests refused because too many waited.
        expired: requests refused because they had waited too long.
        copied_bytes: of tensors.
        engine: what an engine says of itself.
    """

    __slots__ = (
        "_batches",
        "_joined_ns",
        "cancelled",
        "copied_bytes",
        "engine",
        "executions",
        "expired",
        "rejected",
        "rows",
    )

    def __init__(self) -> None:
        self.executions = 0
        self.rows = 0
        self.cancelled = 0
        self.rejected = 0
        self.expired = 0
        self.copied_bytes = 0
        self.engine: Callable[[], Statistics] = dict
        self._batches: dict[int, tuple[int, int]] = {}
        self._joined_ns = 0

    def batch(self, rows: int, took_ns: int, requests: int = 1) -> None:
        """Note a call of several rows that `executions` and `rows` count already.

        Calls of one row need not be noted: they are all the others. `took_ns` is the
        computation's part, `requests` how many had a share in the call. Sizes above 128
        count as the power of two that is not below them, so that there are not many.
        """
        size = rows if rows <= _EXACT_ROWS else 1 << (rows - 1).bit_length()
        calls, total_ns = self._batches.get(size, (0, 0))
        self._batches[size] = (calls + 1, total_ns + took_ns)
        self._joined_ns += took_ns * requests

    def engine_ends(self) -> None:
        """Keep what the engine says now: it cannot be asked once it is closed."""
        last = self._engine_statistics()
        self.engine = lambda: last

    def statistics(self, port: Port, channels: int) -> WorkerStats:
        """A snapshot of this and of what the port counted."""
        counted = port.counters()
        return WorkerStats(
            requests=counted["answered"],
            failures=counted["failures"],
            failed_ns=counted["failed_ns"],
            cancelled=self.cancelled + counted["cancelled"],
            rejected=self.rejected,
            expired=self.expired,
            executions=self.executions,
            rows=self.rows,
            queue_ns=counted["queue_ns"],
            input_ns=counted["input_ns"],
            infer_ns=counted["infer_ns"],
            output_ns=counted["output_ns"],
            copied_bytes=self.copied_bytes + counted["copied_bytes"],
            recovered=counted["recovered"],
            channels=channels,
            pending=port.pending(),
            running=counted["running"],
            times=dict(port.times()),
            batches=self._by_rows(counted["infer_ns"]),
            engine=self._engine_statistics(),
        )

    def _by_rows(self, infer_ns: int) -> dict[int, tuple[int, int]]:
        """Calls by rows. Those of one row are not timed in the hot path: their requests'
        computing time is what the noted calls leave of all requests'."""
        noted = dict(self._batches)
        alone = self.executions - sum(calls for calls, _ in noted.values())
        if self.rows and alone > 0:
            calls, total_ns = noted.get(1, (0, 0))
            noted[1] = (calls + alone, total_ns + max(0, infer_ns - self._joined_ns))
        return noted

    def _engine_statistics(self) -> Statistics:
        try:
            return self.engine()
        except Exception:
            log.exception("the engine's statistics raised")
            return {}
