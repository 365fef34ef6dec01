# SPDX-License-Identifier: BUSL-1.1
"""Routes that change what is served while it is asked: versions, swaps, loading, unloading.

Channels follow their models: the daemon moves them, and none is attached anew but where the
inputs and outputs may have changed.
"""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlos_core.errors import NotFound
from mlos_core.front.core import Core, reply
from mlos_core.front.schema import Load, PluginSwap, Rollback, RouteChange, Swap, Unload


async def unregister(core: Core, request: Request) -> Response:
    """Drain a model and forget it."""
    name = request.path_params["name"]
    info = await core.change(core.service.unregister(name))
    core.handles.drop(name)
    return reply(info)


async def version(core: Core, request: Request) -> Response:
    """One version of a model."""
    name, wanted = request.path_params["name"], request.path_params["version"]
    info = msgspec.to_builtins(await core.service.model(name))
    for each in info["versions"]:
        if each["version"] == wanted:
            return reply(each)
    there = ", ".join(each["version"] or "one without a version" for each in info["versions"])
    raise NotFound(f"model {name!r} has no version {wanted!r}", hint=f"it has {there}")


async def unregister_version(core: Core, request: Request) -> Response:
    """Drain one version and forget it."""
    name, wanted = request.path_params["name"], request.path_params["version"]
    info = await core.change(core.service.unregister(name, version=wanted))
    core.handles.drop(name, wanted)
    return reply(info)


async def swap(core: Core, request: Request) -> Response:
    """Replace a version while it is asked."""
    name, wanted = request.path_params["name"], await core.body(request, Swap)
    info = await core.change(core.service.swap_model(name, **_given(core, wanted)))
    if wanted.allow_new_signature:
        core.handles.drop(name)
    return reply(info)


async def rollback(core: Core, request: Request) -> Response:
    """Serve again what was served before the last swap."""
    name, wanted = request.path_params["name"], await core.body(request, Rollback)
    info = await core.change(core.service.rollback_model(name, **_given(core, wanted)))
    core.handles.drop(name)  # what is gone back to may take other inputs
    return reply(info)


async def route(core: Core, request: Request) -> Response:
    """Say which version a request gets that names none."""
    name, wanted = request.path_params["name"], await core.body(request, RouteChange)
    return reply(
        await core.change(
            core.service.route_model(name, weights=wanted.weights, version=wanted.version)
        )
    )


async def load(core: Core, request: Request) -> Response:
    """Load a version now."""
    name, wanted = request.path_params["name"], await core.body(request, Load)
    return reply(await core.change(core.service.load_model(name, **_given(core, wanted))))


async def unload(core: Core, request: Request) -> Response:
    """Give a version's memory back; the next request loads it again."""
    name, wanted = request.path_params["name"], await core.body(request, Unload)
    return reply(await core.change(core.service.unload_model(name, version=wanted.version)))


async def swap_plugin(core: Core, request: Request) -> Response:
    """Replace a plugin by what is installed now, while its models are asked."""
    wanted = await core.body(request, PluginSwap)
    return reply(
        await core.change(
            core.service.swap_plugin(request.path_params["plugin"], **_given(core, wanted))
        )
    )


def _given(core: Core, wanted: msgspec.Struct) -> dict[str, Any]:
    """The fields as the service's parameters, its timeout within the front's limits."""
    given = msgspec.structs.asdict(wanted)
    return {**given, "timeout": core.limits.deadline(given["timeout"])}
