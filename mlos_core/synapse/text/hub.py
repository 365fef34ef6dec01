# SPDX-License-Identifier: BUSL-1.1
"""What a Hugging Face folder says about its tokenizer: tokenizer.json, tokenizer_config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mlos_core.errors import InvalidInput, LoadFailed, MlosError
from mlos_core.synapse.text import bytelevel, sentencepiece
from mlos_core.synapse.text.vocabulary import Vocabulary

MAX_GROWTH: Final = 64


def load(path: Path) -> Any:
    """The library's tokenizer of `path`, without truncation or padding.

    Raises:
        LoadFailed: the library does not accept the file.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except BaseException as error:
        raise _translated(error, LoadFailed, f"{path} is not a tokenizer") from error
    _check_growth(tokenizer, path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _translated(error: BaseException, kind: type[MlosError], message: str) -> BaseException:
    """The library raises plain exceptions, and a BaseException of its own where it panics."""
    if isinstance(error, Exception) or type(error).__name__ == "PanicException":
        return kind(f"{message}: {error}"[:500])
    return error


def encode(tokenizer: Any, text: str, *, around: bool = False) -> list[int]:
    """The ids of `text`; with `around` also what belongs before and after it.

    Raises:
        UnicodeEncodeError: there is a lone surrogate in it.
        InvalidInput: one of the tokenizer's regular expressions gives up on it.
    """
    try:
        return list(tokenizer.encode(text, add_special_tokens=around).ids)
    except BaseException as error:
        text.encode()
        raise _translated(error, InvalidInput, "the tokenizer fails on this text") from error


def _check_growth(tokenizer: Any, path: Path) -> None:
    """Refuse normalizers that blow a text up, each replacement by its factor."""
    steps = [] if tokenizer.normalizer is None else [_state(tokenizer.normalizer)]
    factor = 1
    while steps:
        step = steps.pop()
        steps += step.get("normalizers", [])
        factor *= max(1, len(str(step.get("content", ""))))
    if factor > MAX_GROWTH:
        raise LoadFailed(f"{path} has normalizers that make a text up to {factor} times as long")


def _state(part: Any) -> dict[str, Any]:
    state = json.loads(part.__getstate__())
    return state if isinstance(state, dict) else {}


def token(tokenizer: Any, settings: Mapping[str, Any], name: str) -> int | None:
    """The id of the token that the settings call `name`, or None."""
    value = settings.get(name)
    text = value.get("content") if isinstance(value, dict) else value
    found = tokenizer.token_to_id(text) if isinstance(text, str) else None
    return None if found is None else int(found)


def around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer's post-processor puts before and after a text.

    Raises:
        LoadFailed: it cannot even do that.
    """
    try:
        bare, full = (encode(tokenizer, "a", around=more) for more in (False, True))
    except InvalidInput as error:
        raise LoadFailed(f"the tokenizer.json does not work: {error.message}") from error
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return full[:start], full[start + len(bare) :]
    return [], []


def _decoders(tokenizer: Any) -> list[dict[str, Any]]:
    if tokenizer.decoder is None:
        return []
    state = _state(tokenizer.decoder)
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
    size = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
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
