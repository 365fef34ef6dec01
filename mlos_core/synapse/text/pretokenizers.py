# SPDX-License-Identifier: BUSL-1.1
"""How byte-level models cut text into words before any merge, by the name GGUF files give it.

Each way is a list of regular expressions applied one after the other; what an expression
matches becomes a piece of its own, and so does what lies between two matches.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from mlos_core.errors import Unsupported

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SYMBOLS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"

GPT2: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3: Final = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}{_SYMBOLS}{_TAIL}"
QWEN2: Final = rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{_SYMBOLS}{_TAIL}"


def _cased(after: str, digits: str) -> str:
    # Words that change from small to capital letters are cut there.
    start = r"[^\r\n\p{L}\p{N}]?"
    words = f"{start}{_UPPER}*{_LOWER}+{after}|{start}{_UPPER}+{_LOWER}*{after}"
    return rf"{words}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*{_TAIL}"


class Way(NamedTuple):
    """One way of cutting, and what else models that use it have in common."""

    patterns: tuple[str, ...]
    whole_words: bool = False
    """A word that is a token itself is taken without looking at merges."""
    add_bos: bool = False
    """The text begins with the model's BOS unless the file says otherwise."""
    composes: bool = False
    """Letters and their marks are joined first (Unicode's NFC), as in Qwen's own tokenizer."""


_WAYS: Final[tuple[tuple[Way, str], ...]] = (
    (Way((GPT2,)), "gpt-2 phi-2 mpt olmo jais jina-es jina-de roberta-bpe gigachat trillion"),
    (
        Way((r"\p{N}", GPT2)),
        "smollm starcoder refact command-r codeshell exaone minerva-7b",
    ),
    (
        Way((LLAMA3,), whole_words=True, add_bos=True),
        "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2",
    ),
    (Way((LLAMA3,)), "dbrx smaug-bpe chatglm-bpe glm4"),
    (Way((QWEN2,), composes=True), "qwen2"),
    (Way((QWEN2,)), "deepseek-r1-qwen megrez stablelm2 hunyuan"),
    (Way((_cased("", r"\p{N}"),), whole_words=True), "tekken"),
    (Way((_cased(f"{_CONTRACTIONS}?", r"\p{N}{1,3}"),)), "gpt-4o llama4"),
    (
        Way((r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")),
        "default",
    ),
)
WAYS: Final[dict[str, Way]] = {name: way for way, names in _WAYS for name in names.split()}


def find_way(name: str) -> Way:
    """The way called `name` (`tokenizer.ggml.pre`); files from before that key use `default`.

    Raises:
        Unsupported: it is none that is known; guessing would give other tokens than the
            model was trained with.
    """
    way = WAYS.get(name or "default")
    if way is None:
        raise Unsupported(
            f"the pre-tokenizer {name!r:.80} of the model file is unknown",
            hint="known are " + ", ".join(sorted(WAYS)),
        )
    return way


def pre_tokenizer(way: Way) -> Any:
    """`way` as a pre-tokenizer of the `tokenizers` library, ending in byte characters."""
    from tokenizers import Regex, pre_tokenizers

    steps = [pre_tokenizers.Split(Regex(p), behavior="isolated") for p in way.patterns]
    return pre_tokenizers.Sequence(
        [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
