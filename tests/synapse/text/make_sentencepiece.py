# SPDX-License-Identifier: BUSL-1.1
"""Writes data/sentencepiece.json: small vocabularies trained by SentencePiece, and its ids.

Run where the sentencepiece package is installed: `python make_sentencepiece.py`. One vocabulary
is of Llama 2's kind (a space in front), one of Gemma's (none, and tokens of the user's).
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import sentencepiece
from make_expected import DATA, HARD, random_texts

KINDS: dict[str, dict[str, Any]] = {
    "llama": {"add_dummy_prefix": True},
    "gemma": {
        "add_dummy_prefix": False,
        "user_defined_symbols": ["<b>", "\n", "\n\n", "\u2581\u2581", "\u2581\u2581\u2581"],
    },
}
PAGES = ("README.md", "CONTRIBUTING.md")


def trained(options: dict[str, Any]) -> sentencepiece.SentencePieceProcessor:
    """A BPE vocabulary with bytes to fall back to."""
    root = Path(__file__).resolve().parents[3]
    lines = [line for page in PAGES for line in (root / page).read_text().split("\n")]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines + HARD * 3),
        model_writer=model,
        vocab_size=1200,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        minloglevel=2,
        **options,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def described(model: sentencepiece.SentencePieceProcessor, user: list[str]) -> dict[str, Any]:
    """The vocabulary as GGUF files have it, and the expected ids."""

    def kind(i: int) -> int:
        if model.id_to_piece(i) in user:
            return 4
        checks = (model.is_unknown, model.is_control, model.is_unused, model.is_byte)
        return next((n for n, is_it in zip((2, 3, 5, 6), checks, strict=True) if is_it(i)), 1)

    count = model.get_piece_size()
    kinds = [kind(i) for i in range(count)]
    pieces = [model.id_to_piece(i) for i in range(count)]
    plain = [p.replace("\u2581", " ") if k == 4 else p for p, k in zip(pieces, kinds, strict=True)]
    texts = HARD + random_texts(60)
    return {
        "tokens": plain,
        "scores": [model.get_score(i) for i in range(count)],
        "token_type": kinds,
        "texts": [[text, model.encode(text), model.decode(model.encode(text))] for text in texts],
    }


def main() -> None:
    """Write the file."""
    found = {
        name: described(trained(options), options.get("user_defined_symbols", []))
        for name, options in KINDS.items()
    }
    text = json.dumps(found, separators=(",", ":"))
    (DATA / "sentencepiece.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
