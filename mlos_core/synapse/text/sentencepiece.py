# SPDX-License-Identifier: BUSL-1.1
"""SentencePiece's BPE (Llama 2, Mistral, Gemma), straight from a vocabulary with scores.

A general BPE library wants merges; a SentencePiece vocabulary has none, and deriving half a
million of them for Gemma takes a second and 130 MB. The algorithm itself needs only the
vocabulary: of all neighbours whose join is a token, join the pair of the best score, the
leftmost of equals, until none is left. What is left and no token falls back to its bytes.

Words are cut apart first where no token can reach across (before a space mark that no token
has inside, after that character), which changes nothing and makes the results worth caching.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import Final

import numpy as np

from mlos_core.errors import LoadFailed
from mlos_core.synapse.text.metadata import TokenizerMetadata
from mlos_core.synapse.text.vocabulary import BYTE, CONTROL, UNKNOWN, UNUSED, USER, Vocabulary

SPACE: Final = "\u2581"
CACHED_WORDS: Final = 20_000
CACHED_LENGTH: Final = 40
_BYTE_NAME = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def to_bytes(text: str) -> bytes:
    """The bytes behind a token's text."""
    byte = _BYTE_NAME.fullmatch(text)
    return bytes([int(byte[1], 16)]) if byte else text.replace(SPACE, " ").encode()


class SentencePieceBpe:
    """Text without special tokens to ids.

    Args:
        ids: the id of every token that may come of a merge, by its text.
        scores: by id; higher is merged earlier.
        byte_ids: 256 ids, or empty where the vocabulary has no byte tokens.
        unknown: the id for what cannot be written otherwise.
    """

    def __init__(
        self, ids: dict[str, int], scores: array[float], byte_ids: list[int], unknown: int
    ) -> None:
        self._ids, self._scores = ids, scores
        self._byte_ids, self._unknown = byte_ids, unknown
        joiners = set(re.findall(f"([^{SPACE}\0]){SPACE}", "\0".join(ids)))
        closed = "".join(re.escape(char) for char in sorted(joiners))
        self._words = re.compile(f"(?<=[^{SPACE}{closed}])(?={SPACE})")
        self._cache: dict[str, list[int]] = {}

    def encode(self, text: str) -> list[int]:
        """The ids of `text`."""
        out: list[int] = []
        cache = self._cache
        for word in self._words.split(text.replace(" ", SPACE)):
            known = cache.get(word)
            if known is None:
                known = self._encode_word(word)
                if len(word) <= CACHED_LENGTH:
                    if len(cache) >= CACHED_WORDS:
                        cache.clear()
                    cache[word] = known
            out += known
        return out

    def _encode_word(self, word: str) -> list[int]:
        whole = self._ids.get(word)
        # A single character cannot come apart; a longer token may not be what merging gives.
        if whole is not None and len(word) == 1:
            return [whole]
        out: list[int] = []
        for piece in self._merge(word):
            token = self._ids.get(piece)
            if token is not None:
                out.append(token)
            else:
                out += self._bytes_of(piece)
        return out

    def _bytes_of(self, piece: str) -> Iterable[int]:
        if not self._byte_ids:
            return [self._unknown]
        # The replaced spaces are tokens in any vocabulary of this kind.
        return [self._byte_ids[byte] for byte in piece.encode()]

    def _merge(self, word: str) -> list[str]:
        """The pieces of `word`, in order; piece i reaches to piece `after[i]`."""
        ids, scores = self._ids, self._scores
        pieces: list[str] = list(word)
        count = len(pieces)
        before = list(range(-1, count - 1))
        after = list(range(1, count + 1))
        heap = [
            (-scores[token], i, i + 1, pair)
            for i in range(count - 1)
            if (token := ids.get(pair := pieces[i] + pieces[i + 1])) is not None
        ]
        heapify(heap)
        while heap:
            _, left, right, joined = heappop(heap)
            # Stale: one of the two was merged meanwhile ("" marks the right half of a merge).
            if not pieces[left] or not pieces[right] or pieces[left] + pieces[right] != joined:
                continue
            pieces[left], pieces[right] = joined, ""
            following = after[left] = after[right]
            previous = before[left]
            if following < count:
                before[following] = left
                pair = joined + pieces[following]
                if (token := ids.get(pair)) is not None:
                    heappush(heap, (-scores[token], left, following, pair))
            if previous >= 0:
                pair = pieces[previous] + joined
                if (token := ids.get(pair)) is not None:
                    heappush(heap, (-scores[token], previous, left, pair))
        return [piece for piece in pieces if piece]


def _byte_ids(metadata: TokenizerMetadata) -> list[int]:
    found = [-1] * 256
    for token in metadata.of_kind(BYTE):
        name = _BYTE_NAME.fullmatch(metadata.tokens[token].decode("utf-8", "replace"))
        if name:
            found[int(name[1], 16)] = token
    return [] if -1 in found else found


def build(metadata: TokenizerMetadata) -> tuple[SentencePieceBpe, Vocabulary]:
    """The encoder and the vocabulary of a GGUF file of the `llama` kind.

    Raises:
        LoadFailed: scores or bytes are missing.
    """
    scores = metadata.numbers("scores")
    if scores is None:
        raise LoadFailed("the model file has no scores for its tokens (tokenizer.ggml.scores)")
    texts = metadata.texts()
    ids = dict(zip(texts, range(len(texts)), strict=True))
    for token in metadata.of_kind(UNKNOWN, CONTROL, UNUSED, BYTE):
        ids.pop(texts[token], None)
    ids.pop("", None)
    byte_ids = _byte_ids(metadata)
    unknown = metadata.token("unknown")
    if not byte_ids and unknown is None:
        raise LoadFailed("the model file has neither byte tokens nor an unknown token")
    vocabulary = Vocabulary(
        len(texts),
        texts.__getitem__,
        to_bytes,
        literal=metadata.of_kind(USER),
        control=metadata.of_kind(CONTROL, UNKNOWN),
    )
    encoder = SentencePieceBpe(
        ids, array("d", scores.astype(np.float64).tobytes()), byte_ids, unknown or 0
    )
    return encoder, vocabulary
