# SPDX-License-Identifier: BUSL-1.1
"""Vocabularies small enough to see through, as GGUF metadata."""

from types import SimpleNamespace

from mlos_core.synapse.text.bytelevel import BYTE_OF

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def opened(metadata, **text):
    """An opened model, as far as text goes."""
    known = {
        "metadata": metadata,
        "tokenizer_file": None,
        "tokenizer_config": {},
        "chat_template": None,
        "bos_id": None,
        "eos_ids": (),
    }
    return SimpleNamespace(text=SimpleNamespace(**(known | text)))


def keys(**values):
    return {f"tokenizer.ggml.{name}": value for name, value in values.items()}


def bytelevel_metadata(**changes):
    """All bytes, a few merges, three control tokens and one user-defined."""
    merges = ["h e", "l l", "he ll", "hell o", "Ġ w", "o r", "Ġw or", "1 2"]
    tokens = list(BYTE_OF) + [merge.replace(" ", "") for merge in merges]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>"]
    known = {
        "model": "gpt2",
        "pre": "smollm",
        "tokens": [token.encode() for token in tokens + special],
        "token_type": [1] * len(tokens) + [3, 3, 3, 4],
        "merges": [merge.encode() for merge in merges],
        "bos_token_id": len(tokens) + 1,
        "eos_token_id": len(tokens) + 2,
    }
    return keys(**(known | changes))


def sentencepiece_metadata(**changes):
    """Bytes, letters and a few longer tokens; Llama 2's settings unless changed."""
    words = ["▁", "a", "b", "c", "é", "aa", "ab", "▁a", "▁ab", "abc", "▁▁", "bc", "▁▁▁"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *words, "<tag>"]
    count = len(tokens)
    known = {
        "model": "llama",
        "tokens": [token.encode() for token in tokens],
        "scores": [0.0] * 259 + [-float(i) for i in range(count - 259)],
        "token_type": [2, 3, 3] + [6] * 256 + [1] * len(words) + [4],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
    }
    return keys(**(known | changes))
