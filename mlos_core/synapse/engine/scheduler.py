# SPDX-License-Identifier: BUSL-1.1
"""What each step computes: decisions about counts and blocks, no tensor in sight.

Every step first gives each sequence that generates its one token, then the sequences whose
prompts are not done yet their next chunk, oldest first, then lets waiting ones in, oldest
first, all within a budget of tokens.

Guarantees: the oldest sequence that is not paused makes progress in every step, for it may take
blocks from any younger one, and nothing is let in that does not fit alone; so all finish.
A sequence that loses its blocks is computed again from its tokens, with the same results.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from operator import attrgetter
from typing import Final

import msgspec

from mlos_core.synapse.engine.blocks import BlockManager
from mlos_core.synapse.engine.sequence import Sequence, State

LEAST_CHUNK: Final = 16
_by_arrival = attrgetter("arrival")


class Limits(msgspec.Struct, frozen=True):
    """How much at once: sequences with blocks, tokens in a step, tokens in a step in which
    somebody generates (who waits for the prompts of others)."""

    max_num_seqs: int = 32
    max_num_batched_tokens: int = 512
    max_mixed_tokens: int = 256


class Plan:
    """One step: `decodes` compute one token each, `chunks` several; `admitted` are new in it."""

    __slots__ = ("admitted", "chunks", "decodes")

    def __init__(self) -> None:
        self.decodes: list[Sequence] = []
        self.chunks: list[tuple[Sequence, int]] = []
        self.admitted: list[Sequence] = []

    def __bool__(self) -> bool:
        return bool(self.decodes or self.chunks)


class Scheduler:
    """Who is computed when, and with which blocks."""

    def __init__(self, blocks: BlockManager, limits: Limits) -> None:
        self.blocks = blocks
        self.limits = limits
        self.running: list[Sequence] = []
        self.waiting: list[Sequence] = []
        self.parked: set[Sequence] = set()
        self._slots = list(range(limits.max_num_seqs - 1, -1, -1))
        self.preemptions = 0
        self.prefix_queries = 0
        self.prefix_hits = 0

    # --- coming and going -----------------------------------------------------------------

    def add(self, sequence: Sequence) -> None:
        """Let a sequence wait for its turn; its blocks must be enough alone."""
        self._wait(sequence)

    def remove(self, sequence: Sequence) -> None:
        """It is done, or no longer wanted."""
        if sequence.state is State.RUNNING:
            self.running.remove(sequence)
            self._strip(sequence)
        elif sequence.state is State.WAITING:
            self.waiting.remove(sequence)
        elif sequence.state is State.PARKED:
            self.parked.remove(sequence)
        sequence.state = State.GONE

    def pause(self, sequence: Sequence) -> None:
        """Leave it out until `resume`; it keeps its blocks while nobody else needs them."""
        sequence.paused = True
        if sequence.state is State.WAITING:
            self.waiting.remove(sequence)
            self._park(sequence)

    def resume(self, sequence: Sequence) -> None:
        """It may go on."""
        sequence.paused = False
        if sequence.state is State.PARKED:
            self.parked.remove(sequence)
            self._wait(sequence)

    def _wait(self, sequence: Sequence) -> None:
        if sequence.paused:
            self._park(sequence)
            return
        sequence.state = State.WAITING
        insort(self.waiting, sequence, key=_by_arrival)

    def _park(self, sequence: Sequence) -> None:
        sequence.state = State.PARKED
        self.parked.add(sequence)

    def _strip(self, sequence: Sequence) -> None:
        self.blocks.release(sequence.blocks)
        self._slots.append(sequence.slot)
        sequence.slot = -1
        sequence.tabled = 0
        sequence.computed = 0

    # --- a step ---------------------------------------------------------------------------

    def plan(self, mixed_tokens: int | None = None) -> Plan:
        """What to compute now; blocks are allocated for it.

        Args:
            mixed_tokens: the budget if somebody generates, where it is less than the limit.
        """
        plan = Plan()
        prefills: list[Sequence] = []
        size = self.blocks.block_size
        for sequence in tuple(self.running):
            if sequence.paused or sequence.state is not State.RUNNING:
                continue
            if sequence.computed + 1 < sequence.length or sequence.pooling:
                prefills.append(sequence)
            elif sequence.length <= len(sequence.blocks) * size or self._grow(sequence, plan):
                plan.decodes.append(sequence)
        self._chunk(plan, prefills, self._budget(plan, mixed_tokens))
        return plan

    def _budget(self, plan: Plan, mixed_tokens: int | None) -> int:
        """Tokens for prompts; some are left whatever else the step has to do."""
        decodes = len(plan.decodes)
        if not decodes:
            return self.limits.max_num_batched_tokens
        most = self.limits.max_mixed_tokens
        if mixed_tokens is not None:
            most = min(most, max(mixed_tokens, decodes + LEAST_CHUNK))
        return most - decodes

    def _chunk(self, plan: Plan, prefills: list[Sequence], budget: int) -> None:
        for sequence in prefills:
            if budget <= 0:
                return
            if sequence.state is State.RUNNING:  # else it lost its blocks a moment ago
                budget -= self._take(plan, sequence, budget)
        while budget > 0 and self.waiting and self._admit(self.waiting[0]):
            sequence = self.waiting.pop(0)
            plan.admitted.append(sequence)
            budget -= self._take(plan, sequence, budget)

    def _take(self, plan: Plan, sequence: Sequence, budget: int) -> int:
        count = min(budget, sequence.length - sequence.computed)
        plan.chunks.append((sequence, count))
        return count

    def done(self, plan: Plan) -> None:
        """The step was computed: count it, and name the blocks that it filled."""
        size = self.blocks.block_size
        for sequence in plan.decodes:
            sequence.computed += 1
            if not sequence.computed % size:
                self._name(sequence, sequence.computed - 1)
        for sequence, count in plan.chunks:
            before = sequence.computed
            sequence.computed += count
            self._name(sequence, before)

    def _name(self, sequence: Sequence, before: int) -> None:
        if sequence.root is None:
            return
        size = self.blocks.block_size
        full = sequence.computed // size
        names = sequence.name_blocks(full, size)
        for index in range(before // size, full):
            self.blocks.name(sequence.blocks[index], names[index])

    # --- blocks -----------------------------------------------------------------------------

    def _admit(self, sequence: Sequence) -> bool:
        """Give it a slot and blocks for all its tokens, if there are enough."""
        known = self._known(sequence)
        need = self.blocks.blocks_for(sequence.length)
        while not self._slots or self._short_of(need, known):
            if not self._preempt_paused():
                return False
        self.blocks.share(known)
        sequence.blocks.extend(known)
        for _ in range(need - len(known)):
            sequence.blocks.append(self.blocks.allocate())
        sequence.computed = len(known) * self.blocks.block_size
        if sequence.root is not None:
            self.prefix_queries += sequence.length
            self.prefix_hits += sequence.computed
        sequence.slot = self._slots.pop()
        sequence.state = State.RUNNING
        insort(self.running, sequence, key=_by_arrival)
        return True

    def _short_of(self, need: int, known: list[int]) -> bool:
        # One to spare, so that its next token does not take it from the others at once.
        spare = 1 if self.running else 0
        return self.blocks.available < need - len(known) + self.blocks.unheld(known) + spare

    def _known(self, sequence: Sequence) -> list[int]:
        """Cached blocks of its prefix; its last token is always computed."""
        if sequence.root is None:
            return []
        size = self.blocks.block_size
        return self.blocks.find(sequence.name_blocks((sequence.length - 1) // size, size))

    def _grow(self, sequence: Sequence, plan: Plan) -> bool:
        """One more block, if need be from the youngest; false if that is itself."""
        while not self.blocks.available:
            victim = self._victim()
            self._preempt(victim)
            if victim is sequence:
                return False
            if victim in plan.decodes:
                plan.decodes.remove(victim)
        sequence.blocks.append(self.blocks.allocate())
        return True

    def _victim(self) -> Sequence:
        paused = [sequence for sequence in self.running if sequence.paused]
        return (paused or self.running)[-1]

    def _preempt_paused(self) -> bool:
        for sequence in reversed(self.running):
            if sequence.paused:
                self._preempt(sequence)
                return True
        return False

    def _preempt(self, sequence: Sequence) -> None:
        self.preemptions += 1
        self.running.remove(sequence)
        self._strip(sequence)
        self._wait(sequence)

    # --- what can be asked ------------------------------------------------------------------

    def all(self) -> Iterator[Sequence]:
        """Every sequence that is known here."""
        yield from self.running
        yield from self.waiting
        yield from self.parked

    def check_integrity(self) -> None:
        """Compare the books.

        Raises:
            RuntimeError: they differ.
        """
        self.blocks.check_integrity(sequence.blocks for sequence in self.all())
        slots = [sequence.slot for sequence in self.running] + self._slots
        if sorted(slots) != list(range(self.limits.max_num_seqs)):
            raise RuntimeError(f"slots: {sorted(slots)} of {self.limits.max_num_seqs}")
        if any(sequence.blocks for sequence in (*self.waiting, *self.parked)):
            raise RuntimeError("a sequence that does not run holds blocks")
        for line in (self.running, self.waiting):
            if line != sorted(line, key=_by_arrival):
                raise RuntimeError("a line is not in the order of arrival")
