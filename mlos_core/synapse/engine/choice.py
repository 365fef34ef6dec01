# SPDX-License-Identifier: BUSL-1.1
"""One answer to a prompt: from tokens to text, to tool calls, to its end.

What comes out depends on the tokens alone, one event per token, so that a successor that
knows the tokens knows the events.
"""

from __future__ import annotations

from typing import Any

from mlos_core.synapse.engine.faces import Matcher, Text, ToolParser
from mlos_core.synapse.engine.sampler import Draw, Logprobs
from mlos_core.synapse.engine.sampling import SamplingParams
from mlos_core.synapse.engine.sequence import Sequence
from mlos_core.synapse.text import StopChecker

Data = dict[str, Any]


class Choice:
    """One of the answers to a request.

    Args:
        index: which one.
        sequence: its tokens.
        params: the request's.
        draw: what its tokens are drawn with.
        text: the model's.
        matcher: the grammar, if the answer has to have a form.
        parser: looks for tool calls, if there are tools.
        echo: what goes before the answer.
    """

    def __init__(
        self,
        index: int,
        sequence: Sequence,
        params: SamplingParams,
        draw: Draw,
        text: Text,
        matcher: Matcher | None,
        parser: ToolParser | None,
        echo: str,
    ) -> None:
        self.index = index
        self.sequence = sequence
        self.draw = draw
        self.matcher = matcher
        self.finish: str | None = None
        self.last_ns = 0
        """When its last token came; 0: none has."""
        self.calls: list[dict[str, Any]] = []
        self._params = params
        self._text = text
        self._ends = frozenset() if params.ignore_eos else text.eos_ids
        self._stop_ids = frozenset(params.stop_token_ids or ())
        stops = params.stops
        include = params.include_stop_str_in_output
        self._stops = StopChecker(stops, include=include) if stops else None
        self._stopped = False
        # What begins a call may be a control token.
        skip = params.skip_special_tokens and parser is None
        self._detokenizer = text.detokenizer(skip_special=skip)
        self._parser = parser
        self._echo = echo
        self._shown: list[str] = []

    def text(self) -> str:
        """All that was shown."""
        return "".join(self._shown)

    def push(self, token: int, logprobs: Logprobs | None) -> Data:
        """The sequence has got `token`: the event that says so."""
        shown, reason = self._advance(token)
        data: Data = {"i": self.index, "s": ""}
        if self._params.return_tokens:
            data["t"] = [token]
        if logprobs is not None:
            data["l"] = [self._entry(token, logprobs)]
        if self.finish is not None:
            shown += self._rest()
        if self._parser is not None:
            shown = self._parse(self._parser, shown, data)
        if self._echo:
            shown, self._echo = self._echo + shown, ""
        if shown:
            self._shown.append(shown)
            data["s"] = shown
        if self.finish is not None:
            data["f"], data["r"] = self.finish, reason
        return data

    def _advance(self, token: int) -> tuple[str, str | int | None]:
        """What `token` adds, and why it is the last one if it is."""
        if token in self._ends:
            self.finish = "stop"
            return "", None
        if token in self._stop_ids:
            self.finish = "stop"
            if not self._params.include_stop_str_in_output:
                return "", token
            held = "" if self._stops is None else self._stops.flush()
            return held + self._detokenizer.push(token), token
        shown = self._detokenizer.push(token)
        if self._stops is not None and self.sequence.generated >= self._params.min_tokens:
            shown, met = self._stops.push(shown)
            if met is not None:
                self.finish = "stop"
                self._stopped = True
                return shown, met
        if self.matcher is not None:
            self.matcher.accept(token)
            if self.matcher.finished:
                self.finish = "stop"
                return shown, None
        if self.sequence.length >= self.sequence.limit:
            self.finish = "length"
        return shown, None

    def _rest(self) -> str:
        """What was held back, now that nothing follows."""
        if self._stopped:
            return ""
        rest = self._detokenizer.flush()
        return rest if self._stops is None else self._stops.flush() + rest

    def _parse(self, parser: ToolParser, piece: str, data: Data) -> str:
        shown, found = parser.push(piece)
        calls = list(found)
        if self.finish is not None:
            more, found = parser.flush()
            shown += more
            calls += found
        if calls:
            first = len(self.calls)
            news = [
                {"index": first + at, "name": call.name, "arguments": call.arguments}
                for at, call in enumerate(calls)
            ]
            self.calls += news
            data["tc"] = news
        if self.finish == "stop" and self.calls:
            self.finish = "tool_calls"
        return shown

    def _entry(self, token: int, logprobs: Logprobs) -> list[Any]:
        pairs = zip(logprobs.ids, logprobs.values, strict=True)
        others = [[other, value, self._word(other)] for other, value in pairs]
        return [logprobs.chosen, self._word(token), others]

    def _word(self, token: int) -> str | bytes:
        """A token's text; its bytes where they are no text alone."""
        raw = self._text.token_bytes(token)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return raw
