# SPDX-License-Identifier: BUSL-1.1
"""The routes that read: search, packages, manifests, blobs, archives.

Their handlers are plain functions, which Starlette runs in threads: all they wait for is the
database and the disk.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from axon_client import pack
from axon_client.registry import search
from axon_client.registry.cards import FACETS
from axon_client.registry.http import FRESH, kept, number, reply
from axon_client.registry.ranges import Span, matches, wanted
from axon_client.registry.sending import FileResponse, MadeResponse
from axon_client.registry.site import Site
from mlos_core.errors import InvalidInput, NotFound

MODEL: Final = "/api/v1/models/{namespace}/{name:path}"
_BYTES: Final = "application/octet-stream"
_MAX_OFFSET: Final = 1_000_000
_MAX_VALUES: Final = 50
_MAX_TEXT: Final = 256


class Reading:
    """The handlers; each asks whether its client may read."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def routes(self) -> list[BaseRoute]:
        """What they answer to."""
        return [
            Route("/api/v1/registry.json", self.about),
            Route("/api/v1/search", self.find),
            Route("/api/v1/facets", self.count),
            Route("/api/v1/index.json", self.everything),
            Route(MODEL + "/-/index.json", self.package),
            Route(MODEL + "/-/versions/{version}.json", self.version),
            Route(MODEL + "/{version}/manifest.yaml", self.manifest),
            Route("/api/v1/blobs/sha256/{digest}", self.blob),
            Route("/packages/{archive}", self.archive),
        ]

    def about(self, request: Request) -> Response:
        """What this registry is."""
        self._site.may(request, "read")
        return kept(request, msgspec.json.encode(self._site.about()))

    def find(self, request: Request) -> Response:
        """A page of what fits; the header says how many fit in all."""
        self._site.may(request, "read")
        found, total = search.search(self._site.database, self._query(request))
        return reply(found, headers={"x-total-count": str(total)})

    def count(self, request: Request) -> Response:
        """How many packages have which value."""
        self._site.may(request, "read")
        return reply(search.facets(self._site.database, self._query(request)))

    def everything(self, request: Request) -> Response:
        """What a client that searches itself needs."""
        self._site.may(request, "read")
        return kept(request, msgspec.json.encode(search.everything(self._site.database)))

    def package(self, request: Request) -> Response:
        """A package's versions and tags."""
        self._site.may(request, "read")
        return kept(request, msgspec.json.encode(self._site.database.index(*_package(request))))

    def version(self, request: Request) -> Response:
        """All that is known of a version."""
        self._site.may(request, "read")
        detail = self._site.database.version(*_package(request), request.path_params["version"])
        return kept(request, msgspec.json.encode(detail))

    def manifest(self, request: Request) -> Response:
        """The bytes that were published; they never change, but what a tag names does."""
        self._site.may(request, "read")
        package, version = _package(request), request.path_params["version"]
        database, cache = self._site.database, self._site.forever
        try:
            data = database.manifest(*package, version)
        except NotFound:
            tagged = database.tags(*package).get(version)
            if tagged is None:
                raise
            data, cache = database.manifest(*package, tagged), FRESH
        return kept(request, data, "application/yaml", cache)

    def blob(self, request: Request) -> ASGIApp:
        """A file, or a range of it."""
        self._site.may(request, "read")
        digest = request.path_params["digest"]
        file = self._site.blobs.open(digest)
        etag, size = f'"{digest}"', os.fstat(file.fileno()).st_size
        headers = {
            "etag": etag,
            "cache-control": self._site.forever,
            "accept-ranges": "bytes",
            "content-type": _BYTES,
        }
        if matches(request.headers.get("if-none-match"), etag):
            file.close()
            return Response(status_code=304, headers=headers)
        try:
            span = wanted(request.headers, size, etag) if request.method == "GET" else Span(0, size)
        except InvalidInput:
            file.close()
            raise
        return FileResponse(
            file,
            span.start,
            span.count,
            206 if span.partial else 200,
            {**headers, **_range_header(span, size)},
            self._site.limits.stall,
        )

    def archive(self, request: Request) -> ASGIApp:
        """The original's tar.gz of a version, made while it is sent."""
        self._site.may(request, "read")
        name = request.path_params["archive"]
        manifest, files = self._site.database.archived(name)
        blobs = self._site.blobs
        blobs.check(name, files)
        headers = {
            "content-type": "application/gzip",
            "cache-control": self._site.forever,
            "accept-ranges": "none",
        }
        pieces = pack.packed(manifest, files, lambda file: blobs.open(file.sha256))
        size = pack.packed_size(manifest, files)
        return MadeResponse(pieces, size, headers, self._site.limits.stall)

    def _query(self, request: Request) -> search.Query:
        parameters = request.query_params
        sort = parameters.get("sort", "") or "relevance"
        if sort not in ("relevance", "name", "created"):
            raise InvalidInput(f"sort is {sort[:40]!r}", hint="relevance, name or created")
        facets: Mapping[str, tuple[str, ...]] = {
            facet: tuple(filter(None, parameters.getlist(facet))) for facet in FACETS
        }
        if any(len(values) > _MAX_VALUES for values in facets.values()):
            raise InvalidInput(f"a facet has at most {_MAX_VALUES} values")
        text = parameters.get("q", "")
        if len(text) > _MAX_TEXT:
            raise InvalidInput(f"q has at most {_MAX_TEXT} characters")
        return search.Query(
            text,
            facets,
            sort,  # type: ignore[arg-type]
            number(request, "limit", 20, self._site.limits.page),
            number(request, "offset", 0, _MAX_OFFSET),
        )


def _package(request: Request) -> tuple[str, str]:
    return request.path_params["namespace"], request.path_params["name"]


def _range_header(span: Span, size: int) -> dict[str, str]:
    if not span.partial:
        return {}
    return {"content-range": f"bytes {span.start}-{span.start + span.count - 1}/{size}"}
