# SPDX-License-Identifier: BUSL-1.1
"""A chat: turns of question and answer, and the commands between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import click
import msgspec

from mlos_core.cli import render
from mlos_core.cli.chat import terminal
from mlos_core.cli.chat.answer import CANCELLED, Answer, ask
from mlos_core.cli.chat.conversation import Conversation
from mlos_core.cli.fail import tell
from mlos_core.client import Model
from mlos_core.errors import MlosError

HELP: Final = """\
/reset          forget what was said
/system TEXT    say who the model is to be, and start anew; without TEXT, show it
/help           this
/quit           leave (also ctrl-D)
ctrl-C stops an answer; a line that ends with \\ goes on in the next"""
_ENDS: Final = {CANCELLED: "stopped; ", "length": "cut at the limit of tokens; "}
_LEAVE: Final = frozenset({"/quit", "/exit", "/bye"})


class Chat:
    """One conversation with one model.

    Args:
        parameters: of every request.
        timeout: seconds for one answer.
        as_json: print events, one JSON document a line, instead of text.
        stats: say after each answer how fast it came.
    """

    def __init__(
        self,
        model: Model,
        conversation: Conversation,
        parameters: Mapping[str, Any],
        *,
        timeout: float,
        as_json: bool = False,
        stats: bool = False,
    ) -> None:
        self._model = model
        self._said = conversation
        self._parameters = parameters
        self._timeout = timeout
        self._as_json = as_json
        self._stats = stats

    def turn(self, question: str) -> Answer:
        """Ask, show the answer as it comes, remember both.

        Ctrl-C cancels the request; what was said until then is remembered.
        """
        answer = Answer()
        messages = self._said.asking(question)
        try:
            with ask(self._model, messages, self._parameters, self._timeout) as stream:
                for event in stream:
                    self._show(event, answer.take(event))
        except KeyboardInterrupt:
            answer.finish = CANCELLED
        finally:
            self._said.answered(question, answer.text)
            if answer.text and not self._as_json and not answer.text.endswith("\n"):
                click.echo()
        self._conclude(answer)
        return answer

    def _show(self, event: Any, piece: str) -> None:
        if self._as_json:
            render.print_json_line({"event": event})
        elif piece:
            terminal.show(piece)

    def _conclude(self, answer: Answer) -> None:
        speed = answer.speed()
        if self._as_json:
            render.print_json_line(
                {
                    "message": {"role": "assistant", "content": answer.text},
                    "finish_reason": answer.finish,
                    "speed": msgspec.to_builtins(speed),
                }
            )
            return
        for call in answer.tool_calls:
            terminal.note(f"tool call: {msgspec.json.encode(call, enc_hook=str).decode()}")
        if self._stats:
            terminal.note(f"{_ENDS.get(answer.finish, '')}{speed}")

    # --- with a person -----------------------------------------------------------------------

    def run(self) -> None:
        """Take turns until the person leaves."""
        terminal.line_editing()
        interrupted = False
        while True:
            try:
                line = terminal.read()
            except EOFError:
                click.echo(err=True)
                return
            except KeyboardInterrupt:
                click.echo(err=True)
                if interrupted:
                    return
                interrupted = True
                terminal.note("ctrl-C once more leaves")
                continue
            interrupted = False
            if not self._obey(line):
                return

    def _obey(self, line: str) -> bool:
        """Answer a question or a command; false if it is time to leave."""
        word, _, rest = line.partition(" ")
        if word in _LEAVE:
            return False
        if word.startswith("/") and word[1:].isalpha():
            self._command(word, rest.strip())
        elif line:
            self._try(line)
        return True

    def _try(self, question: str) -> None:
        try:
            self.turn(question)
        except MlosError as error:
            tell(error)

    def _command(self, word: str, rest: str) -> None:
        if word == "/reset":
            self._said.reset()
            terminal.note("forgotten")
        elif word == "/system" and rest:
            self._said.system = rest
            self._said.reset()
            terminal.note("noted; a new conversation begins")
        elif word == "/system":
            terminal.note(self._said.system or "no system message")
        else:
            if word != "/help":
                terminal.note(f"there is no command {word}")
            terminal.note(HELP)
