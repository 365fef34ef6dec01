# SPDX-License-Identifier: BUSL-1.1
"""Routes that look after models, plugins and the server itself."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import yaml
from starlette.requests import Request
from starlette.responses import Response

from mlos_core import __version__
from mlos_core.errors import ConfigError, InvalidInput, Unsupported
from mlos_core.front import metrics, model_metrics, openapi
from mlos_core.front.core import Core, reply
from mlos_core.front.schema import ModelStatus, Register, Registered

_MANIFEST_LIMIT = 1 << 20


async def register(core: Core, request: Request) -> Response:
    """Load a model."""
    return reply(await _register(core, await core.body(request, Register)), 201)


async def register_original(core: Core, request: Request) -> Response:
    """Load a model, answered as the original Core's clients expect."""
    info = await _register(core, await core.body(request, Register))
    name = str(msgspec.to_builtins(info)["name"])
    return reply(Registered("registered", name, info), 201)


async def _register(core: Core, wanted: Register) -> Any:
    name = _either("name", wanted.name, "model_id", wanted.model_id)
    path = _either("path", wanted.path, "model_path", wanted.model_path)
    if not name or not path:
        missing = "path" if name else "name"
        raise InvalidInput(f"the registration has no {missing}", hint="give name and path")
    manifest = wanted.manifest
    if manifest is None and wanted.manifest_path:
        manifest = await asyncio.to_thread(read_manifest, Path(wanted.manifest_path))
    info = await core.change(
        core.service.register(
            name,
            path,
            plugin=_either("plugin", wanted.plugin, "plugin_id", wanted.plugin_id),
            version=wanted.version,
            device=wanted.device,
            options=wanted.options,
            instances=wanted.instances,
            batch=wanted.batch,
            manifest=manifest,
            warmup=wanted.warmup,
            replace=wanted.replace,
            add=wanted.add,
            python=wanted.python,
            threads=wanted.threads,
            cpus=wanted.cpus,
            numa_node=wanted.numa_node,
            load=wanted.load,
            keep_alive=wanted.keep_alive,
            memory=wanted.memory,
            warmup_inputs=wanted.warmup_inputs,
            wait=wanted.wait,
            timeout=core.limits.deadline(wanted.timeout),
        )
    )
    core.handles.drop(name)
    return info


def _either(one: str, value: str, other: str, alias: str) -> str:
    if value and alias and value != alias:
        raise InvalidInput(f"{one} and {other} differ", hint=f"give {one} alone")
    return value or alias


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest in a YAML file.

    Raises:
        ConfigError: it cannot be read, or holds no mapping.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_MANIFEST_LIMIT + 1)
        value = yaml.safe_load(raw[:_MANIFEST_LIMIT])
    except (OSError, yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as err:
        raise ConfigError(
            f"the manifest {path} cannot be read", hint="give the path of a YAML file"
        ) from err
    if not isinstance(value, dict) or len(raw) > _MANIFEST_LIMIT:
        raise ConfigError(f"{path} is no manifest", hint="write one with axon init")
    return value


async def models(core: Core, request: Request) -> Response:
    """All models."""
    return reply({"models": await core.service.models()})


async def model(core: Core, request: Request) -> Response:
    """One model."""
    return reply(await core.service.model(request.path_params["name"]))


async def model_status(core: Core, request: Request) -> Response:
    """State and counters of one model."""
    name = request.path_params["name"]
    info = msgspec.to_builtins(await core.service.model(name))
    stats = msgspec.to_builtins(await core.service.stats(name))
    return reply(ModelStatus(name, info["state"], info["reason"], info, stats.get(name)))


async def plugins(core: Core, request: Request) -> Response:
    """All plugins."""
    return reply({"plugins": await core.service.plugins()})


async def register_plugin(core: Core, request: Request) -> Response:
    """Plugins cannot be sent; says how they come."""
    raise Unsupported(
        "plugins are not registered over HTTP",
        hint="pip install the plugin beside the daemon: it is found by its entry point in the "
        "group mlos.plugins, and GET /plugins then lists it",
    )


async def health(core: Core, request: Request) -> Response:
    """Whether models can be asked, and the server's version."""
    return await _health(core, {"version": __version__})


async def live(core: Core, request: Request) -> Response:
    """That the server runs."""
    return reply({"status": "ok"})


async def ready(core: Core, request: Request) -> Response:
    """Whether the data plane answers."""
    return await _health(core, {})


async def _health(core: Core, more: dict[str, Any]) -> Response:
    detail = msgspec.to_builtins(await core.service.ready())
    good = bool(detail["ready"])
    body = {"status": "ok" if good else "not ready", **more, "detail": detail}
    return reply(body, 200 if good else 503)


async def statistics(core: Core, request: Request) -> Response:
    """The daemon's state and every model's counters."""
    return reply({"server": await core.service.status(), "models": await core.service.stats()})


async def scrape(core: Core, request: Request) -> Response:
    """Prometheus metrics."""
    status = msgspec.to_builtins(await core.service.status())
    models = msgspec.to_builtins(await core.service.models())
    stats = await core.service.stats(histograms=True)
    exposition = metrics.Exposition(
        core.metrics.registry.collect, lambda: model_metrics.families(status, models, stats)
    )
    body, kind = metrics.render(exposition, request.headers.get("accept", ""))
    return Response(body, headers={"content-type": kind})


async def document(core: Core, request: Request) -> Response:
    """The OpenAPI document."""
    return Response(core.document, media_type="application/json")


async def page(core: Core, request: Request) -> Response:
    """The page that shows the document."""
    html, policy = openapi.page()
    return Response(html, media_type="text/html", headers={"content-security-policy": policy})
