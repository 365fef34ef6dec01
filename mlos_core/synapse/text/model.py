# SPDX-License-Identifier: BUSL-1.1
"""`TextModel`: everything between text and token ids for one model."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mlos_core.errors import InvalidInput, MlosError, Unsupported
from mlos_core.synapse.text import tokenizer as tokenizers
from mlos_core.synapse.text.detokenize import Detokenizer, decode
from mlos_core.synapse.text.grammar import Grammars, Matcher
from mlos_core.synapse.text.structured import StructuredSpec
from mlos_core.synapse.text.tools import ToolParser, formats
from mlos_core.synapse.text.tools.definitions import check_tools, choose, name_of
from mlos_core.synapse.text.tools.prompt import with_tools

if TYPE_CHECKING:
    from mlos_core.synapse.text.chat.template import ChatTemplate


class TextFiles(Protocol):
    """What a model's files say about its text (`files.TextFiles` is one)."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """GGUF's keys; nothing where there is a tokenizer.json."""

    @property
    def tokenizer_file(self) -> Path | None:
        """A tokenizer.json."""

    @property
    def tokenizer_config(self) -> Mapping[str, Any]:
        """The object of tokenizer_config.json."""

    @property
    def chat_template(self) -> str | None:
        """The model's own chat template."""

    @property
    def bos_id(self) -> int | None:
        """The token that begins a text."""

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer; more are known by their names."""


class OpenedModel(Protocol):
    """`files.ModelFiles`, as far as text goes."""

    @property
    def text(self) -> TextFiles:
        """What stands between text and tokens."""


class TextModel:
    """Tokenizer, detokenizer, chat template, tools and grammars of one model.

    Args:
        files: the opened model; it is not needed afterwards.
        chat_template: a template to use instead of the model's own.

    Attributes:
        vocab_size: ids are below this; a model's matrices may have more rows, never fewer.
        bos_id: the token that begins a text, or None.
        eos_ids: the tokens that end an answer.

    Raises:
        LoadFailed: the vocabulary contradicts itself.
        Unsupported: the tokenizer is of an unknown kind, or there is none.
    """

    def __init__(self, files: OpenedModel, *, chat_template: str | None = None) -> None:
        text = files.text
        self.tokenizer = _tokenizer(text)
        # Some tokenizers know more tokens than the model has rows (Gemma 3's for pictures).
        config = getattr(files, "config", None)
        rows = getattr(config, "vocab_size", self.tokenizer.vocabulary.size)
        self.vocab_size = min(self.tokenizer.vocabulary.size, rows)
        self.bos_id = self.tokenizer.bos if text.bos_id is None else text.bos_id
        self.eos_ids = self.tokenizer.ends | frozenset(text.eos_ids)
        self._source = chat_template or text.chat_template
        self._template: ChatTemplate | None = None
        self._grammars = Grammars(self.tokenizer, self.eos_ids, self.vocab_size)
        self._lock = threading.Lock()

    # --- text and ids ---

    def encode(self, text: str, *, special: bool = True, wrap: bool = True) -> list[int]:
        """The ids of `text`. `special`: texts of control tokens become those tokens. `wrap`: put
        BOS (EOS) around it where the model was trained so and the text does not have it.

        Raises:
            InvalidInput: the text names a token that the tokenizer knows and the model does not.
        """
        ids = self.tokenizer.encode(text, special=special, wrap=wrap)
        if ids and (worst := max(ids)) >= self.vocab_size:
            name = self.token_bytes(worst).decode("utf-8", "replace")
            raise InvalidInput(f"the text holds {name!r:.80}, a token that the model does not have")
        return ids

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """The text of `ids`."""
        return decode(self.tokenizer, ids, skip_special=skip_special)

    def token_bytes(self, token: int) -> bytes:
        """What one id adds to the text; control tokens give their names."""
        return self.tokenizer.vocabulary.bytes_of(token)

    def detokenizer(self, *, skip_special: bool = True, continues: bool = True) -> Detokenizer:
        """A stream of ids to text. `continues`: they follow a prompt, so that a SentencePiece
        model's first space is part of the text. Markers of tool calls are always shown.
        """
        marker = self._marker
        shown = frozenset() if marker is None else frozenset({marker})
        return Detokenizer(
            self.tokenizer, skip_special=skip_special, continues=continues, shown=shown
        )

    # --- chat ---

    def template(self) -> ChatTemplate:
        """The chat template, compiled at its first use.

        Raises:
            Unsupported: the model has none.
            LoadFailed: it is no valid template.
        """
        from mlos_core.synapse.text.chat.template import ChatTemplate

        with self._lock:
            if self._template is None:
                if not self._source:
                    raise Unsupported(
                        "this model has no chat template",
                        hint="send a text prompt, or give one with the option chat_template",
                    )
                self._template = ChatTemplate(self._source, self._constants())
            return self._template

    def warm(self) -> None:
        """Compile the chat template before the first chat needs it: 50 ms with its library.

        Meant for a thread beside the loading of weights; what is wrong shows at the first chat.
        """
        with contextlib.suppress(MlosError):
            self.template()

    def _constants(self) -> dict[str, str]:
        known = {
            "bos_token": self.tokenizer.bos,
            "eos_token": self.tokenizer.eos,
            "pad_token": self.tokenizer.pad,
        }
        text_of = self.tokenizer.vocabulary.text_of
        return {name: text_of(i) or "" for name, i in known.items() if i is not None}

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **options: Any,
    ) -> str:
        """The prompt for a chat. Encode it with `wrap=True`: no second BOS is added.

        Raises:
            InvalidInput: a message is wrong, or the template refuses them.
            Unsupported: the model has no chat template.
        """
        from mlos_core.synapse.text.chat.messages import check_messages
        from mlos_core.synapse.text.chat.template import RESERVED

        if forbidden := RESERVED & options.keys():
            raise InvalidInput(f"chat_template_kwargs may not set {sorted(forbidden)}")
        template = self.template()
        checked, defined = check_messages(messages), check_tools(tools)
        if not template.takes_tools:
            checked, defined = with_tools(checked, defined), []
        values = {
            "messages": checked,
            "tools": defined or None,
            "add_generation_prompt": add_generation_prompt,
        }
        return template.render(options | values)

    # --- tools ---

    @cached_property
    def tool_format(self) -> str:
        """How this model writes tool calls: hermes, llama3, mistral; "" where it is unknown."""
        takes = bool(self._source) and self.template().takes_tools
        return formats.detect(self._source or "", takes)

    def tool_parser(self, tools: Sequence[Mapping[str, Any]]) -> ToolParser | None:
        """A parser for one answer; None where the form of this model's calls is not known."""
        names = {name_of(tool) for tool in check_tools(tools)}
        return ToolParser(self.tool_format, names) if self.tool_format else None

    def tool_grammar(
        self, tools: Sequence[Mapping[str, Any]], names: Collection[str] = ()
    ) -> Matcher:
        """An answer that is one call of one of the named tools; of any where none is named.

        Raises:
            InvalidInput: there is no such tool, or no arguments can satisfy its schema.
            Unsupported: the form of this model's calls is not known.
        """
        chosen = check_tools(tools)
        if names:
            chosen = [tool for name in names for tool in choose(chosen, {"name": name})]
        if not chosen:
            raise InvalidInput("a tool has to be called, but there are no tools")
        if not self.tool_format:
            raise Unsupported(
                "how this model writes tool calls is not known",
                hint="use tool_choice auto, or another chat_template",
            )
        lark = formats.grammar(self.tool_format, chosen, self._marker)
        return self.grammar(StructuredSpec.from_request({"grammar": lark}))

    @cached_property
    def _marker(self) -> int | None:
        """The id of the tool-call marker, where it is a control token."""
        vocabulary = self.tokenizer.vocabulary
        name = formats.marker(self._source or "")
        return next((i for i in vocabulary.control if vocabulary.text_of(i) == name), None)

    # --- structured output ---

    def grammar(self, spec: StructuredSpec) -> Matcher:
        """A new matcher for one answer.

        Raises:
            InvalidInput: it is no grammar, nothing can satisfy it, or it is too complex.
        """
        return self._grammars.matcher(spec)

    def prepare_grammars(self) -> None:
        """Build what the first constrained request would have to wait for: 0.1 s for 49,000
        tokens, 1 s and 100 MB for 262,000, without letting other threads run.
        """
        self._grammars.prepare()


def _tokenizer(text: TextFiles) -> tokenizers.Tokenizer:
    if "tokenizer.ggml.model" in text.metadata:
        return tokenizers.from_metadata(text.metadata)
    if text.tokenizer_file is None:
        raise Unsupported(
            "the model has no tokenizer that this engine reads",
            hint="a folder needs a tokenizer.json, a GGUF file its tokenizer.ggml keys",
        )
    return tokenizers.from_file(text.tokenizer_file, text.tokenizer_config)
