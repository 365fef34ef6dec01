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

from mlos_core.errors import DeadlineExceeded, InvalidInput, MlosError, NotFound
from mlos_core.front import body as bodies
from mlos_core.front import npy, questions
from mlos_core.front.asked import Asked, Question, understand
from mlos_core.front.codec import from_array
from mlos_core.front.core import Core
from mlos_core.front.handles import Target
from mlos_core.front.ports import Result
from mlos_core.front.problems import NotAcceptable, not_ready
from mlos_core.front.sse import Events, EventStream

PARAMETERS_HEADER: Final = "x-mlos-parameters"
VERSION_HEADER: Final = "x-mlos-version"
_COMING: Final = frozenset({"registered", "loading", "warming", "unloaded"})
# More numbers than this as JSON would hold up the daemon's loop for too long.
_JSON_NUMBERS: Final = 4_000_000


async def infer(core: Core, request: Request) -> Response:
    """`POST .../{name}/infer`, or `.../{name}/versions/{version}/infer`."""
    return await _answer(core, Asked(request, bodies.Body(core.gate), **request.path_params))


async def infer_named(core: Core, request: Request) -> Response:
    """`POST /models/{name}/inference`: input names may be the keys of the body."""
    name = request.path_params["name"]
    return await _answer(core, Asked(request, bodies.Body(core.gate), name, by_key=True))


async def infer_by_id(core: Core, request: Request) -> Response:
    """`POST /api/v1/inference`: the body names the model."""
    return await _answer(core, Asked(request, bodies.Body(core.gate)))


async def _answer(core: Core, asked: Asked) -> Response:
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
    except (TimeoutError, DeadlineExceeded) as err:
        late = err if isinstance(err, DeadlineExceeded) else body.late()
        reason = await _why_late(core, asked, late)
        if reason is err:
            raise
        raise reason from err
    finally:
        body.release()


async def _why_late(core: Core, asked: Asked, late: MlosError) -> MlosError:
    """The error for a deadline that passed; one that says so where the model is being loaded."""
    if asked.known is None:
        return late
    target = asked.known[0]
    try:
        info = msgspec.to_builtins(await core.service.model(target.name))
    except NotFound:  # `name@version`, or it has gone
        return late
    states = {each["version"]: each["state"] for each in info["versions"]}
    state = states.get(target.version, info["state"])
    return not_ready(target.name) if state in _COMING else late


async def _once(core: Core, asked: Asked, began: float, scope: asyncio.Timeout) -> Response:
    question = await understand(core, asked)
    if question.accept == bodies.EVENTS:
        return _stream(core, question)
    if question.seconds != core.limits.deadline(asked.url.timeout):
        scope.reschedule(began + question.seconds)
    return await _ask(core, question, began)


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
