# SPDX-License-Identifier: BUSL-1.1
"""A plan as the arrays that the executor takes, in memory that is used again and again."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mlos_core.synapse.engine.scheduler import Limits, Plan
from mlos_core.synapse.engine.sequence import Sequence

Ints = npt.NDArray[np.int32]


class Batch(NamedTuple):
    """Row t computes `tokens[t]` at `positions[t]` of the sequence with the block table
    `tables[sequences[t]]`; rows `wanted` give a result, in turn those of `results`."""

    tokens: Ints
    positions: Ints
    sequences: Ints
    wanted: Ints
    results: list[Sequence]
    slots: Ints
    """Of `results`."""


class Buffers:
    """Per slot the block table, the last token and the length; per step the rows.

    Args:
        limits: how many slots, how many rows.
        blocks: the most blocks that a sequence may have.
        block_size: positions in each.
    """

    def __init__(self, limits: Limits, blocks: int, block_size: int) -> None:
        slots = limits.max_num_seqs
        rows = max(limits.max_num_batched_tokens, limits.max_mixed_tokens) + slots
        self.tables: Ints = np.zeros((slots, blocks), np.int32)
        self.lengths: Ints = np.zeros(slots, np.int32)
        self._block_size = block_size
        self._last: Ints = np.zeros(slots, np.int32)
        self._tokens: Ints = np.zeros(rows, np.int32)
        self._positions: Ints = np.zeros(rows, np.int32)
        self._sequences: Ints = np.zeros(rows, np.int32)
        self._count: Ints = np.arange(max(rows, blocks * block_size), dtype=np.int32)

    def admit(self, sequence: Sequence) -> None:
        """A sequence has taken a slot."""
        self.lengths[sequence.slot] = sequence.length
        self._last[sequence.slot] = sequence.tokens[sequence.length - 1]

    def appended(self, batch: Batch, tokens: Ints) -> None:
        """Each of the batch's results has got its next token."""
        self._last[batch.slots] = tokens
        self.lengths[batch.slots] += 1

    def _extend_table(self, sequence: Sequence) -> None:
        blocks = sequence.blocks
        self.tables[sequence.slot, sequence.tabled : len(blocks)] = blocks[sequence.tabled :]
        sequence.tabled = len(blocks)

    def generation(self, plan: Plan) -> Batch:
        """The rows of the sequences that generate."""
        decodes = plan.decodes
        for sequence in decodes:
            if sequence.tabled != len(sequence.blocks):
                self._extend_table(sequence)
        rows = len(decodes)
        slots = np.array([sequence.slot for sequence in decodes], np.int32)
        self._tokens[:rows] = self._last[slots]
        np.subtract(self.lengths[slots], 1, out=self._positions[:rows])
        self._sequences[:rows] = slots
        chunks = [(s, count) for s, count in plan.chunks if s.pooling is None]
        if not chunks:
            wanted = self._count[:rows]
            return self._batch(rows, wanted, decodes, slots)
        results, ends = list(decodes), list(range(rows))
        for sequence, count in chunks:
            rows = self._add_chunk(sequence, count, rows)
            if sequence.computed + count == sequence.length:
                results.append(sequence)
                ends.append(rows - 1)
        slots = np.array([sequence.slot for sequence in results], np.int32)
        return self._batch(rows, np.array(ends, np.int32), results, slots)

    def pooling(self, chunks: list[tuple[Sequence, int]]) -> tuple[Batch, list[slice]]:
        """The rows of texts that become vectors, and which results belong to each."""
        rows = 0
        ends: list[int] = []
        parts: list[slice] = []
        for sequence, count in chunks:
            start, rows = rows, self._add_chunk(sequence, count, rows)
            first = start if sequence.pooling == "mean" else rows - 1
            parts.append(slice(len(ends), len(ends) + rows - first))
            ends += range(first, rows)
        results = [sequence for sequence, _ in chunks]
        return self._batch(rows, np.array(ends, np.int32), results, self._count[:0]), parts

    def _add_chunk(self, sequence: Sequence, count: int, at: int) -> int:
        self._extend_table(sequence)
        start, end = sequence.computed, at + count
        self._tokens[at:end] = sequence.tokens[start : start + count]
        self._positions[at:end] = self._count[start : start + count]
        self._sequences[at:end] = sequence.slot
        return end

    def _batch(self, rows: int, wanted: Ints, results: list[Sequence], slots: Ints) -> Batch:
        tokens, positions = self._tokens[:rows], self._positions[:rows]
        return Batch(tokens, positions, self._sequences[:rows], wanted, results, slots)
