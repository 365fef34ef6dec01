# SPDX-License-Identifier: BUSL-1.1
"""Sentence embeddings: a BERT encoder over lists of token ids.

A sequence's vector has the same bits alone, in any batch, with any number of threads and on
every instruction set.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mlos_core.errors import Closed, InvalidInput, LoadFailed, MlosError, OutOfMemory, Unsupported
from mlos_core.synapse.encoder_files import BertConfig, EncoderFiles, open_encoder
from mlos_core.synapse.native import check, choose_isa, ffi, lib
from mlos_core.synapse.safetensors import SafeTensor
from mlos_core.types import Array

_TYPES: Final = {"F32": 0, "F16": 1, "BF16": 30}
_POOLINGS: Final = {"mean": lib.SYN_POOLING_MEAN, "cls": lib.SYN_POOLING_CLS}

_WHOLE: Final = {
    "embeddings.word_embeddings.weight": lib.SYN_ENCODER_WORDS,
    "embeddings.position_embeddings.weight": lib.SYN_ENCODER_POSITIONS,
    "embeddings.token_type_embeddings.weight": lib.SYN_ENCODER_TYPES,
    "embeddings.LayerNorm.weight": lib.SYN_ENCODER_NORM,
    "embeddings.LayerNorm.bias": lib.SYN_ENCODER_NORM_BIAS,
}
_LAYER: Final = {
    "attention.self.query.weight": lib.SYN_ENCODER_QUERY,
    "attention.self.query.bias": lib.SYN_ENCODER_QUERY_BIAS,
    "attention.self.key.weight": lib.SYN_ENCODER_KEY,
    "attention.self.key.bias": lib.SYN_ENCODER_KEY_BIAS,
    "attention.self.value.weight": lib.SYN_ENCODER_VALUE,
    "attention.self.value.bias": lib.SYN_ENCODER_VALUE_BIAS,
    "attention.output.dense.weight": lib.SYN_ENCODER_PROJECTION,
    "attention.output.dense.bias": lib.SYN_ENCODER_PROJECTION_BIAS,
    "attention.output.LayerNorm.weight": lib.SYN_ENCODER_ATTENTION_NORM,
    "attention.output.LayerNorm.bias": lib.SYN_ENCODER_ATTENTION_NORM_BIAS,
    "intermediate.dense.weight": lib.SYN_ENCODER_UP,
    "intermediate.dense.bias": lib.SYN_ENCODER_UP_BIAS,
    "output.dense.weight": lib.SYN_ENCODER_DOWN,
    "output.dense.bias": lib.SYN_ENCODER_DOWN_BIAS,
    "output.LayerNorm.weight": lib.SYN_ENCODER_OUTPUT_NORM,
    "output.LayerNorm.bias": lib.SYN_ENCODER_OUTPUT_NORM_BIAS,
}


class Encoder:
    """One encoder and its threads. `encode` may be called from any thread, one at a time works.

    Args:
        model: the model's folder, or the same already opened.
        threads: how many compute; the caller of `encode` is one of them.
        isa: instruction set by its number; None for the best one here.

    Raises:
        LoadFailed, Unsupported: see `open_encoder`; a tensor is missing or has another shape.
    """

    def __init__(
        self, model: Path | str | EncoderFiles, *, threads: int = 1, isa: int | None = None
    ) -> None:
        files = model if isinstance(model, EncoderFiles) else open_encoder(Path(model))
        self.hidden_size = files.config.hidden_size
        self.vocab_size = files.config.vocab_size
        self.max_tokens = files.config.max_position_embeddings
        self._isa = choose_isa() if isa is None else isa
        self._lock = threading.Lock()
        self._sequences = self._tokens = 0
        self._kept: list[Any] = []  # what the library reads in place
        self._encoder: Any = _new_encoder(files)
        self._pool: Any = None
        try:
            self._load(files)
            self._pool = lib.syn_pool_new(threads)
            if self._pool == ffi.NULL:
                raise _last_error()
        except BaseException:
            self.close()
            raise

    def encode(
        self, sequences: Sequence[Sequence[int]], *, out: Array | None = None
    ) -> npt.NDArray[np.float32]:
        """One vector for each sequence of token ids, special tokens included.

        Args:
            out: where to write; float32[len(sequences), hidden_size], C-contiguous.

        Returns:
            `out`, or a new array like it.

        Raises:
            InvalidInput: a sequence is empty or longer than `max_tokens`, or a token unknown.
        """
        shape = (len(sequences), self.hidden_size)
        if out is None:
            out = np.empty(shape, np.float32)
        if out.shape != shape or out.dtype != np.float32:
            raise InvalidInput(f"vectors of shape {list(shape)} do not fit into {list(out.shape)}")
        offsets = np.zeros(len(sequences) + 1, np.int64)
        np.cumsum([len(sequence) for sequence in sequences], out=offsets[1:])
        tokens = _joined(sequences, int(offsets[-1]))
        with self._lock:
            if self._encoder is None:
                raise Closed("the encoder is closed")
            check(
                lib.syn_encoder_run(
                    self._encoder,
                    self._pool,
                    self._isa,
                    ffi.from_buffer("int32_t[]", tokens),
                    ffi.from_buffer("int64_t[]", offsets),
                    len(sequences),
                    ffi.from_buffer("float[]", out, require_writable=True),
                )
            )
            self._sequences += len(sequences)
            self._tokens += len(tokens)
        return out

    def statistics(self) -> dict[str, int]:
        """Sequences and tokens encoded so far."""
        return {"sequences": self._sequences, "tokens": self._tokens}

    def close(self) -> None:
        """Free weights and threads. May be called again."""
        with self._lock:
            encoder, self._encoder = self._encoder, None
            pool, self._pool = self._pool, None
            if encoder is not None:
                lib.syn_encoder_free(encoder)
            if pool is not None:
                lib.syn_pool_free(pool)
            self._kept.clear()

    def __enter__(self) -> Encoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- loading --------------------------------------------------------------------------

    def _load(self, files: EncoderFiles) -> None:
        config = _native_config(files)
        rows, columns = ffi.new("int64_t *"), ffi.new("int64_t *")
        for name, number, layer in _places(files.config):
            check(lib.syn_encoder_shape(config, number, rows, columns))
            tensor = _find(files, name, (rows[0], columns[0]))
            data = ffi.from_buffer(tensor.data)
            kind, size = _TYPES[tensor.dtype], tensor.data.nbytes
            check(lib.syn_encoder_set(self._encoder, number, layer, kind, data, size))
            if number <= lib.SYN_ENCODER_TYPES:
                self._kept.append(data)


def _joined(sequences: Sequence[Sequence[int]], count: int) -> npt.NDArray[np.int32]:
    """All token ids, one behind the other."""
    try:
        return np.fromiter((token for part in sequences for token in part), np.int32, count)
    except (OverflowError, TypeError, ValueError) as err:
        raise InvalidInput(f"a token is no number of 32 bits: {err}") from None


def _places(config: BertConfig) -> Iterator[tuple[str, int, int]]:
    """Every tensor's name, its number in the library, and its layer."""
    for name, number in _WHOLE.items():
        yield name, number, 0
    for layer in range(config.num_hidden_layers):
        for name, number in _LAYER.items():
            yield f"encoder.layer.{layer}.{name}", number, layer


def _find(files: EncoderFiles, name: str, shape: tuple[int, int]) -> SafeTensor:
    tensor = files.tensors.get(name)
    if tensor is None:
        raise LoadFailed(f"the tensor {name} is missing", hint="is this a whole BERT?")
    if tensor.dtype not in _TYPES:
        raise Unsupported(
            f"the tensor {name} has the type {tensor.dtype}", hint="known: " + ", ".join(_TYPES)
        )
    wanted = shape if shape[0] > 1 or len(tensor.shape) == 2 else shape[1:]
    if tuple(tensor.shape) != wanted:
        raise LoadFailed(
            f"the tensor {name} has the shape {list(tensor.shape)}; "
            f"by the configuration it is {list(wanted)}"
        )
    return tensor


def _native_config(files: EncoderFiles) -> Any:
    config = files.config
    return ffi.new(
        "syn_encoder_config *",
        {
            "words": config.vocab_size,
            "positions": config.max_position_embeddings,
            "types": config.type_vocab_size,
            "hidden": config.hidden_size,
            "layers": config.num_hidden_layers,
            "heads": config.num_attention_heads,
            "ffn": config.intermediate_size,
            "eps": config.layer_norm_eps,
            "pooling": _POOLINGS[files.pooling],
            "norm": files.normalise,
        },
    )


def _new_encoder(files: EncoderFiles) -> Any:
    made = ffi.new("syn_encoder **")
    check(lib.syn_encoder_new(made, _native_config(files)))
    return made[0]


def _last_error() -> MlosError:
    return OutOfMemory(ffi.string(lib.syn_error()).decode(errors="replace"))
