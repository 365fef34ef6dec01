# SPDX-License-Identifier: BUSL-1.1
"""From what a worker hands over to what the engine runs: everything is checked here.

A request that passes can be computed: its prompt is tokens of the vocabulary, fits into the
context and into the KV cache, and its form is a grammar.
"""

from __future__ import annotations

import time
from collections.abc import Sequence as Many

import numpy as np

from mlos_core.errors import InvalidInput
from mlos_core.smi import EngineRequest, Event
from mlos_core.synapse.engine import journal, prompts
from mlos_core.synapse.engine.blocks import root_name
from mlos_core.synapse.engine.choice import Choice
from mlos_core.synapse.engine.embedding import Embedding
from mlos_core.synapse.engine.faces import Matcher, Text
from mlos_core.synapse.engine.requests import Request
from mlos_core.synapse.engine.sampler import Draw, make_draw
from mlos_core.synapse.engine.sampling import NamedTool, SamplingParams, parse
from mlos_core.synapse.engine.sequence import Pooling, Sequence, State
from mlos_core.types import Array


class Intake:
    """Makes requests of one model.

    Args:
        text: the model's text side.
        vocab_size: of the logits.
        context: the most tokens of a sequence.
        room: the tokens that the KV cache holds.
        pooling: how a text becomes a vector, unless the request says.
    """

    def __init__(
        self, text: Text, vocab_size: int, context: int, room: int, pooling: Pooling
    ) -> None:
        self._text = text
        self._vocab_size = vocab_size
        self._context = context
        self._room = room
        self._pooling: Pooling = pooling
        self._arrivals = 0

    def read(self, given: EngineRequest) -> Event | Embedding | Request:
        """The request; or its answer, where nothing has to be computed.

        Raises:
            InvalidInput: a parameter or the prompt is wrong, or it can never fit.
        """
        params = parse(given.parameters, self._vocab_size)
        if params.task == "detokenize":
            return self._answer(given.id, self._detokenized(given))
        prompt = prompts.read(given.inputs, params, self._text, self._context)
        if params.task == "tokenize":
            return self._answer(given.id, {"tokens": np.array(prompt.tokens, np.int32)})
        self._check_length(len(prompt.tokens), generates=params.task == "generate")
        if params.task == "embed":
            return self._embedding(given.id, params, prompt.tokens)
        return self._request(given, params, prompt)

    # --- without computing ----------------------------------------------------------------

    def _answer(self, id: int, outputs: dict[str, Array]) -> Event:
        size = len(outputs.get("tokens", ()))
        parameters = {"context_length": self._context, "usage": {"prompt_tokens": size}}
        return Event(id, final=True, outputs=outputs, parameters=parameters)

    def _detokenized(self, given: EngineRequest) -> dict[str, Array]:
        if set(given.inputs) != {"tokens"}:
            raise InvalidInput("the task detokenize takes the input tokens and no other")
        prompt = prompts.read(given.inputs, SamplingParams(), self._text, self._context)
        text = np.empty(1, object)
        text[0] = self._text.decode(prompt.tokens).encode(errors="replace")
        return {"text": text}

    # --- sequences ------------------------------------------------------------------------

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

    def _embedding(self, id: int, params: SamplingParams, tokens: list[int]) -> Embedding:
        pooling = params.pooling or self._pooling
        sequence = Sequence(self._arrive(), tokens, len(tokens), pooling=pooling)
        sequence.owner = embedding = Embedding(id, sequence, params.normalize)
        return embedding

    def _request(
        self, given: EngineRequest, params: SamplingParams, prompt: prompts.Prompt
    ) -> Request:
        size = len(prompt.tokens)
        request = Request(given.id, params, size, given.resume_from, time.monotonic_ns())
        seed = params.seed_for(given.key)
        most = size + params.max_tokens if params.max_tokens is not None else self._context
        limit = min(most, self._context, self._room)
        root = root_name(given.owner, params.cache_salt)
        for index in range(params.n):
            sequence = Sequence(self._arrive(), prompt.tokens, limit, root)
            choice = self._choice(index, sequence, params, self._draw(params, seed, index), prompt)
            sequence.owner = (request, choice)
            request.choices.append(choice)
        self._replay(request, given.journal)
        for choice in request.choices:
            if choice.finish is not None:
                choice.sequence.state = State.GONE
        request.held = [choice.sequence for choice in request.choices if not choice.finish]
        return request

    # --- choices --------------------------------------------------------------------------

    def _choice(
        self,
        index: int,
        sequence: Sequence,
        params: SamplingParams,
        draw: Draw,
        prompt: prompts.Prompt,
    ) -> Choice:
        tools = params.tools if params.tools and params.tool_choice != "none" else None
        parser = self._text.tool_parser(tools) if tools else None
        echo = ""
        if params.echo:
            echo = prompt.text if prompt.text is not None else self._text.decode(prompt.tokens)
        matcher = self._matcher(params)
        return Choice(index, sequence, params, draw, self._text, matcher, parser, echo)

    def _draw(self, params: SamplingParams, seed: int, index: int) -> Draw:
        return make_draw(params, seed, index, self._text.eos_ids, self._vocab_size)

    def _matcher(self, params: SamplingParams) -> Matcher | None:
        form = params.form
        if form is not None:
            return self._text.grammar(form)
        if params.tools and isinstance(params.tool_choice, NamedTool):
            return self._text.tool_grammar(params.tools, (params.tool_choice.name,))
        if params.tools and params.tool_choice == "required":
            return self._text.tool_grammar(params.tools, ())
        return None

    def _replay(self, request: Request, notes: Many[bytes]) -> None:
        """Bring each choice to where the worker before had brought it."""
        known = journal.read(notes, len(request.choices), self._vocab_size)
        for choice, tokens in zip(request.choices, known, strict=True):
            for token in tokens:
                if choice.finish is not None:
                    break
                choice.sequence.append(token)
                request.replayed += request.events(choice, token, choice.push(token, None))
