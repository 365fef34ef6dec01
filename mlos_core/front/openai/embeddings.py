# SPDX-License-Identifier: BUSL-1.1
"""`POST /v1/embeddings`."""

from __future__ import annotations

import base64
from typing import Any, Final, Literal

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from mlos_core.front.core import Core, reply
from mlos_core.front.openai import body as bodies
from mlos_core.front.openai import caller, serving
from mlos_core.front.openai.fields import Positive, refuse
from mlos_core.front.openai.problems import invalid
from mlos_core.front.openai.vectors import vectors
from mlos_core.types import Array

_NEUTRAL: Final[dict[str, tuple[Any, ...]]] = {
    "truncate_prompt_tokens": (),
    "priority": (0,),
}


class EmbeddingBody(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Texts or token ids, one or a list. `dimensions` cuts the vectors and makes their length
    1 again, which suits models trained for it."""

    input: str | list[Any]
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Positive | None = None
    user: str | None = None
    add_special_tokens: bool | None = None
    normalize: bool | None = None
    # --- known, not served
    truncate_prompt_tokens: Any = None
    priority: Any = None


class Embedding(msgspec.Struct, kw_only=True):
    """The vector of one input: numbers, or float32 in base64."""

    object: str = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingUsage(msgspec.Struct):
    """The tokens of all inputs."""

    prompt_tokens: int
    total_tokens: int


class Embeddings(msgspec.Struct, kw_only=True):
    """The vectors in the order of the inputs."""

    object: str = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


async def embed(core: Core, request: Request) -> Response:
    """The vectors of texts."""
    body = await bodies.read(core, request, EmbeddingBody)
    refuse(body, _NEUTRAL)
    inputs = bodies.prompts("input", body.input)
    seconds = caller.seconds(core, request)
    target = await serving.choose(core, body.model, "embed", seconds)
    found = await vectors(core, target, inputs, _parameters(body), seconds)
    tokens = sum(vector.tokens for vector in found)
    data = [
        Embedding(index=index, embedding=_form(_cut(vector.values, body), body))
        for index, vector in enumerate(found)
    ]
    return reply(Embeddings(data=data, model=target.name, usage=EmbeddingUsage(tokens, tokens)))


def _parameters(body: EmbeddingBody) -> dict[str, Any]:
    given = {"add_special_tokens": body.add_special_tokens, "normalize": body.normalize}
    return {name: value for name, value in given.items() if value is not None}


def _cut(values: Array, body: EmbeddingBody) -> Array:
    size = body.dimensions
    if size is None or size == values.size:
        return values
    if size > values.size:
        raise invalid("dimensions", f"the model's vectors have {values.size} dimensions")
    cut = values[:size].astype(np.float64)
    length = float(np.sqrt(cut @ cut))
    return (cut / length if length else cut).astype("<f4")


def _form(values: Array, body: EmbeddingBody) -> list[float] | str:
    if body.encoding_format == "base64":
        return base64.b64encode(values.tobytes()).decode()
    numbers: list[float] = values.tolist()
    return numbers
