# SPDX-License-Identifier: BUSL-1.1
"""How a model handle attaches, and its defaults."""

from __future__ import annotations

from typing import Final

import msgspec

from mlos_core.client.link import CLIENT_POLL_MAX_US

DEFAULT_TIMEOUT: Final = 60.0
DEFAULT_SLOTS: Final = 64
DEFAULT_ARENA: Final = 4 << 20
RENEW_EVERY_S: Final = 1.0
"""A handle that follows a route looks at most so often whether the model takes something else by
now, when an input did not fit."""
RENEW_WITHIN_S: Final = 5.0
_ATTACH_LEAST: Final = 1.0
_ATTACH_MOST: Final = 3600.0
EVENT_ROOM: Final = 1 << 20
"""The largest streamed event in bytes."""


class Settings(msgspec.Struct, frozen=True):
    """How a model handle attaches; `worker` is for the daemon, which tries a new one so."""

    slots: int = DEFAULT_SLOTS
    request_bytes: int = DEFAULT_ARENA
    reply_bytes: int = DEFAULT_ARENA
    wait_mode: str = "adaptive"
    poll_max_us: int = CLIENT_POLL_MAX_US
    timeout: float = DEFAULT_TIMEOUT
    version: str = ""
    worker: int = 0


def attach_time(timeout: float) -> float:
    """Seconds that attaching may take where a request may take `timeout`.

    Not too few, or a client with short deadlines would never get its channel.
    """
    return min(max(timeout, _ATTACH_LEAST), _ATTACH_MOST)
