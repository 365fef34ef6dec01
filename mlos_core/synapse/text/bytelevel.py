# SPDX-License-Identifier: BUSL-1.1
"""Byte-level BPE (GPT-2's kind) built from a GGUF file's vocabulary and merges."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from mlos_core.errors import LoadFailed
from mlos_core.synapse.text.metadata import TokenizerMetadata
from mlos_core.synapse.text.pretokenizers import Way, find_way, pre_tokenizer
from mlos_core.synapse.text.vocabulary import CONTROL, UNKNOWN, USER, Vocabulary


def _alphabet() -> dict[str, int]:
    # GPT-2's table: bytes that print stand for themselves, the others follow from U+0100 on.
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printed)]
    table = {chr(byte): byte for byte in printed}
    return table | {chr(0x100 + i): byte for i, byte in enumerate(others)}


BYTE_OF: Final = _alphabet()


def to_bytes(text: str) -> bytes:
    """The bytes behind a token's text; a character outside the alphabet stands for itself."""
    try:
        return bytes([BYTE_OF[char] for char in text])
    except KeyError:
        return text.encode("utf-8", "replace")


@contextmanager
def _no_collections() -> Iterator[None]:
    # A hundred thousand pairs would start the cycle collector again and again, for nothing.
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def give_back() -> None:
    """Return the memory of what is not needed any more to the system: half of 35 MB."""
    with suppress(AttributeError, OSError):  # only glibc has this
        ctypes.CDLL(None).malloc_trim(0)


def _merges(metadata: TokenizerMetadata) -> list[tuple[str, str]]:
    pairs = metadata.strings("merges")
    try:
        words = b" ".join(pairs).decode().split(" ") if pairs else []
    except UnicodeDecodeError as error:
        raise LoadFailed("a merge of the model file is not UTF-8") from error
    if len(words) != 2 * len(pairs):
        raise LoadFailed("a merge of the model file (tokenizer.ggml.merges) is not two words")
    return list(zip(words[::2], words[1::2], strict=True))


def _tokenizer(metadata: TokenizerMetadata, texts: list[str], way: Way) -> Any:
    from tokenizers import AddedToken, Tokenizer, normalizers
    from tokenizers.models import BPE

    vocab = dict(zip(texts, range(len(texts)), strict=True))
    try:
        model = BPE(vocab, _merges(metadata), ignore_merges=way.whole_words)
    except Exception as error:  # the library raises plain exceptions for what it dislikes
        raise LoadFailed(f"the model file's merges do not fit its vocabulary: {error}") from error
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer(way)
    if way.composes:
        tokenizer.normalizer = normalizers.NFC()
    for kinds, special in (((CONTROL, UNKNOWN), True), ((USER,), False)):
        ids = metadata.of_kind(*kinds)
        tokenizer.add_tokens(
            [AddedToken(texts[i], special=special, normalized=False) for i in ids if texts[i]]
        )
    return tokenizer


def build(metadata: TokenizerMetadata) -> tuple[Any, Vocabulary, bool]:
    """The library's tokenizer, the vocabulary, and whether BOS belongs in front by default.

    Raises:
        LoadFailed: the vocabulary and the merges do not fit together.
        Unsupported: the file names a pre-tokenizer that is unknown.
    """
    way = find_way(metadata.name("pre"))
    with _no_collections():
        tokenizer = _tokenizer(metadata, metadata.texts(), way)
    give_back()
    vocabulary = Vocabulary(
        len(metadata.tokens),
        tokenizer.id_to_token,
        to_bytes,
        literal=metadata.of_kind(USER),
        control=metadata.of_kind(CONTROL, UNKNOWN),
    )
    return tokenizer, vocabulary, way.add_bos
