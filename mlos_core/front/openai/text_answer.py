# SPDX-License-Identifier: BUSL-1.1
"""`POST /v1/completions`: the answer, whole or in chunks."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from mlos_core.front.openai import logprobs, wire
from mlos_core.front.openai.caller import Head
from mlos_core.front.openai.fields import StreamOptions
from mlos_core.front.openai.logprobs import TextForm, TextLogprobs
from mlos_core.front.openai.usage import Counter, Usage


class TextChoice(msgspec.Struct, kw_only=True):
    """A continuation, or the next piece of one."""

    index: int
    text: str
    logprobs: TextLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: str | int | UnsetType | None = UNSET


class Completion(msgspec.Struct, kw_only=True):
    """All continuations."""

    id: str
    object: str = "text_completion"
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage


class _Choice:
    """One continuation as it comes together."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.entries: list[logprobs.Entry] = []
        self.finish = "stop"
        self.reason: str | int | None = None


class TextAnswer:
    """Puts the continuations together."""

    def __init__(self, head: Head, choices: int, with_logprobs: bool) -> None:
        self._head = head
        self._logprobs = with_logprobs
        self._choices = [_Choice() for _ in range(choices)]
        self._counter = Counter()

    def take(self, event: dict[str, Any]) -> None:
        """The model's next event."""
        self._counter.add(event)
        choice = self._choices[event.get("i", 0)]
        choice.text.append(event.get("s", ""))
        choice.entries.extend(event.get("l", ()))
        if "f" in event:
            choice.finish, choice.reason = event["f"], event.get("r")

    def result(self) -> Completion:
        """The whole answer."""
        return Completion(
            id=self._head.id,
            created=self._head.created,
            model=self._head.model,
            choices=[
                TextChoice(
                    index=index,
                    text="".join(choice.text),
                    logprobs=TextForm().piece(choice.entries) if self._logprobs else None,
                    finish_reason=choice.finish,
                    stop_reason=choice.reason,
                )
                for index, choice in enumerate(self._choices)
            ],
            usage=self._counter.usage(),
        )


class TextChunks(wire.Chunks):
    """The continuations as a stream."""

    def __init__(self, head: Head, options: StreamOptions | None) -> None:
        super().__init__(wire.chunk("text_completion", head), options)
        self._forms: dict[int, TextForm] = {}
        self._choice = TextChoice(index=0, text="")

    def choices(self, event: dict[str, Any]) -> list[TextChoice]:
        """The choice's next chunk, if there is something to say."""
        text = event.get("s", "")
        if not (text or "l" in event or "f" in event):
            return []
        choice = self._choice
        choice.index, choice.text = event.get("i", 0), text
        choice.logprobs = self._piece(choice.index, event["l"]) if "l" in event else None
        choice.finish_reason = event.get("f")
        choice.stop_reason = event.get("r") if "f" in event else UNSET
        return [choice]

    def _piece(self, index: int, entries: list[logprobs.Entry]) -> TextLogprobs:
        return self._forms.setdefault(index, TextForm()).piece(entries)
