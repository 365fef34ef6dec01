# SPDX-License-Identifier: BUSL-1.1
"""Structured logs: one event name and its fields per line, for people or for machines.

Built on the standard library's logging, so that what other libraries log comes out in the
same form.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final, Literal, TextIO

import msgspec

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_encoder: Final = msgspec.json.Encoder(enc_hook=str)


class Log:
    """A named source of events: `log.info("worker_ready", model="echo", owner=3)`."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"mlos.{name}")

    def debug(self, event: str, **fields: Any) -> None:
        """Details that only help to find a fault."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """What happened in the normal course."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something went wrong and was dealt with."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, *, exc: BaseException | None = None, **fields: Any) -> None:
        """Something went wrong and somebody should look at it."""
        self._write(logging.ERROR, event, fields, exc)

    def _write(
        self, level: int, event: str, fields: dict[str, Any], exc: BaseException | None = None
    ) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"fields": fields}, exc_info=exc)


class TextFormatter(logging.Formatter):
    """`12:00:01.123 info    worker_ready model=echo owner=3`."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback follows on lines of its own."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        head = f"{clock}.{int(record.msecs):03d} {record.levelname.lower():<7}"
        fields = getattr(record, "fields", {})
        parts = [head, _one_line(record.getMessage())]
        parts += [f"{key}={_text(value)}" for key, value in fields.items()]
        line = " ".join(parts)
        return f"{line}\n{trace}" if (trace := self._trace(record)) else line

    def _trace(self, record: logging.LogRecord) -> str:
        return self.formatException(record.exc_info) if record.exc_info else ""


class JsonFormatter(logging.Formatter):
    """One JSON object per line: `ts`, `level`, `source`, `event` and the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The object; a traceback is its field `traceback`."""
        line: dict[str, Any] = {
            "ts": round(record.created, 6),
            "level": record.levelname.lower(),
            "source": record.name,
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _encoder.encode(line).decode()


def _text(value: Any) -> str:
    text = _one_line(str(value))
    plain = text and not any(c in text for c in ' ="')
    return text if plain else msgspec.json.encode(text).decode()


def _one_line(text: str) -> str:
    # A name from outside must not be able to forge a second log line.
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def setup(form: Literal["text", "json"], level: str, stream: TextIO) -> logging.Handler:
    """Send everything to `stream`; returns the handler, for `teardown`."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(_LEVELS[level])
    for chatty in ("asyncio", "uvicorn.access"):
        logging.getLogger(chatty).setLevel(max(_LEVELS[level], logging.WARNING))
    return handler


def teardown(handler: logging.Handler) -> None:
    """Undo `setup`."""
    logging.getLogger().removeHandler(handler)
    handler.close()
