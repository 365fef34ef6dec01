# SPDX-License-Identifier: BUSL-1.1
"""A sentence encoder as a tensor model: texts in, vectors out.

Requests are joined: a text's vector has the same bits in any batch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import numpy as np

from mlos_core.errors import InvalidInput, LoadFailed
from mlos_core.smi import Allocate, Model, ModelPackage, TensorModel, parse_options
from mlos_core.synapse.encoder import Encoder
from mlos_core.synapse.encoder_files import open_encoder
from mlos_core.synapse.encoder_text import EncoderTokenizer
from mlos_core.synapse.native import choose_isa
from mlos_core.types import Array, Signature, TensorSpec

MOST_THREADS: Final = 16


class EncoderOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a user may set at registration.

    `truncate`: a text longer than the model takes is cut, as sentence-transformers does; with
    `false` it is an error. `threads`: 0 means one for each processor this process may use.
    `isa`: `reference`, `avx2` or `avx512`; empty means the best one here.
    """

    truncate: bool = True
    threads: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0
    isa: str = ""


class EncoderModel(TensorModel):
    """Texts to vectors, and to the numbers of tokens they took."""

    def __init__(self, encoder: Encoder, tokenizer: EncoderTokenizer) -> None:
        limit = f"up to {tokenizer.max_tokens} tokens"
        self.signature = Signature(
            (TensorSpec("text", "bytes", (-1,), f"texts in UTF-8, each {limit}"),),
            (
                TensorSpec("embedding", "float32", (-1, encoder.hidden_size), "one row a text"),
                TensorSpec("tokens", "int32", (-1,), "how many tokens each text took"),
            ),
            batched=True,
            tasks=("embed",),
        )
        self._encoder = encoder
        self._tokenizer = tokenizer

    def infer(self, batch: Mapping[str, Array], allocate: Allocate) -> Mapping[str, Array]:
        """`embedding`: float32[texts, hidden]; `tokens`: int32[texts], special ones included."""
        sequences = self._tokenizer.encode([_text(i, t) for i, t in enumerate(batch["text"])])
        out = allocate("embedding", "float32", (len(sequences), self._encoder.hidden_size))
        self._encoder.encode(sequences, out=out)
        counts = allocate("tokens", "int32", (len(sequences),))
        counts[:] = np.fromiter(map(len, sequences), np.int32, len(sequences))
        return {"embedding": out, "tokens": counts}

    def close(self) -> None:
        """Free weights and threads."""
        self._encoder.close()


def _text(index: int, item: bytes | str) -> str:
    if isinstance(item, str):
        return item
    try:
        return item.decode()
    except UnicodeDecodeError as err:
        raise InvalidInput(f"text {index} is no UTF-8: {err.reason} at byte {err.start}") from None


def load_encoder(package: ModelPackage, device: str, options: Mapping[str, Any]) -> Model:
    """The encoder in the package's folder, or in the folder of the file it names.

    Raises:
        LoadFailed, Unsupported: with the reason; see `open_encoder`.
    """
    if device != "cpu":
        raise LoadFailed(f"sentence encoders cannot use the device {device!r}", hint="use cpu")
    chosen = parse_options(EncoderOptions, options, "sentence encoder")
    folder = package.path if package.path.is_dir() else package.path.parent
    files = open_encoder(Path(folder))
    tokenizer = EncoderTokenizer(folder, files, truncate=chosen.truncate)
    threads = chosen.threads or min(len(os.sched_getaffinity(0)), MOST_THREADS)
    return EncoderModel(Encoder(files, threads=threads, isa=choose_isa(chosen.isa)), tokenizer)
