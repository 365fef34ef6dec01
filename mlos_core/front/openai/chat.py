# SPDX-License-Identifier: BUSL-1.1
"""`POST /v1/chat/completions`: the request."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlos_core.front.core import Core, reply
from mlos_core.front.openai import body as bodies
from mlos_core.front.openai import caller, serving, structured, tools
from mlos_core.front.openai.chat_answer import ChatAnswer, ChatChunks
from mlos_core.front.openai.fields import Generation, Positive, Top, check, refuse, sampling
from mlos_core.front.openai.generation import Job, whole
from mlos_core.front.openai.problems import invalid
from mlos_core.front.sse import EventStream

_NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "functions": ([],),
    "function_call": ("none",),
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
    "moderation": (),
    "echo": (False,),
    "continue_final_message": (False,),
    "documents": ([],),
    "chat_template": (),
    "mm_processor_kwargs": ({},),
}


class ChatBody(Generation, kw_only=True, forbid_unknown_fields=True):
    """A conversation and how to go on with it.

    `max_completion_tokens` is the newer word for `max_tokens`; without either the answer may
    fill the model's context.
    """

    messages: list[dict[str, Any]]
    max_completion_tokens: Positive | None = None
    logprobs: bool | None = None
    top_logprobs: Top | None = None
    tools: list[tools.Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    add_generation_prompt: bool | None = None
    add_special_tokens: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    include_reasoning: bool | None = None
    # --- accepted, and of no effect here
    verbosity: str | None = None
    prediction: dict[str, Any] | None = None
    # --- known, not served
    functions: Any = None
    function_call: Any = None
    modalities: Any = None
    audio: Any = None
    web_search_options: Any = None
    moderation: Any = None
    echo: Any = None
    continue_final_message: Any = None
    documents: Any = None
    chat_template: Any = None
    mm_processor_kwargs: Any = None


async def chat(core: Core, request: Request) -> Response:
    """Answer a conversation, at once or as a stream."""
    body = await bodies.read(core, request, ChatBody)
    seconds = caller.seconds(core, request)
    parameters = {**_parameters(body), **caller.cache_salt(request, body.cache_salt)}
    prompt = {"messages": bodies.text_input(msgspec.json.encode(body.messages))}
    target = await serving.choose(core, body.model, "chat", seconds)
    head = caller.head(request, "chatcmpl", target.name)
    events = Job(target, [prompt], parameters).events(core, seconds)
    several = body.parallel_tool_calls is not False
    if body.stream:
        return EventStream(events, seconds, ChatChunks(head, body.stream_options, several))
    answer = ChatAnswer(head, body.choices, bool(body.logprobs), several)
    await whole(events, seconds, answer.take)
    return reply(answer.result())


def _parameters(body: ChatBody) -> dict[str, Any]:
    check(body)
    refuse(body, _NEUTRAL)
    parameters = sampling(body)
    limit = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    if limit is not None:
        parameters["max_tokens"] = limit
    if body.logprobs:
        parameters["logprobs"] = body.top_logprobs or 0
    elif body.top_logprobs:
        raise invalid("top_logprobs", "top_logprobs needs logprobs: true")
    parameters.update(tools.parameters(body.tools, body.tool_choice))
    if (form := structured.constraint(body)) is not None:
        parameters["structured"] = form
    for name in ("add_generation_prompt", "add_special_tokens"):
        if (value := getattr(body, name)) is not None:
            parameters[name] = value
    if template := _template(body):
        parameters["chat_template_kwargs"] = template
    return parameters


def _template(body: ChatBody) -> dict[str, Any]:
    """What the chat template gets beside messages and tools."""
    effort = {"reasoning_effort": body.reasoning_effort} if body.reasoning_effort else {}
    return {**effort, **(body.chat_template_kwargs or {})}
