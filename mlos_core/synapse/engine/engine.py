# SPDX-License-Identifier: BUSL-1.1
"""The engine: requests in, one call of the executor per step, events out.

One thread uses it. What a request's events are depends on its prompt, its parameters, its
seed and the model, never on what else runs, nor on which worker runs it: a successor is given
how many events were sent and, in the journal, with which tokens, and goes on behind them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence as Many
from typing import Final

import numpy as np
import numpy.typing as npt

from mlos_core.errors import InvalidInput, MlosError, ModelFailed, Overloaded
from mlos_core.smi import EngineModel, EngineRequest, Event, Statistics
from mlos_core.synapse.engine.batch import Batch, Buffers
from mlos_core.synapse.engine.blocks import BlockManager
from mlos_core.synapse.engine.choice import Choice
from mlos_core.synapse.engine.embedding import Embedding
from mlos_core.synapse.engine.faces import SIGNATURE, Executor, Text
from mlos_core.synapse.engine.intake import Intake
from mlos_core.synapse.engine.pace import Pace
from mlos_core.synapse.engine.requests import Request
from mlos_core.synapse.engine.sampler import NONE_LEFT, Sampler
from mlos_core.synapse.engine.scheduler import Limits, Plan, Scheduler
from mlos_core.synapse.engine.sequence import Pooling, Sequence, State
from mlos_core.synapse.engine.statistics import Counters

log = logging.getLogger(__name__)
_CATCH_UP: Final = 256
"""Events of one request that may come in a step although they waited for their turn."""

Ints = npt.NDArray[np.int32]


class Engine(EngineModel):
    """An LLM that many requests share.

    Args:
        executor: computes; closed with the engine.
        text: the model's text side.
        limits: how much at once.
        max_waiting: sequences that may wait beside those that run; more are `Overloaded`.
        pooling: how a text becomes a vector, unless the request says.
        context: the most tokens of a sequence; None: as many as the executor takes.
        mixed_seconds: how long a step may take that computes a prompt while somebody waits for
            the next token; 0: any time.
    """

    def __init__(
        self,
        executor: Executor,
        text: Text,
        limits: Limits | None = None,
        max_waiting: int = 1024,
        pooling: Pooling = "last",
        context: int | None = None,
        mixed_seconds: float = 0.0,
    ) -> None:
        limits = limits or Limits()
        self.signature = SIGNATURE
        self._executor = executor
        context = min(context or executor.context_length, executor.context_length)
        blocks = BlockManager(executor.kv_blocks, executor.block_size)
        room = blocks.count * blocks.block_size
        self._intake = Intake(text, executor.vocab_size, context, room, pooling)
        widest = min(blocks.count, blocks.blocks_for(context))
        self.scheduler = Scheduler(blocks, limits)
        self._buffers = Buffers(limits, widest, executor.block_size)
        self._sampler = Sampler(limits.max_num_seqs, executor.vocab_size, executor.pool)
        self._pace = Pace(mixed_seconds, limits.max_mixed_tokens)
        self._mask_words = -(-text.vocab_size // 32)
        self._most = limits.max_num_seqs + max_waiting
        self._requests: dict[int, Request | Embedding] = {}
        self._behind: dict[int, Request] = {}
        self._live = 0
        """Sequences that run, wait or are held."""
        self._ready: list[Event] = []
        self._counters = Counters()

    # --- in -------------------------------------------------------------------------------

    def submit(self, request: EngineRequest) -> None:
        """Take a request in.

        Raises:
            InvalidInput: a parameter or the prompt is wrong, or it can never fit.
            Overloaded: too many wait.
        """
        taken = self._intake.read(request)
        if isinstance(taken, Event):
            self._ready.append(taken)
            return
        sequences = [s for s in taken.sequences if s.state is not State.GONE]
        # What was let in once is never turned away by a successor.
        if not request.resume_from and self._live + len(sequences) > self._most:
            raise Overloaded(
                f"{self._live} sequences run or wait already",
                hint="try again later, or register more instances",
            )
        self._requests[taken.id] = taken
        self._live += len(sequences)
        if isinstance(taken, Embedding):
            self.scheduler.add(taken.sequences[0])
            return
        self._counters.prompt_tokens += taken.prompt
        self._ready += taken.replayed
        if taken.behind:
            self._behind[taken.id] = taken
        if taken.held:
            self.scheduler.add(taken.held.pop(0))

    # --- coming and going ---------------------------------------------------------------------

    def cancel(self, id: int) -> None:
        """Forget the request."""
        self._ready = [event for event in self._ready if event.id != id]
        self._drop(id)

    def pause(self, id: int) -> None:
        """Produce nothing for it until `resume`."""
        request = self._requests.get(id)
        for sequence in request.sequences if request is not None else ():
            self.scheduler.pause(sequence)

    def resume(self, id: int) -> None:
        """Go on with it."""
        request = self._requests.get(id)
        for sequence in request.sequences if request is not None else ():
            self.scheduler.resume(sequence)

    def _check_when_idle(self) -> None:
        if self._requests:
            return
        try:
            self.scheduler.check_integrity()
        except RuntimeError:
            # Nobody is left to be hurt: start with clean books rather than with wrong ones.
            log.exception("the scheduler's books are wrong")
            blocks = self.scheduler.blocks
            fresh = BlockManager(blocks.count, blocks.block_size)
            self.scheduler = Scheduler(fresh, self.scheduler.limits)

    # --- a step ---------------------------------------------------------------------------------

    def step(self) -> Many[Event]:
        """Compute once for everybody."""
        events, self._ready = self._ready, []
        for event in events:
            if event.final:
                self._drop(event.id)
        plan = self.scheduler.plan(self._pace.rows())
        if plan:
            began = time.monotonic_ns()
            self._compute(plan, events)
            seconds = (time.monotonic_ns() - began) * 1e-9
            self._counters.step.add(seconds)
            self._pace.learn(len(plan.decodes) + sum(count for _, count in plan.chunks), seconds)
        self._catch_up(events)
        if not plan and not events and self.scheduler.waiting:
            raise RuntimeError("somebody waits, nobody runs, and there is no room")
        return events

    def _compute(self, plan: Plan, events: list[Event]) -> None:
        for sequence in plan.admitted:
            self._admit(sequence)
        batch = self._buffers.generation(plan)
        drawn: Ints | None = None
        refused: dict[int, Exception] = {}
        if len(batch.tokens):
            logits = self._forward(batch)
            if batch.results:
                refused = self._write_masks(batch)
                drawn = self._sampler.draw(logits, batch.slots, self._buffers.lengths)
                self._buffers.appended(batch, drawn)
        vectors = self._pool([chunk for chunk in plan.chunks if chunk[0].pooling is not None])
        self.scheduler.done(plan)
        if drawn is not None:
            self._take_tokens(batch, drawn.tolist(), refused, events)
        for embedding in vectors:
            events.append(embedding.event())
            self._drop(embedding.id)

    def _forward(self, batch: Batch) -> npt.NDArray[np.float32]:
        return self._executor.forward(
            batch.tokens, batch.positions, batch.sequences, self._buffers.tables, batch.wanted
        )

    def _admit(self, sequence: Sequence) -> None:
        self._buffers.admit(sequence)
        if sequence.pooling is not None:
            return
        request, choice = sequence.owner
        if not request.times.admitted:
            request.times.admitted = time.monotonic_ns()
            request.cached = min(sequence.computed, sequence.prompt)
        self._sampler.configure(
            sequence.slot,
            choice.draw,
            sequence.tokens,
            sequence.prompt,
            choice.matcher is not None,
        )

    def _write_masks(self, batch: Batch) -> dict[int, Exception]:
        """Ask each grammar what may follow; by slot, those that failed."""
        failed: dict[int, Exception] = {}
        for sequence in batch.results:
            matcher = sequence.owner[1].matcher
            if matcher is not None:
                try:
                    matcher.mask_into(self._sampler.mask(sequence.slot)[: self._mask_words])
                except Exception as error:
                    failed[sequence.slot] = error
        return failed

    def _pool(self, chunks: list[tuple[Sequence, int]]) -> list[Embedding]:
        """Compute chunks of texts; the requests of which they were the last ones."""
        if not chunks:
            return []
        batch, parts = self._buffers.pooling(chunks)
        states = self._executor.hidden(
            batch.tokens, batch.positions, batch.sequences, self._buffers.tables, batch.wanted
        )
        done: list[Embedding] = []
        for (sequence, count), part in zip(chunks, parts, strict=True):
            embedding: Embedding = sequence.owner
            embedding.add(states[part], first=sequence.computed == 0)
            if sequence.computed + count == sequence.length:
                done.append(embedding)
        return done

    # --- out ------------------------------------------------------------------------------------

    def _take_tokens(
        self, batch: Batch, tokens: list[int], refused: dict[int, Exception], events: list[Event]
    ) -> None:
        now = time.monotonic_ns()
        for row, sequence in enumerate(batch.results):
            request, choice = sequence.owner
            if request.id not in self._requests:  # another choice of it failed a moment ago
                continue
            try:
                if sequence.slot in refused:
                    raise refused[sequence.slot]
                news = self._take_token(request, choice, tokens[row], row, now)
            except Exception as error:
                events.append(Event(request.id, error=_as_error(error)))
                self._drop(request.id)
                continue
            self._tell(request, news, now, events)
            if request.behind and request.id in self._requests:
                self._behind[request.id] = request

    def _catch_up(self, events: list[Event]) -> None:
        """Choices that ran one after the other have events that waited for each other. They
        come in portions, so that a reader who is behind can stop them."""
        for request in tuple(self._behind.values()):
            if request.choices[0].sequence.paused:
                continue
            news = request.more(_CATCH_UP)
            if not request.behind:
                del self._behind[request.id]
            self._tell(request, news, time.monotonic_ns(), events)

    def _tell(self, request: Request, news: list[Event], now: int, events: list[Event]) -> None:
        events += news
        if news and news[-1].final:
            if request.times.first:  # else a successor had nothing left to compute
                self._counters.end(request, now)
            self._drop(request.id)

    def _take_token(
        self, request: Request, choice: Choice, token: int, row: int, now: int
    ) -> list[Event]:
        if token < 0:
            raise _no_token(token, choice.sequence.generated)
        sequence = choice.sequence
        sequence.append(token)
        wanted = request.params.logprobs
        logprobs = None if wanted is None else self._sampler.logprobs(row, wanted)
        data = choice.push(token, logprobs)
        self._counters.token(request, choice, now)
        if choice.finish is not None:
            self.scheduler.remove(sequence)
            self._live -= 1
        for held in request.held:
            self.scheduler.add(held)
        if request.held:
            request.held = []
        return request.events(choice, token, data)

    def _drop(self, id: int) -> None:
        request = self._requests.pop(id, None)
        if request is None:
            return
        self._behind.pop(id, None)
        self._live -= sum(s.state is not State.GONE for s in request.sequences)
        for sequence in request.sequences:
            self.scheduler.remove(sequence)
        self._check_when_idle()

    # --- numbers --------------------------------------------------------------------------------

    def statistics(self) -> Statistics:
        """Under the names that vLLM's metrics have."""
        scheduler = self.scheduler
        running = len(scheduler.running)
        return {
            **self._counters.read(),
            "num_requests_running": running,
            "num_requests_waiting": max(self._live - running, 0),
            "kv_cache_usage_perc": scheduler.blocks.used / scheduler.blocks.count,
            "prefix_cache_queries": scheduler.prefix_queries,
            "prefix_cache_hits": scheduler.prefix_hits,
            "num_preemptions": scheduler.preemptions,
        }

    def close(self) -> None:
        """Free what the executor holds."""
        self._executor.close()


def _as_error(error: Exception) -> MlosError:
    if isinstance(error, MlosError):
        return error
    log.error("a request failed", exc_info=error)
    return ModelFailed(f"{type(error).__name__}: {error}")


def _no_token(status: int, generated: int) -> Exception:
    if status == NONE_LEFT:
        return InvalidInput(
            f"after {generated} tokens no token is left that the request allows",
            hint="min_tokens or logit_bias contradict the form that the answer must have",
        )
    return ModelFailed(f"after {generated} tokens the model's logits are not finite numbers")
