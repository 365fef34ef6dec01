# SPDX-License-Identifier: BUSL-1.1
"""`POST /v1/completions`: the request."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from mlos_core.front.core import Core, reply
from mlos_core.front.openai import body as bodies
from mlos_core.front.openai import caller, serving, structured
from mlos_core.front.openai.fields import Generation, Top, check, refuse, sampling
from mlos_core.front.openai.generation import Job, whole
from mlos_core.front.openai.problems import invalid
from mlos_core.front.openai.text_answer import TextAnswer, TextChunks
from mlos_core.front.sse import EventStream

_NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "suffix": ("",),
    "prompt_embeds": (),
}
_DEFAULT_TOKENS: Final = 16  # OpenAI's


class CompletionBody(Generation, kw_only=True, forbid_unknown_fields=True):
    """Prompts to be continued: a text or token ids, or a list of either.

    With `n` choices for each prompt, those of the first come first. `max_tokens` is 16 unless
    given.
    """

    prompt: str | list[Any]
    echo: bool | None = None
    logprobs: Top | None = None
    add_special_tokens: bool | None = None
    # --- known, not served
    suffix: Any = None
    prompt_embeds: Any = None


async def complete(core: Core, request: Request) -> Response:
    """Continue prompts, at once or as a stream."""
    body = await bodies.read(core, request, CompletionBody)
    seconds = caller.seconds(core, request)
    parameters = {**_parameters(body), **caller.cache_salt(request, body.cache_salt)}
    prompts = bodies.prompts("prompt", body.prompt)
    target = await serving.choose(core, body.model, "generate", seconds)
    head = caller.head(request, "cmpl", target.name)
    events = Job(target, prompts, parameters).events(core, seconds)
    if body.stream:
        return EventStream(events, seconds, TextChunks(head, body.stream_options))
    answer = TextAnswer(head, len(prompts) * body.choices, body.logprobs is not None)
    await whole(events, seconds, answer.take)
    return reply(answer.result())


def _parameters(body: CompletionBody) -> dict[str, Any]:
    check(body)
    refuse(body, _NEUTRAL)
    parameters = sampling(body)
    parameters["max_tokens"] = _DEFAULT_TOKENS if body.max_tokens is None else body.max_tokens
    if body.logprobs is not None:
        parameters["logprobs"] = body.logprobs
    if body.echo:
        if body.logprobs is not None:
            raise invalid("logprobs", "logprobs of an echoed prompt are not supported")
        parameters["echo"] = True
    if body.add_special_tokens is not None:
        parameters["add_special_tokens"] = body.add_special_tokens
    if (form := structured.constraint(body)) is not None:
        parameters["structured"] = form
    return parameters
