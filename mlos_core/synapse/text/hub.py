# SPDX-License-Identifier: BUSL-1.1
"""What a Hugging Face folder says about its tokenizer: tokenizer.json, tokenizer_config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlos_core.errors import LoadFailed
from mlos_core.synapse.text import bytelevel, sentencepiece
from mlos_core.synapse.text.vocabulary import Vocabulary


def load(path: Path) -> Any:
    """The library's tokenizer of `path`, without truncation or padding.

    Raises:
        LoadFailed: the library does not accept the file.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain exceptions
        raise LoadFailed(f"{path} is not a tokenizer: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def token(tokenizer: Any, settings: Mapping[str, Any], name: str) -> int | None:
    """The id of the token that the settings call `name`, or None."""
    value = settings.get(name)
    text = value.get("content") if isinstance(value, dict) else value
    found = tokenizer.token_to_id(text) if isinstance(text, str) else None
    return None if found is None else int(found)


def around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer's post-processor puts before and after a text."""
    probe = "a"
    bare = tokenizer.encode(probe, add_special_tokens=False).ids
    full = tokenizer.encode(probe, add_special_tokens=True).ids
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return list(full[:start]), list(full[start + len(bare) :])
    return [], []


def _decoders(tokenizer: Any) -> list[dict[str, Any]]:
    if tokenizer.decoder is None:
        return []
    state = json.loads(tokenizer.decoder.__getstate__())
    steps = state.get("decoders", [state])
    return [step for step in steps if isinstance(step, dict)]


def _from_wordpiece(text: str) -> bytes:
    return (text[2:] if text.startswith("##") else f" {text}").encode()


def vocabulary(tokenizer: Any) -> tuple[Vocabulary, bool]:
    """The vocabulary, and whether a text's first space is the tokenizer's own."""
    steps = {step.get("type"): step for step in _decoders(tokenizer)}
    if "ByteLevel" in steps:
        to_bytes = bytelevel.to_bytes
    elif "WordPiece" in steps:
        to_bytes = _from_wordpiece
    else:
        to_bytes = sentencepiece.to_bytes
    added = tokenizer.get_added_tokens_decoder()
    size = max([tokenizer.get_vocab_size(with_added_tokens=True), *(i + 1 for i in added)])
    metaspace = steps.get("Metaspace", {}).get("prepend_scheme", "never") != "never"
    return (
        Vocabulary(
            size,
            tokenizer.id_to_token,
            to_bytes,
            literal=added,
            control=[i for i, token in added.items() if token.special],
        ),
        metaspace or "Strip" in steps or "WordPiece" in steps,
    )
