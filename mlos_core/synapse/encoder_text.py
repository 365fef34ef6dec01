# SPDX-License-Identifier: BUSL-1.1
"""Texts to the token ids of a sentence encoder, by the `tokenizer.json` in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer

from mlos_core.errors import InvalidInput, LoadFailed
from mlos_core.synapse.encoder_files import EncoderFiles

FILE: Final = "tokenizer.json"


class EncoderTokenizer:
    """The tokenizer in `folder`, special tokens included, nothing padded.

    Args:
        truncate: cut what is longer than the model takes, as sentence-transformers does;
            otherwise it is an error, as with OpenAI.

    Raises:
        LoadFailed: the file is missing, is no tokenizer, or not this model's.
    """

    def __init__(self, folder: Path, files: EncoderFiles, *, truncate: bool) -> None:
        self.max_tokens = files.max_tokens
        self._lower_case = files.lower_case
        self._tokenizer = _open(folder / FILE)
        size = self._tokenizer.get_vocab_size()
        if size > files.config.vocab_size:
            raise LoadFailed(
                f"{FILE} has {size} tokens, the model {files.config.vocab_size}",
                hint="the two do not belong together",
            )
        # A file may ask for padding, and for a limit that is not the model's.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        if truncate:
            self._tokenizer.enable_truncation(self.max_tokens)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Each text's token ids.

        Raises:
            InvalidInput: a text is too long, and texts are not to be cut; it is numbered.
        """
        if self._lower_case:
            texts = [text.lower() for text in texts]
        found = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]
        for index, ids in enumerate(found):
            if len(ids) > self.max_tokens:
                raise InvalidInput(
                    f"text {index} has {len(ids)} tokens; the model takes {self.max_tokens}",
                    hint="split it, or register the model with the option truncate=true",
                )
        return found


def _open(path: Path) -> Tokenizer:
    if not path.is_file():
        raise LoadFailed(f"{path.parent} has no {FILE}", hint="the model's repository has one")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as err:  # the library raises nothing more specific
        raise LoadFailed(f"{FILE} is no tokenizer: {err}") from err
