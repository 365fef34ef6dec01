# SPDX-License-Identifier: BUSL-1.1
"""From the bytes of an inference request to what is asked of whom."""

from __future__ import annotations

import msgspec
from starlette.requests import Request

from mlos_core.errors import InvalidInput, Unsupported
from mlos_core.front import body as bodies
from mlos_core.front import questions
from mlos_core.front.core import Core
from mlos_core.front.handles import Target
from mlos_core.front.questions import InferBody, ModelInferBody, Options
from mlos_core.types import Array, Signature

_Chosen = tuple[Target, Signature]


class Question(msgspec.Struct):
    """A request that fits its model."""

    target: Target
    inputs: dict[str, Array]
    options: Options
    accept: str
    seconds: float


class Asked(msgspec.Struct):
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
    known: _Chosen | None = None


async def understand(core: Core, asked: Asked) -> Question:
    """The question that a request puts, to whom its version or the model's route says.

    Raises:
        NotFound: there is no such model or version.
        InvalidInput: the body does not fit the model.
    """
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


async def _read_json(core: Core, asked: Asked) -> tuple[InferBody, _Chosen]:
    raw, name = asked.body.data, asked.name
    if name:
        parsed: InferBody = bodies.decode_json(raw, InferBody)
    else:
        parsed = by_id = bodies.decode_json(raw, ModelInferBody)
        name = by_id.model_id
    versions = (asked.version, asked.url.version, parsed.version)
    return parsed, await _choose(core, asked, name, *versions)


async def _read_by_key(core: Core, asked: Asked) -> tuple[InferBody, _Chosen]:
    """Which keys are inputs, only the model's signature says."""
    version = asked.url.version
    chosen = await _choose(core, asked, asked.name, version)
    parsed = questions.named_body(asked.body.data, chosen[1])
    if parsed.version:
        chosen = await _choose(core, asked, asked.name, version, parsed.version)
    return parsed, chosen


async def _choose(core: Core, asked: Asked, name: str, *versions: str) -> _Chosen:
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
