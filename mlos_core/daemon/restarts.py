# SPDX-License-Identifier: BUSL-1.1
"""When a worker that died is started again, or given up. Pure: time comes as an argument."""

from __future__ import annotations

import msgspec


class RestartPolicy(msgspec.Struct, frozen=True):
    """Seconds, and a number of starts.

    `initial` doubles up to `maximum`. After `limit` starts in a row that failed before the
    model was loaded, or did not answer then, it is given up. A worker that was ready for
    `healthy_after` is forgiven everything.
    """

    initial: float = 0.1
    maximum: float = 30.0
    limit: int = 5
    healthy_after: float = 10.0


class Restarts:
    """The history of one instance of a model."""

    def __init__(self, policy: RestartPolicy) -> None:
        self._policy = policy
        self._loaded_since: float | None = None
        self._unready = 0
        self._streak = 0
        self.total = 0

    def loaded(self, now: float) -> None:
        """The worker says that it is ready."""
        self._loaded_since = now

    def proven(self) -> None:
        """The data plane answered."""
        self._unready = 0

    def unproven(self) -> None:
        """The data plane did not answer: the worker was not ready after all."""
        self._loaded_since = None

    def died(self, now: float) -> float | None:
        """The worker is gone: seconds until the next start, or `None` to give up.

        One that was loaded starts again at once, unless that happened a moment ago too.
        """
        since, self._loaded_since = self._loaded_since, None
        self.total += 1
        if since is None:
            self._unready += 1
            if self._unready >= self._policy.limit:
                return None
            return self._delay(self._unready)
        if now - since >= self._policy.healthy_after:
            self._streak = 0
        self._streak += 1
        return self._delay(self._streak - 1)

    def _delay(self, count: int) -> float:
        if count == 0:
            return 0.0
        # The exponent is bounded so that a long history cannot overflow the float.
        return min(self._policy.maximum, self._policy.initial * 2.0 ** min(count - 1, 64))
