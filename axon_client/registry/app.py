# SPDX-License-Identifier: BUSL-1.1
"""The application that serves a registry."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route, Router
from starlette.types import Receive, Scope, Send

from axon_client.registry.edge import Edge
from axon_client.registry.http import reply
from axon_client.registry.reading import Reading
from axon_client.registry.site import Site
from axon_client.registry.writing import Writing


def build(site: Site) -> Edge:
    """The ASGI application of a registry."""
    return Edge(_Routes(routes(site), redirect_slashes=False, default=_unknown), site.limits)


class _Routes(Router):
    """Tells who took a wrong method all that the path has, not those of one route alone."""

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().app(scope, receive, send)
        except HTTPException as error:
            if error.status_code != 405:
                raise
            fits = [route for route in self.routes if route.matches(scope)[0] != Match.NONE]
            allowed = {method for route in fits for method in getattr(route, "methods", ())}
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(allowed))}) from error


def routes(site: Site) -> list[BaseRoute]:
    """All that it answers to, with the OCI endpoint if this axon has it."""
    return [
        Route("/health", _health),
        *Reading(site).routes(),
        *Writing(site).routes(),
        *_oci_routes(site),
    ]


def _oci_routes(site: Site) -> Sequence[BaseRoute]:
    if not site.speaks_oci:
        return ()
    module = importlib.import_module("axon_client.registry.oci")
    made: Sequence[BaseRoute] = module.routes(site.database, site.blobs, site.access, site.limits)
    return made


def _health(request: Request) -> Response:
    return reply({"status": "ok"})


async def _unknown(scope: Scope, receive: Receive, send: Send) -> None:
    raise HTTPException(404)
