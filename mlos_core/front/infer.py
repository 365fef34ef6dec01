# SPDX-License-Identifier: BUSL-1.1
"""One inference over HTTP, from the bytes of the request to those of the answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlos_core.errors import InvalidInput, Unsupported
from mlos_core.front import body as bodies
from mlos_core.front import npy, questions
from mlos_core.front.codec import from_array
from mlos_core.front.core import Core
from mlos_core.front.handles import Target
from mlos_core.front.ports import Result
from mlos_core.front.problems import NotAcceptable
from mlos_core.front.questions import InferBody, ModelInferBody, Options
from mlos_core.front.sse import Events, EventStream
from mlos_core.types import Array, Signature

PARAMETERS_HEADER: Final = "x-mlos-parameters"
VERSION_HEADER: Final = "x-mlos-version"
# More numbers than this as JSON would hold up the daemon's loop for too long.
_JSON_NUMBERS: Final = 4_000_000


class Question(msgspec.Struct):
    """A request that fits its model."""

    target: Target
    inputs: dict[str, Array]
    options: Options
    accept: str
    seconds: float


class _Asked(msgspec.Struct):
    """A request on its way to its model.

    `name` and `version` are what the path says; no name: the body says it. `by_key`: the names
    of inputs may be the keys of the body. `known` is who was chosen, and what that takes.
    """

    request: Request
    body: bodies.Body
    name: str = ""
    version: str = ""
    by_key: bool = False
    url: Options = Options()
    accept: str = bodies.JSON
    known: tuple[Target, Signature] | None = None


async def infer(core: Core, request: Request) -> Response:
    """`POST .../{name}/infer`, or `.../{name}/versions/{version}/infer`."""
    return await _answer(core, _Asked(request, bodies.Body(core.gate), **request.path_params))


async def infer_named(core: Core, request: Request) -> Response:
    """`POST /models/{name}/inference`: input names may be the keys of the body."""
    name = request.path_params["name"]
    return await _answer(core, _Asked(request, bodies.Body(core.gate), name, by_key=True))


async def infer_by_id(core: Core, request: Request) -> Response:
    """`POST /api/v1/inference`: the body names the model."""
    return await _answer(core, _Asked(request, bodies.Body(core.gate)))


async def _answer(core: Core, asked: _Asked) -> Response:
    request, body = asked.request, asked.body
    began = asyncio.get_running_loop().time()
    try:
        asked.url = questions.url_options(request)
        asked.accept = bodies.answer_type(request.headers.get("accept", ""))
        async with asyncio.timeout(core.limits.deadline(asked.url.timeout)) as scope:
            await body.read(request)
            try:
                return await _once(core, asked, began, scope)
            except InvalidInput:
                # A route may have moved to a version that takes something else.
                if asked.known is None or not await core.handles.renewed(*asked.known):
                    raise
            return await _once(core, asked, began, scope)
    except TimeoutError as err:
        raise body.late() from err
    finally:
        body.release()


async def _once(core: Core, asked: _Asked, began: float, scope: asyncio.Timeout) -> Response:
    question = await _understand(core, asked)
    if question.accept == bodies.EVENTS:
        return _stream(core, question)
    if question.seconds != core.limits.deadline(asked.url.timeout):
        scope.reschedule(began + question.seconds)
    return await _ask(core, question, began)


async def _understand(core: Core, asked: _Asked) -> Question:
    kind, url = bodies.media_type(asked.request), asked.url
    if kind in (bodies.NPY, bodies.NPZ):
        query, raw = asked.request.query_params, asked.body.data
        name = asked.name or query.get("model_id", "")
        target, signature = await _choose(core, asked, name, asked.version, url.version)
        which = query.get("input", "")
        inputs = questions.binary_inputs(kind, raw, which, signature, core.limits.body)
        options = url
    else:
        bodies.require_json(asked.request)
        read = _read_by_key if asked.by_key else _read_json
        parsed, (target, signature) = await read(core, asked)
        inputs = questions.inputs_of(parsed, signature)
        options = questions.merged(parsed.options, url)
    questions.check_outputs(signature, options.outputs)
    accept = asked.accept
    if options.stream or accept == bodies.EVENTS:
        accept = bodies.EVENTS
        _check_streams(target.name, signature)
    return Question(target, inputs, options, accept, core.limits.deadline(options.timeout))


_Chosen = tuple[Target, Signature]


async def _read_json(core: Core, asked: _Asked) -> tuple[InferBody, _Chosen]:
    raw, name = asked.body.data, asked.name
    if name:
        parsed: InferBody = bodies.decode_json(raw, InferBody)
    else:
        parsed = by_id = bodies.decode_json(raw, ModelInferBody)
        name = by_id.model_id
    versions = (asked.version, asked.url.version, parsed.version)
    return parsed, await _choose(core, asked, name, *versions)


async def _read_by_key(core: Core, asked: _Asked) -> tuple[InferBody, _Chosen]:
    """Which keys are inputs, only the model's signature says."""
    version = asked.url.version
    chosen = await _choose(core, asked, asked.name, version)
    parsed = questions.named_body(asked.body.data, chosen[1])
    if parsed.version:
        chosen = await _choose(core, asked, asked.name, version, parsed.version)
    return parsed, chosen


async def _choose(core: Core, asked: _Asked, name: str, *versions: str) -> _Chosen:
    if not name:
        raise InvalidInput("the request names no model", hint="give model_id")
    version = questions.same_version(*versions)
    asked.body.waits_for = name
    asked.known = chosen = await core.handles.choose(name, version)
    asked.body.waits_for = ""
    return chosen


def _check_streams(name: str, signature: Signature) -> None:
    if not signature.streaming:
        raise Unsupported(
            f"{name} answers at once and has no stream",
            hint="leave out stream and text/event-stream",
        )


async def _ask(core: Core, question: Question, began: float) -> Response:
    left = began + question.seconds - asyncio.get_running_loop().time()
    result = await core.handles.infer(
        question.target,
        question.inputs,
        seconds=max(left, 0.001),
        parameters=question.options.parameters,
        outputs=question.options.outputs,
    )
    try:
        return respond(question.target, result, question.accept)
    finally:
        result.release()


def _stream(core: Core, question: Question) -> Response:
    events = core.handles.stream(
        question.target,
        question.inputs,
        seconds=question.seconds,
        parameters=question.options.parameters,
    )
    return EventStream(events, question.seconds, Events(_who(question.target)))


def _who(target: Target) -> dict[str, str]:
    """Who answered, as far as it is known: a route may move a channel at any time."""
    version = {"version": target.version} if target.version else {}
    return {"model": target.name, **version}


def respond(target: Target, result: Result, accept: str) -> Response:
    """The answer in the form asked for; nothing of it refers to `result`'s memory.

    Raises:
        NotAcceptable: that form cannot hold it.
    """
    outputs = {name: result[name] for name in result}
    if accept == bodies.NPZ:
        return _binary(npy.write_npz(outputs), accept, target, result.parameters)
    if accept == bodies.NPY:
        if len(outputs) != 1:
            raise NotAcceptable(
                f"{target.name} answers with {len(outputs)} outputs, a .npy file holds one",
                hint=f"accept {bodies.NPZ}, or choose one with outputs: {', '.join(outputs)}",
            )
        return _binary(npy.write_npy(*outputs.values()), accept, target, result.parameters)
    if sum(array.size for array in outputs.values()) > _JSON_NUMBERS:
        raise NotAcceptable(
            "the answer is too large for JSON", hint=f"accept {bodies.NPZ} or {bodies.NPY}"
        )
    answer = {
        **_who(target),
        "outputs": {name: from_array(array) for name, array in outputs.items()},
        "parameters": dict(result.parameters),
    }
    return Response(msgspec.json.encode(answer, enc_hook=from_array), media_type=bodies.JSON)


def _binary(data: bytes, kind: str, target: Target, parameters: Mapping[str, Any]) -> Response:
    headers = {VERSION_HEADER: target.version} if target.version else {}
    if parameters:
        plain = msgspec.to_builtins(dict(parameters), enc_hook=from_array)
        headers[PARAMETERS_HEADER] = json.dumps(plain)  # ASCII, as a header must be
    return Response(data, media_type=kind, headers=headers)
