# SPDX-License-Identifier: BUSL-1.1
"""`GET /v1/models`: the models that serve text."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlos_core.errors import NotFound
from mlos_core.front.core import Core, reply
from mlos_core.front.openai import serving


class ModelCard(msgspec.Struct, kw_only=True):
    """A model; `tasks` says what it serves: generate, chat, embed, tokenize."""

    id: str
    object: str = "model"
    created: int
    owned_by: str = "mlos"
    tasks: list[str]


class ModelList(msgspec.Struct, kw_only=True):
    """All models that serve text and are loaded."""

    object: str = "list"
    data: list[ModelCard]


async def models(core: Core, request: Request) -> Response:
    """All of them."""
    return reply(ModelList(data=[_card(info) for info in await serving.catalogue(core)]))


async def model(core: Core, request: Request) -> Response:
    """One of them."""
    name = request.path_params["name"]
    info = msgspec.to_builtins(await core.service.model(name))
    if not serving.tasks_of(info):
        raise NotFound(f"the model {name!r} serves no text", hint="GET /v1/models lists all")
    return reply(_card(info))


def _card(info: dict[str, Any]) -> ModelCard:
    created = int(info.get("registered_at") or 0)
    return ModelCard(id=info["name"], created=created, tasks=serving.tasks_of(info))
