# SPDX-License-Identifier: BUSL-1.1
"""What was said so far."""

from __future__ import annotations

from mlos_core.cli.chat.answer import Message


class Conversation:
    """Messages in turns: what the user asks is kept once something was answered."""

    def __init__(self, system: str = "") -> None:
        self.system = system
        self.turns: list[Message] = []

    def asking(self, question: str) -> list[Message]:
        """Everything the model is to see for `question`."""
        before = [{"role": "system", "content": self.system}] if self.system else []
        return [*before, *self.turns, {"role": "user", "content": question}]

    def answered(self, question: str, answer: str) -> None:
        """Keep a turn. Of an answer cut short, what was said counts; without a word, nothing:
        many templates refuse two questions in a row."""
        if answer:
            self.turns.append({"role": "user", "content": question})
            self.turns.append({"role": "assistant", "content": answer})

    def reset(self) -> None:
        """Forget all turns; the system's message stays."""
        self.turns.clear()
