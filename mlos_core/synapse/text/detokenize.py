# SPDX-License-Identifier: BUSL-1.1
"""Token ids back to text, one at a time, without ever cutting a character in two."""

from __future__ import annotations

import codecs
from collections.abc import Iterable

from mlos_core.synapse.text.tokenizer import Tokenizer


class Detokenizer:
    """Text of a stream of tokens.

    A token may end inside a character; its bytes wait for the rest. Bytes that no rest can
    make a character become U+FFFD. All pieces and `flush()` together are what `decode` gives
    for all the ids at once.

    Args:
        tokenizer: the model's.
        skip_special: control tokens give no text.
        continues: the tokens go on after others, so that a first space is text.
        shown: control tokens that give their names all the same (markers of tool calls).
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        skip_special: bool = True,
        continues: bool = False,
        shown: frozenset[int] = frozenset(),
    ) -> None:
        self._bytes_of = tokenizer.vocabulary.bytes_of
        self._skipped = tokenizer.vocabulary.control - shown if skip_special else frozenset()
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._strip = tokenizer.strips_space and not continues

    def push(self, token: int) -> str:
        """The text that `token` completes; "" while a character is incomplete."""
        if token in self._skipped:
            return ""
        data = self._bytes_of(token)
        if self._strip and data:
            self._strip = False
            data = data.removeprefix(b" ")
        return self._decode(data)

    def flush(self) -> str:
        """What is left when no token follows: U+FFFD for an incomplete character."""
        return self._decode(b"", True)


def decode(tokenizer: Tokenizer, ids: Iterable[int], *, skip_special: bool = True) -> str:
    """The text of `ids`; ids that are no token give nothing."""
    stream = Detokenizer(tokenizer, skip_special=skip_special)
    return "".join([*map(stream.push, ids), stream.flush()])
