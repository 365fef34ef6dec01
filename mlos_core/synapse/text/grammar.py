# SPDX-License-Identifier: BUSL-1.1
"""Structured output: which tokens may come next, by the llguidance library.

Why llguidance and not xgrammar (both measured on a schema with three properties, SmolLM2's
49,152 and Gemma's 262,144 tokens): llguidance (MIT, one abi3 wheel for every Python from 3.9,
8 MB, no dependencies, imported in 45 ms) compiles a schema in under 1 ms and gives a mask in
2 to 120 us; it reads JSON schema, regular expressions and Lark grammars, and counts "fuel", so
that a hostile grammar ends with an error. xgrammar's masks cost the same (1 to 140 us) and its
table of a vocabulary is built faster (68 ms against 110; 0.3 s against 1), but it compiles a
schema in 6 to 90 ms and needs torch, transformers and triton: 250 MB and 4 s of imports.

The library's table of the vocabulary is built at the first constrained request (`prepare` does
it before), compiled grammars are kept, the least recently used leaves.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final

from mlos_core.errors import InvalidInput
from mlos_core.synapse.text.structured import StructuredSpec
from mlos_core.synapse.text.tokenizer import Tokenizer
from mlos_core.types import Array

KEPT: Final = 16
LIMITS: Final[dict[str, Any]] = {
    "initial_lexer_fuel": 300_000,
    "step_lexer_fuel": 50_000,
    "max_lexer_states": 10_000,
    "max_grammar_size": 50_000,
    "step_max_items": 20_000,
    "verbose_errors": False,
}
"""A tenth to a third of the library's own: under half a second and 70 MB for the worst of our
hostile patterns, instead of 3 s and 230 MB, and nothing lost for real schemas."""
JSON_STYLE: Final[Any] = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}
"""As Python writes JSON. Where any white space is allowed, small models write it for ever."""


SLICES: Final = [r'[^"\\\x00-\x1F\x7F]{1,10}', r'[^"\\\x00-\x1F\x7F]+']
"""Sets of tokens that the library knows the masks of beforehand: text inside JSON strings. Two
of its usual four; the others add half to the time of the table and gain nothing measurable."""


class _Bridge:
    """The vocabulary as the library wants to see it."""

    def __init__(self, tokenizer: Tokenizer, ends: Iterable[int], size: int) -> None:
        vocabulary = tokenizer.vocabulary
        self._tokenizer = tokenizer
        self.table: Any = None
        self.tokens = [vocabulary.bytes_of(i) or b"\xff" for i in range(size)]
        self.eos_token_id = min(ends, default=0)
        self.bos_token_id = tokenizer.bos
        self.special_token_ids = sorted(i for i in vocabulary.control if i < size)
        self.is_tokenizer_wrapper = True

    def __call__(self, text: bytes | str) -> list[int]:
        """The tokens of a text in the middle of an answer."""
        data = text.encode("utf-8", "replace") if isinstance(text, str) else text
        ids = self._tokenizer.encode(data.decode("utf-8", "replace"), special=False, wrap=False)
        written = b"".join(self.tokens[i] for i in ids if i < len(self.tokens))
        if written == data or self.table is None:
            return ids
        # A tokenizer that adds a space of its own, or bytes that are no text.
        greedy: list[int] = self.table.greedy_tokenize(data.decode("utf-8", "replace"))
        return greedy


class Matcher:
    """One answer on its way through a grammar."""

    def __init__(self, matcher: Any, words: int) -> None:
        self._matcher, self._words = matcher, words

    def mask_into(self, mask: Array) -> None:
        """Set the bits of the tokens that may come next.

        Args:
            mask: uint32[ceil(vocab / 32)], bit i % 32 of word i // 32 for token i; words
                beyond the tokenizer's vocabulary become 0.

        Raises:
            InvalidInput: the grammar became too complex at this point.
        """
        if mask.dtype.itemsize != 4 or mask.ndim != 1 or mask.shape[0] < self._words:
            raise InvalidInput(f"the mask needs {self._words} words of 32 bits")
        mask[self._words :] = 0
        self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, self._words * 4)
        self._check()

    def accept(self, token: int) -> None:
        """Take the token that was chosen; an end token where the answer may end.

        Raises:
            InvalidInput: it does not fit; the matcher is of no use any more.
        """
        if not self._matcher.consume_token(token):
            raise InvalidInput(f"token {token} does not fit the grammar: {self._error()}")

    def _error(self) -> str:
        return _short(self._matcher.get_error())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise InvalidInput(f"the grammar cannot go on: {self._error()}")

    @property
    def accepting(self) -> bool:
        """The answer may end here."""
        return bool(self._matcher.is_accepting())

    @property
    def finished(self) -> bool:
        """Nothing but the end can follow."""
        return bool(self._matcher.is_stopped())


class Grammars:
    """Compiled grammars of one model.

    Args:
        tokenizer: the model's.
        ends: the ids that end an answer.
        vocab_size: ids are below this.
    """

    def __init__(self, tokenizer: Tokenizer, ends: frozenset[int], vocab_size: int) -> None:
        self._tokenizer, self._size = tokenizer, vocab_size
        self._ends = sorted(end for end in ends if end < vocab_size)
        self._words = (vocab_size + 31) // 32
        self._table: Any = None
        self._kept: OrderedDict[StructuredSpec, Any] = OrderedDict()
        self._lock = threading.Lock()

    def prepare(self) -> Any:
        """Build the library's table of the vocabulary, if it is not there yet."""
        from llguidance import LLTokenizer

        with self._lock:
            if self._table is None:
                bridge: Any = _Bridge(self._tokenizer, self._ends, self._size)
                self._table = LLTokenizer(
                    bridge,
                    n_vocab=self._size,
                    eos_token=self._ends or [0],
                    slices=SLICES,
                )
                bridge.table = self._table
            return self._table

    def matcher(self, spec: StructuredSpec) -> Matcher:
        """A new matcher at the beginning of `spec`.

        Raises:
            InvalidInput: it is no grammar, nothing fits it, or it is too complex.
        """
        with self._lock:
            known = self._kept.get(spec)
            if known is not None:
                self._kept.move_to_end(spec)
                return Matcher(known.deep_copy(), self._words)
        compiled = self._compile(spec)
        with self._lock:
            self._kept[spec] = compiled
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return Matcher(compiled.deep_copy(), self._words)

    def _compile(self, spec: StructuredSpec) -> Any:
        from llguidance import LLMatcher, LLParserLimits

        table = self.prepare()
        try:
            source = _source(spec)
        except ValueError as error:
            raise InvalidInput(f"structured.{spec.kind}: {error}") from error
        compiled = LLMatcher(table, source, log_level=0, limits=LLParserLimits(**LIMITS))
        if not compiled.is_error():
            # The first mask finds what nothing can satisfy, and what costs too much.
            probe = compiled.deep_copy()
            probe.compute_bitmask()
            if not probe.is_error():
                if probe.is_stopped() and not probe.is_accepting():
                    raise InvalidInput(f"structured.{spec.kind}: no answer can satisfy it")
                return compiled
            compiled = probe
        raise InvalidInput(f"structured.{spec.kind}: {_short(compiled.get_error())}")

    def statistics(self) -> dict[str, float]:
        """Compiled grammars that are kept."""
        with self._lock:
            return {"grammars": float(len(self._kept))}


def _short(message: str) -> str:
    """The library's message without its state dump."""
    if message.startswith("panic"):
        return "it is too large for the grammar compiler"
    if message.startswith("NoExtension"):
        return "no answer can satisfy it"
    return message.split("\n<", 1)[0].strip()[:500]


def _source(spec: StructuredSpec) -> str:
    """`spec` as the library's own grammar."""
    from llguidance import LLMatcher

    if spec.kind in ("json", "json_object"):
        schema = spec.text or '{"type": "object"}'
        return str(LLMatcher.grammar_from_json_schema(schema, overrides=JSON_STYLE))
    if spec.kind == "regex":
        return str(LLMatcher.grammar_from_regex(spec.text))
    if spec.kind == "choice":
        words = (json.dumps(choice, ensure_ascii=False) for choice in json.loads(spec.text))
        return str(LLMatcher.grammar_from_lark("start: " + " | ".join(words)))
    return str(LLMatcher.grammar_from_lark(spec.text))
