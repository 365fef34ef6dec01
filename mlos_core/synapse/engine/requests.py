# SPDX-License-Identifier: BUSL-1.1
"""One request: its choices, the order of their events, and its end."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import numpy as np

from mlos_core.smi import Event
from mlos_core.synapse.engine import journal
from mlos_core.synapse.engine.choice import Choice, Data
from mlos_core.synapse.engine.pieces import pieces
from mlos_core.synapse.engine.sampling import SamplingParams
from mlos_core.synapse.engine.sequence import Sequence

Item = tuple[Data, bytes, bool]
AT_ONCE: Final = 4
"""Events that one token may set free; what waited longer for its turn comes by `more`."""


class Order:
    """Puts the events of several choices into the one order that every run has: the first of
    each, the second of each, and so on, past those that have ended."""

    def __init__(self, choices: int) -> None:
        self._lines: list[deque[Item]] = [deque() for _ in range(choices)]
        self._ended = [False] * choices
        self._turn = 0

    def add(self, choice: int, item: Item) -> None:
        """The next event of a choice."""
        self._lines[choice].append(item)
        self._ended[choice] = item[2]

    def take(self) -> Item | None:
        """The one whose turn has come; None while it has not happened, or when all have."""
        for _ in self._lines:
            line = self._lines[self._turn]
            if not line and not self._ended[self._turn]:
                return None
            self._turn = (self._turn + 1) % len(self._lines)
            if line:
                return line.popleft()
        return None


class Times:
    """When what happened, in nanoseconds of the monotonic clock; 0: not yet."""

    __slots__ = ("admitted", "arrived", "first")

    def __init__(self, arrived: int) -> None:
        self.arrived = arrived
        self.admitted = 0
        self.first = 0


class Request:
    """A request that generates.

    Args:
        id: what its events name it by.
        params: checked.
        prompt: how many tokens the prompt has.
        skip: how many of its first events were sent by a worker that is gone.
        arrived: nanoseconds.
    """

    def __init__(
        self, id: int, params: SamplingParams, prompt: int, skip: int, arrived: int
    ) -> None:
        self.id = id
        self.params = params
        self.prompt = prompt
        self.cached = 0
        self.choices: list[Choice] = []
        self.held: list[Sequence] = []
        """Choices that wait until the first one has put the prompt into the cache."""
        self.replayed: list[Event] = []
        """What can be sent at once."""
        self.behind = False
        """Whether `more` may have something to send."""
        self.times = Times(arrived)
        self._skip = skip
        self._open = params.n
        self._begun = False
        self._order = Order(params.n) if params.n > 1 else None

    @property
    def sequences(self) -> list[Sequence]:
        """Of its choices."""
        return [choice.sequence for choice in self.choices]

    def events(self, choice: Choice, token: int, data: Data) -> list[Event]:
        """What can be sent now that `choice` has its next event."""
        note, last = journal.note(choice.index, token), choice.finish is not None
        parts = pieces(data)
        if self._order is None and len(parts) == 1:
            return self._pack((data, note, last))
        self._order = self._order or Order(1)
        for part in parts:
            self._order.add(choice.index, (part, note, last and part is parts[-1]))
            note = journal.CONTINUES
        return self.more(AT_ONCE)

    def more(self, most: int) -> list[Event]:
        """Up to `most` events whose turn has come."""
        events: list[Event] = []
        while len(events) < most and self._order is not None:
            item = self._order.take()
            if item is None:
                self.behind = False
                return events
            events += self._pack(item)
        self.behind = True
        return events

    def _pack(self, item: Item) -> list[Event]:
        data, note, ends = item
        self._open -= ends
        if self._skip:
            self._skip -= 1
            self._begun = True
            return [] if self._open else [self._last(None, None)]
        if not self._begun:
            self._begun = True
            data["p"], data["c"] = self.prompt, self.cached
        return [Event(self.id, data, note=note) if self._open else self._last(data, note)]

    def _last(self, data: Data | None, note: bytes | None) -> Event:
        texts = np.empty(len(self.choices), object)
        texts[:] = [choice.text().encode(errors="replace") for choice in self.choices]
        first = self.choices[0].sequence
        outputs = {"text": texts, "tokens": first.tokens[first.prompt : first.length].copy()}
        return Event(
            self.id, data, final=True, outputs=outputs, parameters=self._summary(), note=note
        )

    def _summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = {
            "usage": {
                "prompt_tokens": self.prompt,
                "completion_tokens": sum(s.generated for s in self.sequences),
                "cached_tokens": self.cached,
            },
            "finish_reasons": [choice.finish for choice in self.choices],
        }
        if self.params.tools:
            summary["tool_calls"] = [choice.calls for choice in self.choices]
        return summary
