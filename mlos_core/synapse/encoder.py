# SPDX-License-Identifier: BUSL-1.1
"""Sentence embeddings: a BERT encoder over lists of token ids.

A sequence's vector has the same bits alone, in any batch, with any number of threads and on
every instruction set.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mlos_core.errors import Closed, InvalidInput, MlosError, OutOfMemory
from mlos_core.synapse.encoder_files import EncoderFiles, open_encoder
from mlos_core.synapse.encoder_weights import forget_pages, native_config, weights
from mlos_core.synapse.native import check, choose_isa, ffi, lib
from mlos_core.types import Array

MOST_THREADS: Final = 256


class Encoder:
    """One encoder and its threads. `encode` may be called from any thread, one at a time works.

    Args:
        model: the model's folder, or the same already opened.
        threads: how many compute; the caller of `encode` is one of them.
        isa: instruction set by its number; None for the best one here.

    Raises:
        InvalidInput: an impossible number of threads.
        LoadFailed, Unsupported: see `open_encoder`; a tensor is missing or has another shape.
    """

    def __init__(
        self, model: Path | str | EncoderFiles, *, threads: int = 1, isa: int | None = None
    ) -> None:
        if not 1 <= threads <= MOST_THREADS:
            raise InvalidInput(f"{threads} threads are not between 1 and {MOST_THREADS}")
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

    def _load(self, files: EncoderFiles) -> None:
        for weight in weights(files):
            data = ffi.from_buffer(weight.data)
            check(
                lib.syn_encoder_set(
                    self._encoder, weight.number, weight.layer, weight.type, data, len(data)
                )
            )
            if weight.number <= lib.SYN_ENCODER_TYPES:
                self._kept.append(data)
        forget_pages(files)


def _joined(sequences: Sequence[Sequence[int]], count: int) -> npt.NDArray[np.int32]:
    """All token ids, one behind the other."""
    try:
        return np.fromiter((token for part in sequences for token in part), np.int32, count)
    except (OverflowError, TypeError, ValueError) as err:
        raise InvalidInput(f"a token is no number of 32 bits: {err}") from None


def _new_encoder(files: EncoderFiles) -> Any:
    made = ffi.new("syn_encoder **")
    check(lib.syn_encoder_new(made, native_config(files)))
    return made[0]


def _last_error() -> MlosError:
    return OutOfMemory(ffi.string(lib.syn_error()).decode(errors="replace"))
