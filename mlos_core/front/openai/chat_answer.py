# SPDX-License-Identifier: BUSL-1.1
"""`POST /v1/chat/completions`: the answer, whole or in chunks."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from mlos_core.front.openai import logprobs, wire
from mlos_core.front.openai.caller import Head
from mlos_core.front.openai.fields import StreamOptions
from mlos_core.front.openai.logprobs import ChatLogprobs
from mlos_core.front.openai.usage import Counter, Usage


class CalledFunction(msgspec.Struct, kw_only=True):
    """The function's name and its arguments: JSON, as a string. A chunk that goes on with a
    long call has no name."""

    name: str | UnsetType = UNSET
    arguments: str


class ToolCall(msgspec.Struct, kw_only=True):
    """A function that the model wants called; `index` in chunks only. A chunk that goes on with
    a long call has no id and no type."""

    index: int | UnsetType = UNSET
    id: str | UnsetType = UNSET
    type: str | UnsetType = UNSET
    function: CalledFunction


class Message(msgspec.Struct, kw_only=True):
    """What the model says."""

    role: str = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[ToolCall] | UnsetType = UNSET


class ChatChoice(msgspec.Struct, kw_only=True):
    """One answer; `stop_reason` is the stop string or token id that ended it, if one did."""

    index: int
    message: Message
    logprobs: ChatLogprobs | None
    finish_reason: str
    stop_reason: str | int | None


class ChatCompletion(msgspec.Struct, kw_only=True):
    """All answers to a conversation."""

    id: str
    object: str = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class Delta(msgspec.Struct, kw_only=True):
    """What is new."""

    role: str | UnsetType = UNSET
    content: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET


class ChunkChoice(msgspec.Struct, kw_only=True):
    """News of one answer."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None = None
    finish_reason: str | None = None
    stop_reason: str | int | UnsetType | None = UNSET


class _Choice:
    """One answer as it comes together."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.entries: list[logprobs.Entry] = []
        self.calls: list[ToolCall] = []
        self.finish = "stop"
        self.reason: str | int | None = None


class ChatAnswer:
    """Puts the answers together."""

    def __init__(self, head: Head, choices: int, with_logprobs: bool, several: bool) -> None:
        self._head = head
        self._logprobs = with_logprobs
        self._several = several
        self._choices = [_Choice() for _ in range(choices)]
        self._counter = Counter()

    def take(self, event: dict[str, Any]) -> None:
        """The model's next event."""
        self._counter.add(event)
        choice = self._choices[event.get("i", 0)]
        choice.text.append(event.get("s", ""))
        choice.entries.extend(event.get("l", ()))
        for call in tool_calls(event, self._several, numbered=False):
            if call.id is UNSET:
                choice.calls[-1].function.arguments += call.function.arguments
            else:
                choice.calls.append(call)
        if "f" in event:
            choice.finish, choice.reason = event["f"], event.get("r")

    def result(self) -> ChatCompletion:
        """The whole answer."""
        return ChatCompletion(
            id=self._head.id,
            created=self._head.created,
            model=self._head.model,
            choices=[self._choice(*pair) for pair in enumerate(self._choices)],
            usage=self._counter.usage(),
        )

    def _choice(self, index: int, choice: _Choice) -> ChatChoice:
        text = "".join(choice.text)
        message = Message(content=text or None if choice.calls else text)
        if choice.calls:
            message.tool_calls = choice.calls
        return ChatChoice(
            index=index,
            message=message,
            logprobs=logprobs.chat(choice.entries) if self._logprobs else None,
            finish_reason=choice.finish,
            stop_reason=choice.reason,
        )


class ChatChunks(wire.Chunks):
    """The answers as a stream. The first chunk of each names the role."""

    def __init__(self, head: Head, options: StreamOptions | None, several: bool) -> None:
        super().__init__(wire.chunk("chat.completion.chunk", head), options)
        self._several = several
        self._begun: set[int] = set()
        self._delta = Delta()
        self._choice = ChunkChoice(index=0, delta=self._delta)

    def choices(self, event: dict[str, Any]) -> list[ChunkChoice]:
        """The choice's next chunk, and before its first one that with the role."""
        index = event.get("i", 0)
        found = [] if index in self._begun else [self._first(index)]
        text, calls = event.get("s", ""), tool_calls(event, self._several, numbered=True)
        if not (text or calls or "l" in event or "f" in event):
            return found
        delta, choice = self._delta, self._choice
        choice.index = index
        delta.content = text if text or "l" in event else UNSET
        delta.tool_calls = calls or UNSET
        choice.logprobs = logprobs.chat(event["l"]) if "l" in event else None
        choice.finish_reason = event.get("f")
        choice.stop_reason = event.get("r") if "f" in event else UNSET
        found.append(choice)
        return found

    def _first(self, index: int) -> ChunkChoice:
        self._begun.add(index)
        return ChunkChoice(index=index, delta=Delta(role="assistant", content=""))


def tool_calls(event: dict[str, Any], several: bool, *, numbered: bool) -> list[ToolCall]:
    """The tool calls in `event`; only the first of an answer unless `several` are wanted."""
    calls = event.get("tc")
    if not calls:
        return []
    return [_tool_call(call, numbered) for call in calls if several or call["index"] == 0]


def _tool_call(call: dict[str, Any], numbered: bool) -> ToolCall:
    index = call["index"] if numbered else UNSET
    function = CalledFunction(name=call.get("name", UNSET), arguments=call["arguments"])
    if function.name is UNSET:
        return ToolCall(index=index, function=function)
    name = "call_" + secrets.token_hex(12)
    return ToolCall(index=index, id=name, type="function", function=function)
