# SPDX-License-Identifier: BUSL-1.1
"""The sampler in C, with the parameters of each slot where C reads them."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from mlos_core.synapse.engine.sampling import SamplingParams, biases
from mlos_core.synapse.native import check, choose_isa, ffi, lib

MAX_LOGPROBS: Final[int] = lib.SYN_MAX_LOGPROBS
NOT_FINITE: Final[int] = lib.SYN_TOKEN_NOT_FINITE
NONE_LEFT: Final[int] = lib.SYN_TOKEN_NONE_LEFT

Ints = npt.NDArray[np.int32]


class Logprobs(NamedTuple):
    """Of one token: its own log-probability, and the most likely ones with theirs."""

    chosen: float
    ids: list[int]
    values: list[float]


class Draw(NamedTuple):
    """What one sequence's tokens are drawn with; made once, used while it has a slot."""

    params: SamplingParams
    seed: int
    choice: int
    bias_ids: Ints
    bias: npt.NDArray[np.float32]
    banned: Ints


def make_draw(
    params: SamplingParams, seed: int, choice: int, ends: frozenset[int], vocab_size: int
) -> Draw:
    """`ends` are the tokens that end a text: not before `min_tokens`."""
    bias = biases(params, vocab_size)
    banned = sorted(ends | set(params.stop_token_ids or ())) if params.min_tokens else []
    return Draw(
        params,
        seed,
        choice,
        np.array(list(bias), np.int32),
        np.array(list(bias.values()), np.float32),
        np.array(banned, np.int32),
    )


class Sampler:
    """Draws tokens for up to `slots` sequences at once.

    Args:
        slots: how many sequences may have a slot.
        vocab_size: columns of the logits.
        pool: threads that share the rows, as C knows them.
    """

    def __init__(self, slots: int, vocab_size: int, pool: Any = None) -> None:
        self._isa = choose_isa()
        self._vocab = vocab_size
        self._params: Any = ffi.new("syn_sampling[]", slots)
        self._masks: npt.NDArray[np.uint32] = np.zeros((slots, -(-vocab_size // 32)), np.uint32)
        self._kept: list[Any] = [None] * slots  # what C points at
        self._pool = ffi.NULL if pool is None else pool
        threads = 1 if pool is None else lib.syn_pool_threads(pool)
        raw = np.zeros(threads * check(lib.syn_sample_scratch(vocab_size)) + 64, np.uint8)
        skip = -raw.ctypes.data % 64
        self._scratch = ffi.from_buffer(raw[skip:])
        self.tokens = np.zeros(slots, np.int32)
        self._logprobs = np.zeros(slots, np.float32)
        self._top_ids = np.zeros((slots, MAX_LOGPROBS), np.int32)
        self._top_values = np.zeros((slots, MAX_LOGPROBS), np.float32)
        self._out = (
            ffi.from_buffer("int32_t[]", self.tokens),
            ffi.from_buffer("float[]", self._logprobs),
            ffi.from_buffer("int32_t[]", self._top_ids),
            ffi.from_buffer("float[]", self._top_values),
        )

    def configure(self, slot: int, draw: Draw, history: Ints, prompt: int, masked: bool) -> None:
        """A sequence takes `slot`; `history` holds its tokens and is read at every draw."""
        p, params = self._params[slot], draw.params
        pointers = (
            ffi.from_buffer("int32_t[]", history),
            ffi.from_buffer("int32_t[]", draw.bias_ids),
            ffi.from_buffer("float[]", draw.bias),
            ffi.from_buffer("int32_t[]", draw.banned),
        )
        self._kept[slot] = (pointers, draw, history)
        p.history, p.bias_ids, p.bias, p.banned = pointers
        mask = ffi.from_buffer("uint32_t[]", self._masks[slot]) if masked else ffi.NULL
        p.mask = mask
        p.biases, p.banneds = len(draw.bias_ids), len(draw.banned)
        p.prompt, p.min_tokens = prompt, params.min_tokens
        p.seed, p.choice = draw.seed, draw.choice
        p.temperature = 0.0 if params.greedy else params.temperature
        p.top_k, p.top_p, p.min_p = max(params.top_k, 0), params.top_p, params.min_p
        p.repetition_penalty = params.repetition_penalty
        p.presence_penalty = params.presence_penalty
        p.frequency_penalty = params.frequency_penalty
        p.logprobs = -1 if params.logprobs is None else params.logprobs

    def mask(self, slot: int) -> npt.NDArray[np.uint32]:
        """The bits of the tokens allowed next: (vocabulary / 32) words, to be written."""
        row: npt.NDArray[np.uint32] = self._masks[slot]
        return row

    def draw(self, logits: npt.NDArray[np.float32], slots: Ints, lengths: Ints) -> Ints:
        """One token per row, or `NOT_FINITE` or `NONE_LEFT`.

        Args:
            logits: (rows, vocabulary) f32, rows contiguous in themselves.
            slots: (rows) whose row it is.
            lengths: tokens of each slot's sequence.
        """
        rows = len(slots)
        check(
            lib.syn_sample(
                self._isa,
                ffi.cast("const float *", logits.ctypes.data),
                logits.strides[0] // 4,
                rows,
                self._vocab,
                self._params,
                ffi.from_buffer("int32_t[]", slots),
                ffi.from_buffer("int32_t[]", lengths),
                *self._out,
                self._scratch,
                self._pool,
            )
        )
        return self.tokens[:rows]

    def logprobs(self, row: int, count: int) -> Logprobs:
        """What the last `draw` found for a row that asked for `count` alternatives."""
        return Logprobs(
            float(self._logprobs[row]),
            self._top_ids[row, :count].tolist(),
            self._top_values[row, :count].tolist(),
        )
