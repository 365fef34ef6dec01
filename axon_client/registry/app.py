# SPDX-License-Identifier: BUSL-1.1
"""The application that serves a registry."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import Receive, Scope, Send

from axon_client.registry.edge import Edge
from axon_client.registry.http import reply
from axon_client.registry.reading import Reading
from axon_client.registry.site import Site
from axon_client.registry.writing import Writing


def build(site: Site) -> Edge:
    """The ASGI application of a registry, with the OCI endpoint if this axon has it."""
    routes: list[BaseRoute] = [
        Route("/health", _health),
        *Reading(site).routes(),
        *Writing(site).routes(),
        *_oci_routes(site),
    ]
    return Edge(Router(routes, redirect_slashes=False, default=_unknown), site.limits)


def _oci_routes(site: Site) -> Sequence[BaseRoute]:
    if not site.speaks_oci:
        return ()
    module = importlib.import_module("axon_client.registry.oci")
    routes: Sequence[BaseRoute] = module.routes(site.database, site.blobs, site.access, site.limits)
    return routes


def _health(request: Request) -> Response:
    return reply({"status": "ok"})


async def _unknown(scope: Scope, receive: Receive, send: Send) -> None:
    raise HTTPException(404)
