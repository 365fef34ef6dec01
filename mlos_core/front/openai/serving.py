# SPDX-License-Identifier: BUSL-1.1
"""Which models serve which routes."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from mlos_core.front.core import Core
from mlos_core.front.handles import TEXT_ROOM, Target
from mlos_core.front.openai.problems import invalid
from mlos_core.front.problems import not_ready

_ROUTES: Final = {
    "chat": "chat completions",
    "generate": "completions",
    "embed": "embeddings",
    "tokenize": "tokenize and detokenize",
}


async def catalogue(core: Core) -> list[dict[str, Any]]:
    """What the service knows of each model that serves text, by name: also of those that are
    not in memory, which their next request loads."""
    models = msgspec.to_builtins(await core.service.models())
    return [info for info in models if tasks_of(info) and info.get("state") != "failed"]


def tasks_of(info: dict[str, Any]) -> list[str]:
    """What the model that `info` describes can be asked for; nothing before its first load."""
    return list((info.get("signature") or {}).get("tasks") or ())


async def choose(core: Core, name: str | None, task: str, seconds: float) -> Target:
    """A model that serves `task`, waiting that long where it is loaded first.

    Raises:
        NotFound: no model of that name.
        DeadlineExceeded: it is still being loaded.
        InvalidValue: it does not serve that; or none was named and there is not exactly one.
    """
    chosen = name or await _only(core, task)
    try:
        async with asyncio.timeout(seconds):
            target, signature = await core.handles.choose(chosen, usual=TEXT_ROOM)
    except TimeoutError:
        raise not_ready(chosen) from None
    if task in signature.tasks:
        return target
    raise invalid("model", f"{chosen} does not serve {_ROUTES[task]}", "GET /v1/models lists all")


async def _only(core: Core, task: str) -> str:
    names = [info["name"] for info in await catalogue(core) if task in tasks_of(info)]
    if len(names) == 1:
        return str(names[0])
    raise invalid(
        "model",
        "the request names no model",
        f"for {_ROUTES[task]} there are: {', '.join(names) or 'none'}",
    )
