# SPDX-License-Identifier: BUSL-1.1
"""The compiled data plane, and its statuses as exceptions.

`MLOS_CHANNEL_MODULE` names another build of the extension (tests use one with crash
points compiled in).
"""

from __future__ import annotations

import importlib
import os
from typing import Any, Final

from mlos_core.errors import (
    ChannelBroken,
    DeadlineExceeded,
    Forked,
    InvalidInput,
    MlosError,
    OutOfMemory,
    Overloaded,
    PayloadTooLarge,
    Unavailable,
)

_module = importlib.import_module(os.environ.get("MLOS_CHANNEL_MODULE", "mlos_core.ipc._channel"))
ffi: Final[Any] = _module.ffi
lib: Final[Any] = _module.lib

AGAIN: Final[int] = lib.MLOS_E_AGAIN
TIMEOUT: Final[int] = lib.MLOS_E_TIMEOUT
TICK: Final[int] = lib.MLOS_E_TICK
CLOSED: Final[int] = lib.MLOS_E_CLOSED
TOO_BIG: Final[int] = lib.MLOS_E_TOO_BIG
FORKED: Final[int] = lib.MLOS_E_FORKED
BUSY: Final[int] = lib.MLOS_E_BUSY
SAME: Final[int] = lib.MLOS_SAME

WAIT_MODES: Final[dict[str, int]] = {
    "adaptive": lib.MLOS_WAIT_ADAPTIVE,
    "spin": lib.MLOS_WAIT_SPIN,
    "block": lib.MLOS_WAIT_BLOCK,
}

_KINDS: Final[dict[int, tuple[type[MlosError], str, str]]] = {
    AGAIN: (Overloaded, "nothing is free", "try again later"),
    TIMEOUT: (DeadlineExceeded, "the deadline passed before the answer came", ""),
    CLOSED: (Unavailable, "the channel was closed by the daemon", ""),
    TOO_BIG: (PayloadTooLarge, "larger than the arena", "ask for a larger arena"),
    lib.MLOS_E_BROKEN: (ChannelBroken, "the segment cannot be trusted any more", ""),
    FORKED: (
        Forked,
        "this belongs to the parent process",
        "connect again in the child",
    ),
    BUSY: (
        InvalidInput,
        "another thread is using this call",
        "prepare one call per thread",
    ),
    lib.MLOS_E_ARGUMENT: (InvalidInput, "", ""),
    lib.MLOS_E_LOST: (ChannelBroken, "the slot belongs to another worker now", ""),
    lib.MLOS_E_SYSTEM: (OutOfMemory, "", "see the system's limits on memory and mappings"),
}


def last_error() -> str:
    """The sentence the C side left for the last failed call of this thread."""
    return str(ffi.string(lib.mlos_error()).decode(errors="replace"))


def failure(status: int) -> MlosError:
    """The exception for a negative status, with the C side's sentence where it has one."""
    kind, message, hint = _KINDS.get(status, (MlosError, "", ""))
    return kind(message or last_error(), hint=hint)


def check(status: int) -> int:
    """Pass a count on; raise for a negative status."""
    if status < 0:
        raise failure(status)
    return status


def nanoseconds(timeout: float | None) -> int:
    """A timeout in seconds as the C side takes it; `None` is no timeout."""
    return -1 if timeout is None else max(0, int(timeout * 1e9))


def arm_from_environment(turn: int) -> None:
    """Let this process end itself at a crash point, where the tests ask for that.

    `MLOS_CRASH_AT` lists `POINT:COUNT` with commas between; `turn` chooses among them. The
    process ends when it passes the point for the COUNTth time; `~COUNT` is a random number
    from 1 to COUNT.
    """
    plans = os.environ.get("MLOS_CRASH_AT")
    if not plans:
        return
    import random

    choices = plans.split(",")
    point, _, count = choices[turn % len(choices)].partition(":")
    most = int(count.lstrip("~"))
    passes = random.Random(turn).randint(1, most) if count.startswith("~") else most  # noqa: S311
    check(lib.mlos_crash_arm(point.encode(), passes))
