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
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from mlos_core.errors import InvalidInput, MlosError, ModelFailed, Overloaded
from mlos_core.smi import EngineModel, EngineRequest, Event, Statistics
from mlos_core.synapse.engine import journal, prompts
from mlos_core.synapse.engine.batch import Batch, Buffers
from mlos_core.synapse.engine.blocks import BlockManager, root_name
from mlos_core.synapse.engine.choice import Choice
from mlos_core.synapse.engine.embedding import Embedding
from mlos_core.synapse.engine.pace import Pace
from mlos_core.synapse.engine.requests import Request
from mlos_core.synapse.engine.sampler import NONE_LEFT, Draw, Sampler, make_draw
from mlos_core.synapse.engine.sampling import SamplingParams, parse
from mlos_core.synapse.engine.scheduler import Limits, Plan, Scheduler
from mlos_core.synapse.engine.sequence import Pooling, Sequence
from mlos_core.synapse.engine.statistics import Counters
from mlos_core.synapse.engine.text import Matcher, Text
from mlos_core.types import BYTES, Array, Signature, TensorSpec

log = logging.getLogger(__name__)

Ints = npt.NDArray[np.int32]

SIGNATURE: Final = Signature(
    inputs=(
        TensorSpec("text", BYTES, (1,), "a prompt in UTF-8", optional=True),
        TensorSpec("tokens", "int32", (-1,), "a prompt as token ids", optional=True),
        TensorSpec("messages", BYTES, (1,), "a chat, a JSON list of messages", optional=True),
    ),
    outputs=(
        TensorSpec("text", BYTES, (-1,), "one answer per choice", optional=True),
        TensorSpec("tokens", "int32", (-1,), "of the first choice", optional=True),
        TensorSpec("embedding", "float32", (-1,), "for the task embed", optional=True),
    ),
    streaming=True,
    tasks=("generate", "chat", "embed", "tokenize"),
)


class Executor(Protocol):
    """What computes; `mlos_core.synapse.executor` has it."""

    vocab_size: int
    context_length: int
    kv_blocks: int

    @property
    def block_size(self) -> int:
        """Positions of a block of the cache."""
        ...

    def forward(
        self, tokens: Ints, positions: Ints, sequences: Ints, tables: Ints, wanted: Ints, /
    ) -> npt.NDArray[np.float32]:
        """(wanted, vocabulary) logits; valid until the next call."""
        ...

    def hidden(
        self, tokens: Ints, positions: Ints, sequences: Ints, tables: Ints, wanted: Ints, /
    ) -> npt.NDArray[np.float32]:
        """(wanted, hidden) states after the last norm; valid until the next call."""
        ...

    def close(self) -> None:
        """Free everything."""
        ...


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
        self._text = text
        self._pooling: Pooling = pooling
        self._room = executor.kv_blocks * executor.block_size
        self._context = min(context or executor.context_length, executor.context_length)
        blocks = BlockManager(executor.kv_blocks, executor.block_size)
        widest = min(blocks.count, blocks.blocks_for(self._context))
        self.scheduler = Scheduler(blocks, limits)
        self._buffers = Buffers(limits, widest, executor.block_size)
        self._sampler = Sampler(limits.max_num_seqs, executor.vocab_size)
        self._pace = Pace(mixed_seconds, limits.max_mixed_tokens)
        self._mask_words = -(-text.vocab_size // 32)
        self._most = limits.max_num_seqs + max_waiting
        self._requests: dict[int, Request | Embedding] = {}
        self._live = 0
        self._arrivals = 0
        self._ready: list[Event] = []
        self._counters = Counters()

    # --- in -------------------------------------------------------------------------------

    def submit(self, request: EngineRequest) -> None:
        """Take a request in.

        Raises:
            InvalidInput: a parameter or the prompt is wrong, or it can never fit.
            Overloaded: too many wait.
        """
        params = parse(request.parameters, self._executor.vocab_size)
        if params.task == "detokenize":
            self._answer_now(request.id, self._detokenized(request))
            return
        prompt = prompts.read(request.inputs, params, self._text, self._context)
        if params.task == "tokenize":
            self._answer_now(request.id, {"tokens": np.array(prompt.tokens, np.int32)})
            return
        self._check_length(len(prompt.tokens), generates=params.task == "generate")
        if not request.resume_from and self._live + params.n > self._most:
            raise Overloaded(
                f"{self._live} sequences run or wait already",
                hint="try again later, or register more instances",
            )
        if params.task == "embed":
            self._embed(request.id, params, prompt.tokens)
        else:
            self._generate(request, params, prompt)

    def _answer_now(self, id: int, outputs: dict[str, Array]) -> None:
        size = len(outputs.get("tokens", ()))
        parameters = {"context_length": self._context, "usage": {"prompt_tokens": size}}
        self._ready.append(Event(id, final=True, outputs=outputs, parameters=parameters))

    def _detokenized(self, request: EngineRequest) -> dict[str, Array]:
        if set(request.inputs) != {"tokens"}:
            raise InvalidInput("the task detokenize takes the input tokens and no other")
        prompt = prompts.read(request.inputs, SamplingParams(), self._text, self._context)
        text = np.empty(1, object)
        text[0] = self._text.decode(prompt.tokens).encode(errors="replace")
        return {"text": text}

    def _check_length(self, tokens: int, *, generates: bool) -> None:
        if not tokens:
            raise InvalidInput("the prompt is empty", hint="give at least one token")
        if tokens + generates > self._context:
            raise InvalidInput(
                f"the prompt has {tokens} tokens; the model's context has {self._context}",
                hint="shorten the prompt; one token at least must be left for the answer",
            )
        if tokens + generates > self._room:
            raise InvalidInput(
                f"the prompt has {tokens} tokens; the KV cache holds {self._room}",
                hint="shorten the prompt, or register the model with a larger KV cache",
            )

    def _arrive(self) -> int:
        self._arrivals += 1
        return self._arrivals

    def _embed(self, id: int, params: SamplingParams, tokens: list[int]) -> None:
        pooling = params.pooling or self._pooling
        sequence = Sequence(self._arrive(), tokens, len(tokens), pooling=pooling)
        embedding = Embedding(id, sequence, params.normalize)
        sequence.owner = embedding
        self._keep(id, embedding)
        self.scheduler.add(sequence)

    def _keep(self, id: int, request: Request | Embedding) -> None:
        self._requests[id] = request
        self._live += len(request.sequences)

    # --- a request that generates -----------------------------------------------------------

    def _generate(
        self, given: EngineRequest, params: SamplingParams, prompt: prompts.Prompt
    ) -> None:
        size = len(prompt.tokens)
        request = Request(given.id, params, size, given.resume_from, time.monotonic_ns())
        request.seed = params.seed_for(given.key)
        most = size + params.max_tokens if params.max_tokens is not None else self._context
        limit = min(most, self._context, self._room)
        root = root_name(given.owner, params.cache_salt)
        for index in range(params.n):
            sequence = Sequence(self._arrive(), prompt.tokens, limit, root)
            choice = self._choice(index, sequence, params, prompt)
            sequence.owner = (request, choice)
            request.choices.append(choice)
        self._keep(given.id, request)
        try:
            self._replay(request, given.journal)
        except BaseException:
            self.cancel(given.id)
            raise
        self._counters.prompt_tokens += size
        request.held = [choice.sequence for choice in request.choices if not choice.finish]
        if request.held:
            self.scheduler.add(request.held.pop(0))

    def _choice(
        self, index: int, sequence: Sequence, params: SamplingParams, prompt: prompts.Prompt
    ) -> Choice:
        tools = params.tools if params.tools and params.tool_choice != "none" else None
        parser = self._text.tool_parser(tools) if tools else None
        echo = ""
        if params.echo:
            echo = prompt.text if prompt.text is not None else self._text.decode(prompt.tokens)
        matcher = self._matcher(params)
        return Choice(index, sequence, params, self._text, matcher, parser, echo)

    def _matcher(self, params: SamplingParams) -> Matcher | None:
        form = params.form
        if form is not None:
            return self._text.grammar(form)
        if not params.tools or isinstance(params.tool_choice, str):
            if not params.tools or params.tool_choice != "required":
                return None
            return self._text.tool_grammar(params.tools, ())
        return self._text.tool_grammar(params.tools, (params.tool_choice.name,))

    def _replay(self, request: Request, notes: Many[bytes]) -> None:
        """Bring each choice to where the worker before had brought it."""
        known = journal.read(notes, len(request.choices), self._executor.vocab_size)
        for choice, tokens in zip(request.choices, known, strict=True):
            for token in tokens:
                if choice.finish is not None:
                    break
                choice.sequence.append(token)
                self._ready += request.events(choice, token, choice.push(token, None))

    def _draw(self, request: Request, choice: Choice) -> Draw:
        ends = self._text.eos_ids
        size = self._executor.vocab_size
        return make_draw(request.params, request.seed, choice.index, ends, size)

    # --- coming and going ---------------------------------------------------------------------

    def cancel(self, id: int) -> None:
        """Forget the request."""
        self._ready = [event for event in self._ready if event.id != id]
        request = self._requests.pop(id, None)
        if request is not None:
            self._live -= len(request.sequences)
            for sequence in request.sequences:
                self.scheduler.remove(sequence)
        self._check_when_idle()

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
        vectors = [self._pool(s, count) for s, count in plan.chunks if s.pooling is not None]
        self.scheduler.done(plan)
        if drawn is not None:
            self._take_tokens(batch, drawn.tolist(), refused, events)
        for embedding in vectors:
            if embedding is not None:
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
            self._draw(request, choice),
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

    def _pool(self, sequence: Sequence, count: int) -> Embedding | None:
        """Compute a chunk of a text; its request if that was the last."""
        batch = self._buffers.pooling(sequence, count)
        states = self._executor.hidden(
            batch.tokens, batch.positions, batch.sequences, self._buffers.tables, batch.wanted
        )
        embedding: Embedding = sequence.owner
        embedding.add(states, first=sequence.computed == 0)
        return embedding if sequence.computed + count == sequence.length else None

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
            events += news
            if news and news[-1].final:
                self._count_end(request, now)
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
        self._count_token(request, choice, now)
        if choice.finish is not None:
            self.scheduler.remove(sequence)
        for held in request.held:
            self.scheduler.add(held)
        if request.held:
            request.held = []
        return request.events(choice, token, data)

    def _drop(self, id: int) -> None:
        request = self._requests.pop(id, None)
        if request is None:
            return
        self._live -= len(request.sequences)
        for sequence in request.sequences:
            self.scheduler.remove(sequence)
        self._check_when_idle()

    # --- numbers --------------------------------------------------------------------------------

    def _count_token(self, request: Request, choice: Choice, now: int) -> None:
        self._counters.generation_tokens += 1
        if choice.last_ns:
            self._counters.between_tokens.add((now - choice.last_ns) * 1e-9)
        elif not request.times.first:
            request.times.first = now
            self._counters.first_token.add((now - request.times.arrived) * 1e-9)
        choice.last_ns = now

    def _count_end(self, request: Request, now: int) -> None:
        counters, times = self._counters, request.times
        counters.queue.add((times.admitted - times.arrived) * 1e-9)
        counters.prefill.add((times.first - times.admitted) * 1e-9)
        counters.decode.add((now - times.first) * 1e-9)
        counters.inference.add((now - times.admitted) * 1e-9)
        counters.request.add((now - times.arrived) * 1e-9)
        counters.finished[request.choices[0].finish or "stop"] += 1

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
