# SPDX-License-Identifier: BUSL-1.1
"""What the queue knows of a request: made once for a header, kept with it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from mlos_core.errors import InvalidInput
from mlos_core.ipc.messages import MAX_QUEUE_US, BatchPolicy
from mlos_core.worker.joining import key_of, rows_of
from mlos_core.worker.port import Request


class Note:
    """Size, group, priority (1 is served first) and longest wait (0: any) of a request.

    `sampled` says that a request with this header was answered well, and that `keep` knows it.
    """

    __slots__ = ("key", "level", "rows", "sampled", "timeout_ns")

    def __init__(self, rows: int, key: Hashable, level: int, timeout_ns: int) -> None:
        self.rows = rows
        self.key = key
        self.level = level
        self.timeout_ns = timeout_ns
        self.sampled = False


class NoteMaker:
    """Makes notes under one policy.

    Args:
        policy: its defaults count for requests that say nothing.
        joins: whether requests are merged at all; if not, each counts as one row.
    """

    def __init__(self, policy: BatchPolicy, *, joins: bool) -> None:
        self._policy = policy
        self._joins = joins

    def __call__(self, request: Request) -> Note:
        """The note of a request that has passed the model's checks.

        Raises:
            InvalidInput: its `priority` or its `timeout` is none.
        """
        level, timeout = self._level(request.parameters), self._timeout_ns(request.parameters)
        rows = rows_of(request.inputs) if self._joins else 0
        if not rows:  # nobody can join it
            return Note(1, object(), level, timeout)
        return Note(rows, key_of(request), level, timeout)

    def _level(self, parameters: Mapping[str, Any]) -> int:
        levels = self._policy.priority_levels
        if levels < 2:
            return 1
        return _number(parameters, "priority", levels) or self._policy.default_priority or levels

    def _timeout_ns(self, parameters: Mapping[str, Any]) -> int:
        given = _number(parameters, "timeout", MAX_QUEUE_US)
        return 1000 * (given or self._policy.queue_timeout_us)


def _number(parameters: Mapping[str, Any], name: str, most: int) -> int:
    value = parameters.get(name, 0)
    if type(value) is not int or not 0 <= value <= most:
        raise InvalidInput(
            f"the parameter {name!r} is {value!r}", hint=f"give a whole number from 1 to {most}"
        )
    return value
