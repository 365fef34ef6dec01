# SPDX-License-Identifier: BUSL-1.1
"""What the files beside weights say: `config.json` and its companions, as hubs keep them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from axon_client.introspect.header import Header

_MOST: Final = 4 << 20
_CONTEXT: Final = (
    "max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "seq_length",
)  # fmt: skip
_LAYERS: Final = ("num_hidden_layers", "n_layer", "num_layers")
_HEADS: Final = ("num_attention_heads", "n_head", "num_heads")
_WIDTH: Final = ("hidden_size", "n_embd", "d_model")
_DECODERS: Final = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
_CACHE_BYTES: Final = 2
_MOST_NUMBER: Final = 1 << 32


def read_config(folder: Path) -> Header:
    """Architecture, context length and the like; empty where nothing is said."""
    config = read_object(folder / "config.json")
    text = config.get("text_config")
    inner = text if isinstance(text, dict) else config
    architecture = _architecture(config)
    decoder = architecture.endswith(_DECODERS)
    return Header(
        architecture=architecture,
        quantization=_quantization(config),
        context_length=_context(folder, inner),
        cache_bytes_per_token=_cache(inner) if decoder else 0,
        chat_template=_chats(folder),
        license=str(config.get("license", "")) if isinstance(config.get("license"), str) else "",
        producer=_producer(config),
        custom_code=_custom_code(config),
    )


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object; empty if there is no such file, or it holds anything else."""
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(_MOST), type=dict[str, Any])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _architecture(config: Mapping[str, Any]) -> str:
    named = config.get("architectures")
    if isinstance(named, list) and named and isinstance(named[0], str):
        return named[0]
    kind = config.get("model_type")
    return kind if isinstance(kind, str) else ""


def _quantization(config: Mapping[str, Any]) -> str:
    told = config.get("quantization_config")
    if not isinstance(told, dict) or not isinstance(told.get("quant_method"), str):
        return ""
    bits = told.get("bits")
    return f"{told['quant_method']}-{bits}bit" if isinstance(bits, int) else told["quant_method"]


def _context(folder: Path, config: Mapping[str, Any]) -> int:
    """Sentence encoders cut their input shorter than the model could take."""
    sizes = [_number(config, (name,)) for name in _CONTEXT]
    cut = _number(read_object(folder / "sentence_bert_config.json"), ("max_seq_length",))
    stated = next((size for size in sizes if size), 0)
    return min(filter(None, (stated, cut)), default=0)


def _cache(config: Mapping[str, Any]) -> int:
    """A key and a value for each layer and head, in float16."""
    layers, heads = _number(config, _LAYERS), _number(config, _HEADS)
    pairs = _number(config, ("num_key_value_heads",)) or heads
    width = _number(config, ("head_dim",))
    if not width and heads:
        width = _number(config, _WIDTH) // heads
    return layers * pairs * width * 2 * _CACHE_BYTES


def _number(config: Mapping[str, Any], names: tuple[str, ...]) -> int:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and 0 < value < _MOST_NUMBER:
            return value
    return 0


def _chats(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    return bool(read_object(folder / "tokenizer_config.json").get("chat_template"))


def _producer(config: Mapping[str, Any]) -> str:
    version = config.get("transformers_version")
    return f"transformers {version}" if isinstance(version, str) else ""


def _custom_code(config: Mapping[str, Any]) -> str:
    """Python modules that transformers would import from the package; nobody here does."""
    named = config.get("auto_map")
    return ", ".join(sorted(map(str, named.values()))) if isinstance(named, dict) else ""
