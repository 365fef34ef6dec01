# SPDX-License-Identifier: BUSL-1.1
"""Whether a few microseconds of patience make the next batch whole.

Clients in a closed loop come back together, microseconds after their batch is answered.
Whoever starts with the first of them runs one, then the rest, then one again, and pays the
fixed price of a call twice. So the loop may linger, but never longer than what one more
call costs beyond its rows, nor than an eighth of the call to come; and where lingering did
not pay it is tried ever more rarely. Pure: times come in, decisions go out.
"""

from __future__ import annotations

from typing import Final

_SHARE: Final = 8
_MAX_MISSES: Final = 6
_CLEARLY: Final = 2
_FORGET: Final = 15 / 16
_WORTH_NS: Final = 5_000
"""Less than that is over before a poll has looked twice."""


class Costs:
    """What calls take, as a line through what was seen: `fixed_ns` + rows * `row_ns`.

    Least squares in which older calls count less and less. Calls of one size alone say
    nothing of the slope, which then stays as it was.
    """

    def __init__(self) -> None:
        self.fixed_ns = 0.0
        self.row_ns = 0.0
        self._weight = self._rows = self._time = self._squares = self._products = 0.0

    def learn(self, rows: int, took_ns: int) -> None:
        """A call with that many rows took that long."""
        self._weight = self._weight * _FORGET + 1
        self._rows = self._rows * _FORGET + rows
        self._time = self._time * _FORGET + took_ns
        self._squares = self._squares * _FORGET + rows * rows
        self._products = self._products * _FORGET + rows * took_ns
        rows_mean, time_mean = self._rows / self._weight, self._time / self._weight
        variance = self._squares / self._weight - rows_mean * rows_mean
        if variance > 0.25:
            covariance = self._products / self._weight - rows_mean * time_mean
            self.row_ns = covariance / variance
        self.row_ns = min(max(self.row_ns, 0.0), time_mean / rows_mean)
        self.fixed_ns = max(0.0, time_mean - self.row_ns * rows_mean)

    def expected_ns(self, rows: int) -> int:
        """How long a call with that many rows will take; 0 before the first."""
        return int(self.fixed_ns + self.row_ns * rows)


class Anticipation:
    """How long to linger for the companions of what waits.

    The crowd is how many rows were asked for at once round the last call: those that ran and
    those that were submitted before it ended. That many will come again, or they will not. To
    linger has paid if all came, or if so many more came that each row's part of the call's fixed
    price and of the wait is clearly less than before. Misses make the attempts rare (up to one
    in 64).

    Args:
        max_rows: a batch of that size is whole.
        costs: of the model's calls; somebody else lets it learn.
    """

    def __init__(self, max_rows: int, costs: Costs) -> None:
        self._max_rows = max_rows
        self._costs = costs
        self._crowd = 0
        self._ended_ns = 0
        self._until_ns: int | None = None  # None: not decided for this batch
        self._target = 0  # rows that were lingered for; 0: nobody lingered
        self._first = 0  # rows that were there when it began
        self._waited_ns = 0
        self._misses = 0
        self._skips = 0

    def is_alone(self, submitted_ns: int) -> bool:
        """Whether nobody is expected beside a request: the last one had no neighbours."""
        return self._crowd <= 1 and submitted_ns >= self._ended_ns

    def came(self, rows: int, submitted_ns: int) -> None:
        """A request was claimed; it is of the crowd if it waited while the last call ran."""
        if submitted_ns < self._ended_ns:
            self._crowd += rows

    def left_ns(self, waiting: int, now_ns: int) -> int:
        """How long to wait on for companions of `waiting` rows; 0: run them."""
        wanted = min(self._crowd, self._max_rows)
        if waiting >= wanted:
            return 0
        if self._until_ns is None:
            patience = self._patience_ns(wanted)
            self._until_ns = now_ns + patience
            self._target, self._first = (wanted, waiting) if patience else (0, 0)
            self._waited_ns = patience
        return max(0, self._until_ns - now_ns)

    def _patience_ns(self, rows: int) -> int:
        patience = min(self._costs.fixed_ns, self._costs.expected_ns(rows) / _SHARE)
        if patience < _WORTH_NS:
            return 0
        if self._skips:
            self._skips -= 1
            return 0
        return int(patience)

    def give_up(self) -> None:
        """Nobody else will come."""
        self._crowd = 0

    def ran(self, rows: int, waiting: int, ended_ns: int) -> None:
        """A call with so many rows ended; `waiting` rows were left for the next ones."""
        if self._target:
            self._judge(rows + waiting)
        self._crowd = rows + waiting
        self._ended_ns = ended_ns
        self._until_ns = None
        self._target = 0

    def _judge(self, came: int) -> None:
        spent = _CLEARLY * self._first * self._waited_ns
        paid = came >= self._target or (came - self._first) * self._costs.fixed_ns > spent
        self._misses = max(0, self._misses - 1) if paid else min(_MAX_MISSES, self._misses + 1)
        self._skips = (1 << self._misses) - 1
