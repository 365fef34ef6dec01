# SPDX-License-Identifier: BUSL-1.1
"""The routes that change something: uploads, publishing, yanking, tags; and who one is."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated, Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from axon_client.manifest import Digest, Size
from axon_client.manifest_problems import check_text
from axon_client.registry.access import Identity
from axon_client.registry.http import feed, offset_of, read_json, reply
from axon_client.registry.publishing import publish
from axon_client.registry.reading import MODEL
from axon_client.registry.sending import extend_deadline
from axon_client.registry.site import Site
from axon_client.spec import PackageSpec

_VERSION = MODEL + "/-/versions/{version}"
_UPLOAD = "/api/v1/uploads/{key}"
_HASHING = 8


class Announced(msgspec.Struct, frozen=True):
    """A file that is to be uploaded."""

    sha256: Digest
    size: Size


class Publication(msgspec.Struct, frozen=True):
    """A version: its manifest's text, signatures of it, and tags."""

    manifest: str
    signatures: list[dict[str, str]] = []
    tags: list[str] = []


class Yank(msgspec.Struct, frozen=True):
    """Why nobody should choose a version any more."""

    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""


class Tagged(msgspec.Struct, frozen=True):
    """Which version a tag names."""

    version: str


class Writing:
    """The handlers; each asks first whether its client may."""

    def __init__(self, site: Site) -> None:
        self._site = site
        # Hashing after a restart takes minutes; all other requests need threads meanwhile.
        self._hashing = asyncio.Semaphore(_HASHING)

    def routes(self) -> list[BaseRoute]:
        """What they answer to."""
        return [
            Route("/api/v1/whoami", self.whoami),
            Route("/api/v1/uploads", self.begin, methods=["POST"]),
            Route(_UPLOAD, self.progress, methods=["GET"]),
            Route(_UPLOAD, self.append, methods=["PATCH"]),
            Route(_UPLOAD, self.finish, methods=["PUT"]),
            Route(_UPLOAD, self.cancel, methods=["DELETE"]),
            Route(_VERSION, self.publish, methods=["PUT"]),
            Route(_VERSION + "/yank", self.yank, methods=["POST"]),
            Route(_VERSION + "/yank", self.unyank, methods=["DELETE"]),
            Route(MODEL + "/-/tags/{tag}", self.tag, methods=["PUT"]),
            Route(MODEL + "/-/tags/{tag}", self.untag, methods=["DELETE"]),
        ]

    async def _may(self, request: Request, scope: str) -> Identity:
        return await run_in_threadpool(self._site.may, request, scope)

    async def _asked(
        self, request: Request, scope: str, kind: type[Any], standard: bytes = b""
    ) -> tuple[Identity, Any]:
        """Who asks and for what; a token that was revoked while the body came is refused."""
        await self._may(request, scope)
        body = await read_json(request, kind, self._site.limits.body, standard)
        return await self._may(request, scope), body

    def whoami(self, request: Request) -> Response:
        """The token that was sent, and what it is good for."""
        token = self._site.access.identify(request.headers.get("authorization")).token
        if token is None:
            scopes = [] if self._site.settings.private else ["read"]
            return reply({"name": None, "scopes": scopes, "expires": ""})
        about = {"name": token.label, "id": token.id, "scopes": token.scopes}
        return reply({**about, "expires": token.expires})

    # --- uploads ----------------------------------------------------------------------

    async def begin(self, request: Request) -> Response:
        """Announce a file: it is there already, or an upload begins."""
        wanted: Announced
        who, wanted = await self._asked(request, "publish", Announced)
        if await run_in_threadpool(self._site.blobs.claim, wanted.sha256, wanted.size):
            return reply({"exists": True})
        start = self._site.blobs.uploads.start
        upload = await run_in_threadpool(start, who.id, wanted.sha256, wanted.size)
        location = f"/api/v1/uploads/{upload.id}"
        return reply(
            {"exists": False, "location": location, "offset": upload.offset},
            201,
            {"location": location, "upload-offset": str(upload.offset)},
        )

    def progress(self, request: Request) -> Response:
        """Where an upload goes on."""
        who = self._site.may(request, "publish")
        upload = self._site.blobs.uploads.get(request.path_params["key"], who.id)
        headers = {"upload-offset": str(upload.offset)}
        if upload.size >= 0:
            headers["upload-length"] = str(upload.size)
        return reply({"offset": upload.offset, "size": upload.size}, headers=headers)

    async def append(self, request: Request) -> Response:
        """Add bytes. What came before the connection was cut is kept."""
        extend_deadline(request.scope)
        who = await self._may(request, "publish")
        key, offset = request.path_params["key"], offset_of(request)
        uploads = self._site.blobs.uploads
        with contextlib.ExitStack() as stack:
            opened = uploads.append(key, who.id, offset)
            writer = await run_in_threadpool(stack.enter_context, opened)
            await feed(request, writer, self._site.limits.stall)
        return Response(status_code=204, headers={"upload-offset": str(writer.offset)})

    async def finish(self, request: Request) -> Response:
        """Check an upload's digest and make it a file of the registry."""
        extend_deadline(request.scope)
        who = await self._may(request, "publish")
        finish = self._site.blobs.uploads.finish
        async with self._hashing:
            digest = await run_in_threadpool(finish, request.path_params["key"], who.id)
        location = f"/api/v1/blobs/sha256/{digest}"
        return reply({"sha256": digest}, 201, {"location": location})

    def cancel(self, request: Request) -> Response:
        """Throw an upload away."""
        who = self._site.may(request, "publish")
        self._site.blobs.uploads.cancel(request.path_params["key"], who.id)
        return Response(status_code=204)

    # --- versions and tags ------------------------------------------------------------

    async def publish(self, request: Request) -> Response:
        """Enter a version, whose files were uploaded."""
        package = _package(request)
        body: Publication
        who, body = await self._asked(request, f"publish:{package.namespace}", Publication)
        new = await run_in_threadpool(
            publish,
            self._site.database,
            self._site.blobs,
            body.manifest.encode(),
            signatures=body.signatures,
            tags=body.tags,
            publisher=who.id,
            expected=package,
        )
        location = request.url.path + ".json"
        answer = {"package": str(package), "created": new}
        return reply(answer, 201 if new else 200, {"location": location} if new else None)

    async def yank(self, request: Request) -> Response:
        """Tell everybody not to choose a version."""
        package = _package(request)
        body: Yank
        _, body = await self._asked(request, f"publish:{package.namespace}", Yank, b"{}")
        check_text(body.reason, "reason")
        return await self._set_yanked(package, body.reason.strip() or "yanked")

    async def unyank(self, request: Request) -> Response:
        """Take that back."""
        package = _package(request)
        await self._may(request, f"publish:{package.namespace}")
        return await self._set_yanked(package, None)

    async def _set_yanked(self, package: PackageSpec, reason: str | None) -> Response:
        yank = self._site.database.yank
        await run_in_threadpool(yank, package.namespace, package.name, package.version, reason)
        return reply({"package": str(package), "yanked": reason})

    async def tag(self, request: Request) -> Response:
        """Let a tag name a version."""
        package, tag = _package(request), request.path_params["tag"]
        body: Tagged
        _, body = await self._asked(request, f"publish:{package.namespace}", Tagged)
        set_tag = self._site.database.set_tag
        await run_in_threadpool(set_tag, package.namespace, package.name, tag, body.version)
        return reply({"tag": tag, "version": body.version})

    def untag(self, request: Request) -> Response:
        """Remove a tag."""
        package = _package(request)
        self._site.may(request, f"publish:{package.namespace}")
        tag = request.path_params["tag"]
        self._site.database.delete_tag(package.namespace, package.name, tag)
        return Response(status_code=204)


def _package(request: Request) -> PackageSpec:
    get = request.path_params.get
    return PackageSpec(get("namespace", ""), get("name", ""), get("version", ""))
