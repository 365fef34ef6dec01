# SPDX-License-Identifier: BUSL-1.1
"""Which models go when another one needs their memory. Decisions only; nothing is unloaded here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from mlos_core.errors import OutOfMemory
from mlos_core.resources.units import size

_SHOWN: Final = 8


class Loaded(msgspec.Struct, frozen=True):
    """A version in memory.

    `last_used` is on any one clock. `evictable` false: it stays, and `reason` says why, as
    the end of a sentence about it ("is loaded for ever").
    """

    name: str
    version: str
    bytes: int
    last_used: float
    evictable: bool = True
    reason: str = ""

    @property
    def title(self) -> str:
        """`name@version`, or the name alone."""
        return f"{self.name}@{self.version}" if self.version else self.name


class Budget:
    """How many bytes all models together may hold; a limit of 0 is none."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def admit(
        self,
        need: int,
        loaded: Sequence[Loaded],
        *,
        available: int | None = None,
        title: str = "the model",
    ) -> list[tuple[str, str]]:
        """What has to be unloaded so that `need` bytes fit, the longest unused first.

        Nothing goes that need not: a version that a later choice makes superfluous stays.

        Args:
            need: bytes of what is to be loaded.
            loaded: what is in memory.
            available: bytes the machine has left; `None`: not looked at.
            title: what is to be loaded, for the message.

        Returns:
            (name, version) of each, in the order in which they should go.

        Raises:
            OutOfMemory: not even all that may go make room; the message counts up.
        """
        missing = self._missing(need, loaded, available)
        chosen: list[Loaded] = []
        for one in sorted(loaded, key=lambda one: one.last_used):
            if sum(c.bytes for c in chosen) >= missing:
                break
            if one.evictable and one.bytes > 0:
                chosen.append(one)
        freed = sum(one.bytes for one in chosen)
        if freed < missing:
            raise self._refusal(need, loaded, available, title)
        for one in reversed(chosen[:]):
            if freed - one.bytes >= missing:
                chosen.remove(one)
                freed -= one.bytes
        return [(one.name, one.version) for one in chosen]

    def _missing(self, need: int, loaded: Sequence[Loaded], available: int | None) -> int:
        used = sum(one.bytes for one in loaded)
        beyond_limit = used + need - self.limit if self.limit else 0
        beyond_machine = need - available if available is not None else 0
        return max(0, beyond_limit, beyond_machine)

    def _refusal(
        self, need: int, loaded: Sequence[Loaded], available: int | None, title: str
    ) -> OutOfMemory:
        used = sum(one.bytes for one in loaded)
        going = [one for one in loaded if one.evictable]
        staying = [one for one in loaded if not one.evictable]
        freeable = sum(one.bytes for one in going)
        parts = [f"{title} needs {size(need)}"]
        if self.limit:
            left = size(max(0, self.limit - used))
            parts.append(f"{size(used)} of the budget of {size(self.limit)} are used ({left} left)")
        if available is not None:
            parts.append(f"the machine has {size(available)} left")
        if going:
            parts.append(f"unloading can free {size(freeable)}{_listed(going)}")
        elif loaded:
            parts.append("nothing may be unloaded for it")
        if staying:
            parts.append(f"what stays{_listed(staying)}")
        return OutOfMemory("; ".join(parts), hint=self._advice(need, staying))

    def _advice(self, need: int, staying: Sequence[Loaded]) -> str:
        if self.limit and need > self.limit:
            return f"raise memory_budget to {size(need)} or more, or use a smaller model"
        if staying:
            return (
                "unload one with `mlosctl models unload`, register it with --load demand so that "
                "it gives way by itself, or raise memory_budget"
            )
        return "free memory on this machine, or use a smaller model"


def _listed(models: Sequence[Loaded]) -> str:
    if not models:
        return ""
    ordered = sorted(models, key=lambda one: -one.bytes)
    texts = [
        f"{one.title} {size(one.bytes)}" + (f" {one.reason}" if one.reason else "")
        for one in ordered[:_SHOWN]
    ]
    more = len(ordered) - _SHOWN
    return ": " + ", ".join(texts) + (f" and {more} more" if more > 0 else "")
