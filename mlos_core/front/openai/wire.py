# SPDX-License-Identifier: BUSL-1.1
"""What chat and completions have in common as streams.

    data: {chunk}        for each event of the model that has something to say
    data: {usage}        if asked for, with no choices
    data: [DONE]

A stream that fails ends with `data: {"error": ...}` and `data: [DONE]`.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from mlos_core.errors import MlosError
from mlos_core.front.openai import problems
from mlos_core.front.openai.caller import Head
from mlos_core.front.openai.fields import StreamOptions
from mlos_core.front.openai.usage import Counter, Usage

DONE: Final = b"data: [DONE]\n\n"
_encode: Final = msgspec.json.Encoder().encode


def frame(data: Any) -> bytes:
    """One event of the stream."""
    return b"data: " + _encode(data) + b"\n\n"


class Chunks:
    """A `Wire`; the two kinds differ in what a choice looks like.

    One chunk object serves the whole stream: only its choices change.
    """

    def __init__(self, chunk: Any, options: StreamOptions | None) -> None:
        options = options or StreamOptions()
        self._chunk = chunk
        self._counter = Counter()
        self._counts = bool(options.include_usage)
        self._always = self._counts and bool(options.continuous_usage_stats)
        if self._counts:
            chunk.usage = None  # OpenAI's chunks say null until the last one

    def event(self, event: dict[str, Any]) -> bytes:
        """The chunks that say what `event` says, mostly one; nothing for held-back text."""
        self._counter.add(event)
        data = b""
        for choice in self.choices(event):
            self._chunk.choices = (choice,)
            if self._always:
                self._chunk.usage = self._counter.usage()
            data += b"data: " + _encode(self._chunk) + b"\n\n"
        return data

    def choices(self, event: dict[str, Any]) -> list[Any]:
        """What `event` adds to its choice."""
        raise NotImplementedError

    def end(self) -> bytes:
        """The last chunks."""
        if not self._counts:
            return DONE
        self._chunk.choices = ()
        self._chunk.usage = self._counter.usage()
        return frame(self._chunk) + DONE

    def error(self, error: MlosError) -> bytes:
        """What ends a stream that failed."""
        return frame(problems.body_of(error)) + DONE


class Chunk(msgspec.Struct, kw_only=True):
    """What every chunk of a stream holds."""

    id: str
    object: str
    created: int
    model: str
    choices: tuple[Any, ...] = ()
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET


def chunk(kind: str, head: Head) -> Chunk:
    """The chunk that a stream sends again and again."""
    return Chunk(id=head.id, object=kind, created=head.created, model=head.model)
