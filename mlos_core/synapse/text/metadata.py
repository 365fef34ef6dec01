# SPDX-License-Identifier: BUSL-1.1
"""Reading `tokenizer.*` out of a GGUF file's metadata, with every type and range checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlos_core.errors import LoadFailed
from mlos_core.types import Array

PREFIX = "tokenizer.ggml."


class TokenizerMetadata:
    """Typed access to the keys below `tokenizer.ggml.`.

    Raises (all methods):
        LoadFailed: the value has another type, or names a token that is not there.
    """

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self._all = metadata
        self.tokens: Sequence[bytes] = self.strings("tokens")
        if not self.tokens:
            raise LoadFailed("the model file has no vocabulary (tokenizer.ggml.tokens)")
        self._kinds = self.numbers("token_type")

    def strings(self, key: str) -> Sequence[bytes]:
        """An array of strings, empty where there is none."""
        value = self._all.get(PREFIX + key, ())
        if not isinstance(value, (list, tuple)) or not set(map(type, value)) <= {bytes}:
            raise LoadFailed(f"the model file's {PREFIX}{key} is not an array of strings")
        return value

    def texts(self) -> list[str]:
        """The tokens, decoded."""
        try:
            # All at once: a vocabulary has up to a quarter of a million of them.
            texts = b"\0".join(self.tokens).decode().split("\0")
            same = len(texts) == len(self.tokens)
            return texts if same else [token.decode() for token in self.tokens]
        except UnicodeDecodeError as error:
            raise LoadFailed("a token of the model file is not UTF-8") from error

    def numbers(self, key: str) -> Array | None:
        """An array with one number per token, or None."""
        value = self._all.get(PREFIX + key)
        if value is None:
            return None
        try:
            numbers = np.asarray(value)
        except ValueError:
            numbers = np.empty(0)
        if numbers.shape != (len(self.tokens),) or numbers.dtype.kind not in "iuf":
            raise LoadFailed(
                f"the model file's {PREFIX}{key} does not have one number for each of the"
                f" {len(self.tokens)} tokens"
            )
        return numbers

    def of_kind(self, *kinds: int) -> list[int]:
        """The ids of the tokens of these kinds."""
        if self._kinds is None:
            return []
        found: list[int] = np.flatnonzero(np.isin(self._kinds, kinds)).tolist()
        return found

    def flag(self, key: str, default: bool) -> bool:
        """A truth value."""
        value = self._all.get(PREFIX + key, default)
        if not isinstance(value, (bool, int)):
            raise LoadFailed(f"the model file's {PREFIX}{key} is not true or false: {value!r:.80}")
        return bool(value)

    def name(self, key: str, default: str = "") -> str:
        """A string."""
        value = self._all.get(PREFIX + key, default)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if not isinstance(value, str):
            raise LoadFailed(f"the model file's {PREFIX}{key} is not a string: {value!r:.80}")
        return value

    def token(self, key: str) -> int | None:
        """A token id, or None where the file names none."""
        value = self._all.get(f"{PREFIX}{key}_token_id")
        if value is None:
            return None
        if not isinstance(value, int) or not 0 <= value < len(self.tokens):
            raise LoadFailed(
                f"the model file's {key} token {value!r:.40} is not among its"
                f" {len(self.tokens)} tokens"
            )
        return int(value)
