# SPDX-License-Identifier: BUSL-1.1
"""The model at work: tokens of many sequences in, logits out, one call for each step.

A row's logits have the same bits alone and in any batch, however its prompt was cut, with any
number of threads and on every instruction set.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mlos_core.errors import Closed, InvalidInput, OutOfMemory, Unsupported
from mlos_core.synapse import memory
from mlos_core.synapse.arena import Arena, Place, open_arena, plan
from mlos_core.synapse.config import ModelConfig
from mlos_core.synapse.files import ModelFiles, Tensor
from mlos_core.synapse.native import ISAS, check, ffi, lib

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

KV_DTYPES: Final[dict[str, int]] = {
    "bfloat16": lib.SYN_KV_BF16,
    "float16": lib.SYN_KV_F16,
    "int8": lib.SYN_KV_INT8,
    "float32": lib.SYN_KV_F32,
}
PRECISIONS: Final[dict[str, int]] = {
    "mixed": lib.SYN_MIXED,
    "int8": lib.SYN_EIGHT,
    "int16": lib.SYN_TWELVE,
}
_ACTIVATIONS: Final[dict[str, int]] = {
    "silu": lib.SYN_SILU,
    "gelu_tanh": lib.SYN_GELU_TANH,
}
_ROLES: Final[dict[str, int]] = {
    "token_embd.weight": lib.SYN_MODEL_EMBEDDING,
    "output.weight": lib.SYN_MODEL_OUTPUT,
    "output_norm.weight": lib.SYN_MODEL_OUTPUT_NORM,
    "attn_norm.weight": lib.SYN_MODEL_ATTN_NORM,
    "attn_q.weight": lib.SYN_MODEL_Q,
    "attn_k.weight": lib.SYN_MODEL_K,
    "attn_v.weight": lib.SYN_MODEL_V,
    "attn_q.bias": lib.SYN_MODEL_Q_BIAS,
    "attn_k.bias": lib.SYN_MODEL_K_BIAS,
    "attn_v.bias": lib.SYN_MODEL_V_BIAS,
    "attn_q_norm.weight": lib.SYN_MODEL_Q_NORM,
    "attn_k_norm.weight": lib.SYN_MODEL_K_NORM,
    "attn_output.weight": lib.SYN_MODEL_O,
    "post_attention_norm.weight": lib.SYN_MODEL_POST_ATTN_NORM,
    "ffn_norm.weight": lib.SYN_MODEL_FFN_NORM,
    "ffn_gate.weight": lib.SYN_MODEL_GATE,
    "ffn_up.weight": lib.SYN_MODEL_UP,
    "ffn_down.weight": lib.SYN_MODEL_DOWN,
    "post_ffw_norm.weight": lib.SYN_MODEL_POST_FFN_NORM,
}


class Executor:
    """A model in memory, with its cache of keys and values.

    Args:
        files: the opened model; not needed any more once this returns.
        threads: how many compute, this one included.
        isa: an instruction set, as `native.choose_isa` gives it.
        kv_blocks: blocks of the cache, `block_size` positions each.
        kv_dtype: "bfloat16", "float16", "int8" or "float32".
        precision: activations before quantised weights. "mixed": 12 bits for queries, keys and
            values, 8 for all others; "int8": 8 for all; "int16": 12 for all.
        cache_dir: where packed weights are kept for other workers and the next start.

    Raises:
        InvalidInput: an argument is none of these.
        LoadFailed: the model's numbers make no sense.
        OutOfMemory: weights or cache cannot fit; the message has the arithmetic.
        Unsupported: a kind of model that the kernels do not do.
    """

    block_size: Final = int(lib.SYN_KV_BLOCK)

    def __init__(
        self,
        files: ModelFiles,
        *,
        threads: int,
        isa: int,
        kv_blocks: int,
        kv_dtype: str = "bfloat16",
        precision: str = "mixed",
        cache_dir: Path | None = None,
    ) -> None:
        config = files.config
        self.vocab_size = config.vocab_size
        self.hidden_size = config.hidden_size
        self.context_length = config.context_length
        self.kv_blocks = kv_blocks
        self._lock = threading.Lock()
        self._isa = isa
        self._threads = threads
        self._outputs: dict[int, Floats] = {}
        choices = (_choice(KV_DTYPES, kv_dtype, "KV dtype"), _choice(PRECISIONS, precision))
        self._pool = _made(lib.syn_pool_new(threads), lib.syn_pool_free)
        self._model = _new_model(config, choices, isa, kv_blocks, self._pool)
        places, nbytes = plan(_roles(files))
        self._kv_bytes = int(lib.syn_model_kv_bytes(self._model))
        _check_room(self._kv_bytes, kv_blocks, nbytes)
        self._arena: Arena | None = open_arena(files, places, nbytes, self._pool, cache_dir)
        self._bind(self._arena, places)

    def _bind(self, arena: Arena, places: list[Place]) -> None:
        self._bytes = ffi.from_buffer(arena.view)
        base = ffi.cast("const char *", self._bytes)
        for place in places:
            check(
                lib.syn_model_bind(
                    self._model,
                    place.role,
                    place.layer,
                    place.tensor.type,
                    base + place.offset,
                    place.nbytes,
                )
            )

    def forward(
        self, tokens: Ints, positions: Ints, sequences: Ints, tables: Ints, wanted: Ints
    ) -> Floats:
        """One step.

        Args:
            tokens, positions, sequences: int32 [rows]; row i computes `tokens[i]` at
                `positions[i]` of sequence `sequences[i]`. A sequence's rows are consecutive,
                their positions ascend by one, and what came before them is in the cache.
            tables: int32 [sequences, blocks]; the cache's block for each 32 positions.
            wanted: int32, ascending: the rows whose logits are asked for.

        Returns:
            float32 [wanted, vocabulary], valid until the next call.

        Raises:
            InvalidInput: an argument has a wrong shape or dtype, or an index is out of range.
        """
        return self._run(tokens, positions, sequences, tables, wanted, states=False)

    def hidden(
        self, tokens: Ints, positions: Ints, sequences: Ints, tables: Ints, wanted: Ints
    ) -> Floats:
        """As `forward`, but the states after the final norm: float32 [wanted, hidden]."""
        return self._run(tokens, positions, sequences, tables, wanted, states=True)

    def _run(
        self,
        tokens: Ints,
        positions: Ints,
        sequences: Ints,
        tables: Ints,
        wanted: Ints,
        *,
        states: bool,
    ) -> Floats:
        rows = len(tokens)
        if len(positions) != rows or len(sequences) != rows:
            raise InvalidInput(
                f"{rows} tokens, {len(positions)} positions, {len(sequences)} sequences"
            )
        if tables.ndim != 2:
            raise InvalidInput(f"block tables have {tables.ndim} dimensions, not 2")
        with self._lock:
            if self._arena is None:
                raise Closed("the executor is closed")
            batch = ffi.new("syn_batch *")
            batch.rows, batch.wanted_count = rows, len(wanted)
            batch.tables_rows, batch.tables_columns = tables.shape
            batch.tokens, batch.positions = keep = _ints(tokens), _ints(positions)
            batch.sequences, batch.tables, batch.wanted = more = (
                _ints(sequences),
                _ints(tables),
                _ints(wanted),
            )
            out = self._output(len(wanted), self.hidden_size if states else self.vocab_size)
            where = ffi.from_buffer("float[]", out)
            both = (ffi.NULL, where) if states else (where, ffi.NULL)
            check(lib.syn_model_forward(self._model, batch, *both))
            del keep, more
        return out

    def _output(self, rows: int, width: int) -> Floats:
        """A buffer that is used again."""
        found = self._outputs.get(width)
        if found is None or len(found) < rows:
            found = self._outputs[width] = np.empty((max(rows, 1), width), np.float32)
        return found[:rows]

    @property
    def pool(self) -> Any:
        """The threads, for other work between two steps; gone when this is closed."""
        return self._pool

    def statistics(self) -> dict[str, int | str]:
        """Bytes of weights and cache, and what computes."""
        names = {number: name for name, number in ISAS.items()}
        return {
            "weights_bytes": self._arena.nbytes if self._arena else 0,
            "weights_shared": int(self._arena.shared) if self._arena else 0,
            "kv_bytes": self._kv_bytes,
            "kv_blocks": self.kv_blocks,
            "threads": self._threads,
            "isa": names[self._isa],
        }

    def close(self) -> None:
        """Give threads and memory back; the executor cannot be used again."""
        with self._lock:
            if self._arena is None:
                return
            ffi.release(self._model)
            ffi.release(self._pool)
            ffi.release(self._bytes)
            self._arena.close()
            self._arena = None
            self._outputs.clear()


def _choice(known: dict[str, int], name: str, what: str = "precision") -> int:
    if name not in known:
        raise InvalidInput(f"the {what} {name!r} is unknown", hint="use " + ", ".join(known))
    return known[name]


def _made(handle: Any, free: Any) -> Any:
    if handle == ffi.NULL:
        raise InvalidInput(ffi.string(lib.syn_error()).decode(errors="replace"))
    return ffi.gc(handle, free)


def _ints(array: Ints) -> Any:
    if array.dtype != np.int32 or not array.flags.c_contiguous:
        raise InvalidInput(f"indices are {array.dtype}, not contiguous int32")
    return ffi.from_buffer("int32_t[]", array)


def _new_model(
    config: ModelConfig, choices: tuple[int, int], isa: int, kv_blocks: int, pool: Any
) -> Any:
    for rope in config.ropes:
        if len(rope.frequencies) != config.head_dim // 2:
            raise Unsupported(
                f"a rope turns {2 * len(rope.frequencies)} of {config.head_dim} dimensions"
            )
    if config.activation not in _ACTIVATIONS:
        raise Unsupported(f"the activation {config.activation!r} is unknown")
    settings = ffi.new("syn_model_config *")
    settings.vocab, settings.hidden = config.vocab_size, config.hidden_size
    settings.layers, settings.ffn = len(config.layers), config.intermediate_size
    settings.heads, settings.kv_heads = config.heads, config.kv_heads
    settings.head_dim, settings.context = config.head_dim, config.context_length
    settings.norm_eps, settings.logit_softcap = config.norm_eps, config.logit_softcap
    settings.embedding_scale = config.embedding_scale
    settings.attention_scale = config.attention_scale
    settings.activation = _ACTIVATIONS[config.activation]
    settings.kv_type, settings.precision = choices
    settings.isa, settings.kv_blocks, settings.ropes = isa, kv_blocks, len(config.ropes)
    arrays = (
        ffi.new("float[]", [f for rope in config.ropes for f in rope.frequencies]),
        ffi.new("int32_t[]", [rope.interleaved for rope in config.ropes]),
        ffi.new("int32_t[]", [layer.window for layer in config.layers]),
        ffi.new("int32_t[]", [layer.rope for layer in config.layers]),
    )
    settings.frequencies, settings.interleaved = arrays[:2]
    settings.windows, settings.rope_of_layer = arrays[2:]
    out = ffi.new("syn_model **")
    check(lib.syn_model_new(out, settings, pool))
    return ffi.gc(out[0], lib.syn_model_free)


def _roles(files: ModelFiles) -> list[tuple[Tensor, int, int]]:
    """Every tensor with what it is for."""
    found = []
    for name, tensor in files.tensors.items():
        layer, rest = 0, name
        if name.startswith("blk."):
            _, number, rest = name.split(".", 2)
            layer = int(number)
        if rest not in _ROLES:
            raise Unsupported(f"the engine has no use for the tensor {name}")
        found.append((tensor, _ROLES[rest], layer))
    return found


def _check_room(kv_bytes: int, kv_blocks: int, weights: int) -> None:
    room = memory.available()
    if kv_bytes + weights > room:
        raise OutOfMemory(
            f"{kv_blocks} blocks of {kv_bytes // kv_blocks:,} bytes and {weights:,} bytes of"
            f" weights are {kv_bytes + weights:,} bytes, and {room:,} are free",
            hint="ask for fewer blocks, or a smaller KV dtype",
        )
