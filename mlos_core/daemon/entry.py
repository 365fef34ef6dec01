# SPDX-License-Identifier: BUSL-1.1
"""What a user registers: a model's version, and the route to its versions. Plain values."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, Literal

import msgspec

from mlos_core.errors import InvalidInput
from mlos_core.ipc.messages import BatchPolicy
from mlos_core.resources.cpus import check_placement, parse_cpus

MAX_INSTANCES: Final = 16
MAX_THREADS: Final = 1024
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:+/-]{0,127}")
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_NUMBER: Final = re.compile(r"\d+")


class ModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One version of a model, as the user gave it.

    `registered_at` is Unix time. `python` is the interpreter of its plugin host ("": the
    daemon's own). `load` says when it is loaded, `keep_alive` after how many seconds without
    a request it is unloaded (-1: never). `memory` is what it takes, in bytes, if the user
    knows (0: estimated, then measured).
    """

    name: str
    path: str
    plugin: str
    version: str = ""
    device: str = "cpu"
    options: dict[str, Any] = {}
    instances: int = 1
    batch: BatchPolicy = BatchPolicy()
    manifest: dict[str, Any] | None = None
    warmup: bool = True
    registered_at: float = 0.0
    python: str = ""
    threads: int = 0
    cpus: str = ""
    numa_node: int = -1
    load: Literal["now", "demand"] = "now"
    keep_alive: float = -1.0
    memory: int = 0
    warmup_inputs: str = ""

    @property
    def title(self) -> str:
        """`name@version`, or the name alone."""
        return f"{self.name}@{self.version}" if self.version else self.name

    def check(self) -> None:
        """Raise `InvalidInput` unless every value is possible."""
        if not _NAME.fullmatch(self.name):
            raise InvalidInput(
                f"{self.name!r} is no model name",
                hint="use up to 128 letters, digits and ._@:+/- with a letter or digit first",
            )
        if self.version and not _VERSION.fullmatch(self.version):
            raise InvalidInput(
                f"{self.version!r} is no version",
                hint="use up to 64 letters, digits and ._+- with a letter or digit first",
            )
        self._check_numbers()
        check_placement(parse_cpus(self.cpus), self.numa_node)
        self.batch.check()
        if self.batch.preserve_ordering and self.instances > 1:
            raise InvalidInput(
                f"{self.instances} instances cannot keep the order of requests",
                hint="preserve_ordering needs instances=1",
            )

    def _check_numbers(self) -> None:
        if not 1 <= self.instances <= MAX_INSTANCES:
            raise InvalidInput(
                f"{self.instances} instances are not possible",
                hint=f"give a number from 1 to {MAX_INSTANCES}",
            )
        if not 0 <= self.threads <= MAX_THREADS:
            raise InvalidInput(
                f"{self.threads} threads are not possible",
                hint=f"give a number from 1 to {MAX_THREADS}, or 0 to leave it to the plugin",
            )
        if self.memory < 0:
            raise InvalidInput(f"a model cannot take {self.memory} bytes", hint="give 0 or more")
        if not (self.keep_alive >= 0 or self.keep_alive == -1):
            raise InvalidInput(
                f"keep_alive is {self.keep_alive:g}", hint="give seconds, or -1 for no limit"
            )

    def same_as(self, other: ModelEntry) -> bool:
        """Whether both ask for the same thing, whenever they were registered."""
        return msgspec.structs.replace(self, registered_at=0.0) == msgspec.structs.replace(
            other, registered_at=0.0
        )


class Route(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which version a request without a version gets.

    `latest` is the highest one; `pinned` is `version`; `weighted` shares by `weights`.
    """

    kind: Literal["latest", "pinned", "weighted"] = "latest"
    version: str = ""
    weights: dict[str, float] = {}

    def shares(self, versions: Iterable[str]) -> dict[str, float]:
        """The weight of each of these versions that gets anything; at least one does.

        A route whose versions are gone falls back to the latest.
        """
        there = list(versions)
        if self.kind == "weighted":
            left = {v: w for v, w in self.weights.items() if w > 0 and v in there}
            if left:
                return left
        if self.kind == "pinned" and self.version in there:
            return {self.version: 1.0}
        return {max(there, key=version_key): 1.0} if there else {}


def version_key(version: str) -> tuple[Any, ...]:
    """Sorts as semantic versions do (https://semver.org, 11): numbers as numbers, a
    pre-release below its release; what is no such version sorts below, by its parts."""
    core, _, pre = version.removeprefix("v").partition("+")[0].partition("-")
    parts = core.split(".")
    if not all(part.isdecimal() for part in parts):
        return (0, tuple(_identifier(part) for part in _NUMBER.split(version)), version)
    numbers = [int(part) for part in parts]
    while numbers and not numbers[-1]:
        numbers.pop()
    return (1, tuple(numbers), not pre, tuple(_identifier(part) for part in pre.split(".")))


def _identifier(text: str) -> tuple[int, int, str]:
    return (0, int(text), "") if text.isdecimal() else (1, 0, text)
