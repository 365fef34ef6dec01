# SPDX-License-Identifier: BUSL-1.1
"""How a check ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from mlos_core.errors import MlosError


class Failed(Exception):
    """The plugin does not do what the check's name says; the message says what it does."""


class Skipped(Exception):
    """The check does not apply; the message says why."""


class Outcome(msgspec.Struct, frozen=True):
    """One line of the report. `reason` is why not, or a note; `seconds` what it took."""

    group: str
    name: str
    outcome: Literal["pass", "fail", "skip"]
    reason: str = ""
    seconds: float = 0.0


def sentence(check: Callable[..., Any]) -> str:
    """The name of a check as people read it."""
    return check.__name__.replace("_", " ")


def run(group: str, check: Callable[[Any], str | None], subject: Any) -> Outcome:
    """Run one check; whatever it raises becomes an outcome."""
    start = time.monotonic()
    verdict: Literal["pass", "fail", "skip"] = "pass"
    try:
        reason = check(subject) or ""
    except Skipped as skipped:
        verdict, reason = "skip", str(skipped)
    except Failed as failed:
        verdict, reason = "fail", str(failed)
    except MlosError as err:
        verdict, reason = "fail", f"{err.code}: {err}"
    return Outcome(group, sentence(check), verdict, reason, round(time.monotonic() - start, 3))
