# SPDX-License-Identifier: BUSL-1.1
"""A worker's log on its standard error: lines for people, or JSON for machines."""

from __future__ import annotations

import logging
import os
import sys
from datetime import UTC, datetime

import msgspec

from mlos_core.ipc.messages import WorkerSpec


class _Json(logging.Formatter):
    def __init__(self, model: str) -> None:
        super().__init__()
        self._model = model

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "model": self._model,
            "pid": os.getpid(),
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry).decode()


def configure(spec: WorkerSpec) -> None:
    """Send everything from `spec.log_level` up to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    if spec.log_format == "json":
        handler.setFormatter(_Json(spec.model))
    else:
        # A model's name may hold a percent sign.
        name = spec.model.replace("%", "%%")
        handler.setFormatter(
            logging.Formatter(f"%(asctime)s %(levelname)-7s {name}[%(process)d] %(message)s")
        )
    logging.basicConfig(level=spec.log_level.upper(), handlers=[handler], force=True)
