# SPDX-License-Identifier: BUSL-1.1
"""A spinner for what takes long: it says what happens to the model meanwhile."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.console import Console
from rich.markup import escape

from mlos_core.cli.context import Context
from mlos_core.client import Client
from mlos_core.errors import MlosError

_EVERY_S: Final = 0.3
_PATIENCE: Final = 5.0


@contextlib.contextmanager
def watching(context: Context, client: Client, what: str, name: str) -> Iterator[None]:
    """Show `what` is done to the model `name` while the block does it; on a terminal only."""
    if context.as_json or not sys.stderr.isatty():
        yield
        return
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(client, what, name, over))
    watch.start()
    try:
        yield
    finally:
        over.set()
        watch.join()


def _watch(client: Client, what: str, name: str, over: threading.Event) -> None:
    if over.wait(_EVERY_S):
        return  # too quick to be worth a line
    began = time.monotonic() - _EVERY_S
    with Console(stderr=True).status(escape(what)) as line:
        while not over.wait(_EVERY_S):
            seconds = f"{time.monotonic() - began:.0f} s"
            parts = (what, _state(client, name), seconds)
            line.update(escape(", ".join(filter(None, parts))))


def _state(client: Client, name: str) -> str:
    try:
        return state_text(client.call("model", patience=_PATIENCE, name=name))
    except MlosError:
        return ""  # not there yet, or just now the daemon is not


def state_text(info: Mapping[str, Any]) -> str:
    """What happens to a model just now: `2.0 warming`, `1.0 ready, its successor loading`."""
    parts = []
    for version in info["versions"]:
        text = f"{version['version'] or info['name']} {version['state']}"
        if version["candidate"]:
            text += f", its successor {version['candidate']}"
        parts.append(text)
    return ", ".join(parts)
