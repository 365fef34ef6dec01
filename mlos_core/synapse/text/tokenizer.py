# SPDX-License-Identifier: BUSL-1.1
"""One face for the kinds of tokenizers: text to ids, ids to bytes.

A model comes with a `tokenizer.json` (a Hugging Face folder) or with its vocabulary inside a
GGUF file. Byte-level BPE and anything from a `tokenizer.json` run in the `tokenizers` library;
a SentencePiece vocabulary from GGUF runs in `sentencepiece.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from mlos_core.errors import Unsupported
from mlos_core.synapse.text import bytelevel, hub, sentencepiece
from mlos_core.synapse.text.metadata import TokenizerMetadata
from mlos_core.synapse.text.specials import SpecialTokens
from mlos_core.synapse.text.vocabulary import CONTROL, UNKNOWN, USER, Vocabulary


class Encoder(Protocol):
    """Text to ids, without anything put around them."""

    def encode(self, text: str, special: bool) -> list[int]:
        """With `special`, the texts of control tokens become those tokens."""
        ...


class LibraryEncoder:
    """An encoder of the `tokenizers` library."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        # Whether control tokens are looked for is a state of the library's object.
        self._lock = threading.Lock()

    def encode(self, text: str, special: bool) -> list[int]:
        """See `Encoder`."""
        with self._lock:
            self._tokenizer.encode_special_tokens = not special
            return hub.encode(self._tokenizer, text)


class SentencePieceEncoder:
    """The runs between special tokens through SentencePiece's BPE.

    With `space_prefix` a space goes in front of the text and after each special token, as
    the models with that setting were trained.
    """

    def __init__(
        self,
        bpe: sentencepiece.SentencePieceBpe,
        control: SpecialTokens,
        user: SpecialTokens,
        space_prefix: bool,
    ) -> None:
        self._bpe, self._prefix = bpe, " " if space_prefix else ""
        self._control, self._user = control, user

    def encode(self, text: str, special: bool) -> list[int]:
        """See `Encoder`."""
        out: list[int] = []
        fresh = True
        # SentencePiece writes a space as this mark, and takes one in the text for a space.
        text = text.replace(sentencepiece.SPACE, " ")
        for part in (self._control if special else self._user).split(text):
            if isinstance(part, int):
                out.append(part)
                fresh = True
            else:
                out += self._bpe.encode(self._prefix + part if fresh else part)
                fresh = False
        return out


class Tokenizer:
    """A model's tokenizer.

    Attributes:
        vocabulary: what the ids mean.
        before, after: the ids put around a text that stands for itself (BOS, EOS).
        bos, eos, pad: ids, or None.
        ends: every id that ends an answer.
        strips_space: a text's first space belongs to the tokenizer, not to the text.
    """

    def __init__(
        self,
        encoder: Encoder,
        vocabulary: Vocabulary,
        *,
        before: list[int],
        after: list[int],
        bos: int | None,
        eos: int | None,
        pad: int | None = None,
        ends: frozenset[int] = frozenset(),
        strips_space: bool = False,
    ) -> None:
        self._encoder = encoder
        self.vocabulary = vocabulary
        self.before, self.after = before, after
        self.bos, self.eos, self.pad = bos, eos, pad
        named = frozenset() if eos is None else frozenset({eos})
        self.ends = ends | named | vocabulary.ends()
        self.strips_space = strips_space

    def encode(self, text: str, *, special: bool = True, wrap: bool = True) -> list[int]:
        """The ids of `text`; lone surrogates count as U+FFFD.

        Args:
            text: any text.
            special: the texts of control tokens become those tokens.
            wrap: put BOS and EOS around it where the model wants that, unless the text (a
                rendered chat) brings them itself.
        """
        try:
            ids = self._encoder.encode(text, special)
        except UnicodeEncodeError:
            whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            ids = self._encoder.encode(whole, special)
        if not wrap:
            return ids
        if self.before and ids[: len(self.before)] != self.before:
            ids = self.before + ids
        if self.after and (len(ids) < 2 or ids[-len(self.after) :] != self.after):
            ids = ids + self.after
        return ids


def from_metadata(metadata: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer inside a GGUF file's metadata.

    Raises:
        LoadFailed: the metadata contradict themselves.
        Unsupported: the kind or the pre-tokenizer is unknown.
    """
    read = TokenizerMetadata(metadata)
    kind = read.name("model")
    encoder: Encoder
    if kind == "gpt2":
        library, vocabulary, default_bos = bytelevel.build(read)
        encoder, prefix = LibraryEncoder(library), False
    elif kind == "llama":
        bpe, vocabulary = sentencepiece.build(read)
        prefix, default_bos = read.flag("add_space_prefix", True), True
        encoder = SentencePieceEncoder(bpe, *_specials(read, vocabulary), prefix)
        bytelevel.give_back()
    else:
        raise Unsupported(
            f"the tokenizer kind {kind!r:.80} of the model file is unknown",
            hint="known are gpt2 (byte-level BPE) and llama (SentencePiece)",
        )
    bos, eos = read.token("bos"), read.token("eos")
    also = (read.token("eot"), read.token("eom"))
    return Tokenizer(
        encoder,
        vocabulary,
        before=[bos] if bos is not None and read.flag("add_bos_token", default_bos) else [],
        after=[eos] if eos is not None and read.flag("add_eos_token", False) else [],
        bos=bos,
        eos=eos,
        pad=read.token("padding"),
        ends=frozenset(token for token in also if token is not None),
        strips_space=prefix,
    )


def _specials(
    read: TokenizerMetadata, vocabulary: Vocabulary
) -> tuple[SpecialTokens, SpecialTokens]:
    user = {vocabulary.text_of(i) or "": i for i in read.of_kind(USER)}
    control = {vocabulary.text_of(i) or "": i for i in read.of_kind(CONTROL, UNKNOWN)}
    return SpecialTokens(control | user), SpecialTokens(user)


def from_file(path: Path, settings: Mapping[str, Any] | None = None) -> Tokenizer:
    """The tokenizer of a `tokenizer.json`.

    Args:
        path: the file.
        settings: the object of the tokenizer_config.json beside it: names of BOS, EOS, ...

    Raises:
        LoadFailed: the library does not accept the file.
    """
    library = hub.load(path)
    settings = settings or {}
    vocabulary, strips_space = hub.vocabulary(library)
    before, after = hub.around(library)
    return Tokenizer(
        LibraryEncoder(library),
        vocabulary,
        before=before,
        after=after,
        bos=hub.token(library, settings, "bos_token"),
        eos=hub.token(library, settings, "eos_token"),
        pad=hub.token(library, settings, "pad_token"),
        strips_space=strips_space,
    )
