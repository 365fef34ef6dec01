# SPDX-License-Identifier: BUSL-1.1
"""Make the tiny models beside this file, with the logits that `transformers` computes.

Run by a Python that has torch, transformers and safetensors; the files are committed, so the
tests need none of them; names as arguments make only those. Weights are random, wide enough
that rope, windows and norms matter.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

HERE = Path(__file__).parent
TOKENS = 72
"""More than two blocks of the cache, and four windows."""

BASE: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}
GEMMA = {
    "full_attention": {**LINEAR, "rope_theta": 1_000_000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
}


def models() -> dict[str, tuple[Any, Any, torch.dtype, dict[str, Any]]]:
    """Configuration, class, type of the stored weights, options of saving."""
    bf16, f16, f32 = torch.bfloat16, torch.float16, torch.float32
    small = {**BASE, "hidden_size": 32, "intermediate_size": 64}
    small |= {"num_attention_heads": 2, "num_key_value_heads": 1}
    windows = ["sliding_attention", "full_attention"]
    gemma = {"sliding_window": 16, "layer_types": windows, "query_pre_attn_scalar": 24}
    return {
        "llama": (LlamaConfig(**small), LlamaForCausalLM, f32, {}),
        "llama3": (
            LlamaConfig(**BASE, rope_parameters=LLAMA3, tie_word_embeddings=True),
            LlamaForCausalLM,
            bf16,
            {},
        ),
        "llama_linear": (LlamaConfig(**BASE, rope_parameters=LINEAR), LlamaForCausalLM, f16, {}),
        "mistral": (
            MistralConfig(**BASE, sliding_window=16),
            MistralForCausalLM,
            bf16,
            {"max_shard_size": "60KB"},
        ),
        "qwen2": (Qwen2Config(**BASE), Qwen2ForCausalLM, bf16, {}),
        "qwen3": (Qwen3Config(**{**BASE, "head_dim": 32}), Qwen3ForCausalLM, bf16, {}),
        "gemma3": (
            Gemma3TextConfig(**BASE, **gemma, rope_parameters=GEMMA),
            Gemma3ForCausalLM,
            bf16,
            {},
        ),
    }


@torch.no_grad()
def randomise(model: Any, dtype: torch.dtype) -> None:
    """Weights that a file of `dtype` holds exactly; norms near what they are at rest."""
    for name, tensor in model.named_parameters():
        noise = torch.randn(tensor.shape)
        if name.endswith("norm.weight"):
            noise = 0.2 * noise + (0.0 if "gemma" in type(model).__name__.lower() else 1.0)
        elif tensor.dim() == 2:
            noise *= 1.5 / tensor.shape[1] ** 0.5
        tensor.copy_(noise.to(dtype).float())


def make(name: str, config: Any, kind: Any, dtype: torch.dtype, options: dict[str, Any]) -> None:
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(len(name))
    config._attn_implementation = "eager"
    model = kind(config).float().eval()
    randomise(model, dtype)
    tokens = np.random.default_rng(len(name)).integers(3, config.vocab_size, TOKENS)
    with torch.no_grad():
        logits = model(torch.from_numpy(tokens)[None]).logits[0].float().numpy()
    model.to(dtype).save_pretrained(folder, **options)
    (folder / "generation_config.json").unlink(missing_ok=True)
    np.savez_compressed(folder / "expected.npz", tokens=tokens.astype(np.int32), logits=logits)
    print(f"{name}: {sum(file.stat().st_size for file in folder.iterdir())} bytes")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name, (config, kind, dtype, options) in models().items():
        if name in sys.argv[1:] or len(sys.argv) == 1:
            make(name, config, kind, dtype, options)
