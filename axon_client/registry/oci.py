# SPDX-License-Identifier: BUSL-1.1
"""The registry as an OCI registry: what docker, oras and their kin ask for below `/v2/`.

Repositories are packages (`namespace/name`), tags are versions and axon's tags. Pulling needs
what reading needs elsewhere, pushing what publishing needs; a token is shown as the password
of a basic login, whatever the user.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from axon_client.oci.artifact import MAX_BYTES
from axon_client.registry import problems
from axon_client.registry.access import Access, Identity
from axon_client.registry.artifacts import Artifacts
from axon_client.registry.blobs import Blobs
from axon_client.registry.database import Database
from axon_client.registry.http import feed, number, reply
from axon_client.registry.limits import Limits
from axon_client.registry.oci_errors import VERSION, refusal, speaking
from axon_client.registry.pushes import Pushes
from axon_client.registry.ranges import wanted
from axon_client.registry.sending import FileResponse, extend_deadline
from axon_client.registry.writer import Upload
from axon_client.spec import DIGEST
from mlos_core.errors import (
    InvalidInput,
    MlosError,
    NotFound,
    PayloadTooLarge,
)

_NAME: Final = "/v2/{name:path}"
_UPLOADS: Final = _NAME + "/blobs/uploads/"
_OCTETS: Final = "application/octet-stream"
_PAGE: Final = 1000
_CONTENT_RANGE: Final = re.compile(r"(?:bytes )?([0-9]{1,18})-([0-9]{1,18})(?:/(?:[0-9]+|\*))?")


def routes(
    database: Database,
    blobs: Blobs,
    access: Access,
    limits: Limits = Limits(),  # noqa: B008
) -> Sequence[BaseRoute]:
    """What a registry answers to below `/v2/`."""
    return _Oci(database, blobs, access, limits).routes()


class _Oci:
    def __init__(self, database: Database, blobs: Blobs, access: Access, limits: Limits) -> None:
        self._artifacts = Artifacts(database)
        self._pushes = Pushes(database, blobs, self._artifacts)
        self._blobs = blobs
        self._access = access
        self._limits = limits

    def routes(self) -> list[BaseRoute]:
        manifest, upload = _NAME + "/manifests/{reference}", _UPLOADS + "{key}"
        return [
            Route("/v2/", speaking(self.ping)),
            Route("/v2/_catalog", speaking(self.catalog)),
            Route(_NAME + "/tags/list", speaking(self.tags, "NAME")),
            Route(manifest, speaking(self.manifest, "MANIFEST")),
            Route(manifest, speaking(self.put_manifest, "MANIFEST"), methods=["PUT"]),
            Route(_UPLOADS, speaking(self.begin, "BLOB_UPLOAD"), methods=["POST"]),
            Route(upload, speaking(self.progress, "BLOB_UPLOAD")),
            Route(upload, speaking(self.append, "BLOB_UPLOAD"), methods=["PATCH"]),
            Route(upload, speaking(self.finish, "BLOB_UPLOAD"), methods=["PUT"]),
            Route(upload, speaking(self.cancel, "BLOB_UPLOAD"), methods=["DELETE"]),
            Route(_NAME + "/blobs/{digest}", speaking(self.blob, "BLOB")),
            Route("/v2/{rest:path}", speaking(_nothing)),
        ]

    # --- reading ----------------------------------------------------------------------

    def ping(self, request: Request) -> Response:
        """Whether one is known here, and that this is a registry."""
        self._may(request, "read")
        return reply({}, headers=VERSION)

    def catalog(self, request: Request) -> Response:
        """A page of the repositories."""
        self._may(request, "read")
        return _page(request, "repositories", self._artifacts.repositories(), {})

    def tags(self, request: Request) -> Response:
        """A page of a repository's tags."""
        self._may(request, "read")
        name = _name(request)
        return _page(request, "tags", self._artifacts.tags(name), {"name": name})

    def manifest(self, request: Request) -> Response:
        """The artifact that a tag or digest names."""
        self._may(request, "read")
        found = self._artifacts.get(_name(request), request.path_params["reference"])
        headers = {**VERSION, "docker-content-digest": found.digest, "etag": f'"{found.digest}"'}
        return Response(found.body, 200, headers, found.media_type)

    def blob(self, request: Request) -> ASGIApp:
        """A blob, or a range of it."""
        self._may(request, "read")
        digest = _digest(request.path_params["digest"])
        headers = {**VERSION, "docker-content-digest": digest, "etag": f'"{digest}"'}
        try:
            file = self._blobs.open(digest.removeprefix("sha256:"))
        except NotFound:
            data = self._artifacts.small(_name(request), digest)
            return Response(data, 200, headers, _OCTETS)
        size = self._blobs.size(digest.removeprefix("sha256:")) or 0
        try:
            span = wanted(request.headers, size, f'"{digest}"')
        except MlosError:
            file.close()
            raise
        headers |= {"content-type": _OCTETS, "accept-ranges": "bytes"}
        if span.partial:
            last = span.start + span.count - 1
            headers["content-range"] = f"bytes {span.start}-{last}/{size}"
        status, stall = 206 if span.partial else 200, self._limits.stall
        return FileResponse(file, span.start, span.count, status, headers, stall)

    # --- writing ----------------------------------------------------------------------

    async def put_manifest(self, request: Request) -> Response:
        """Keep an artifact, and publish the model in it."""
        who, name = await self._may_push(request)
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BYTES:
                raise PayloadTooLarge(f"the manifest is larger than {MAX_BYTES} bytes")
        extend_deadline(request.scope)  # a model of another tool's is unpacked now
        reference = request.path_params["reference"]
        put = self._pushes.put
        digest = await run_in_threadpool(put, name, reference, bytes(body), who.id)
        return _made(f"/v2/{name}/manifests/{digest}", digest)

    async def begin(self, request: Request) -> Response:
        """Begin an upload; or take a blob over that is here, or take the whole at once."""
        extend_deadline(request.scope)
        who, name = await self._may_push(request)
        query = request.query_params
        if "mount" in query and DIGEST.fullmatch(query["mount"]):
            digest = query["mount"]
            if await run_in_threadpool(self._blobs.claim, digest[7:]):
                return _made(f"/v2/{name}/blobs/{digest}", digest)
        if "digest" in query:
            _digest(query["digest"])  # refused before an upload is begun that nobody would end
        upload = await run_in_threadpool(self._blobs.uploads.start, who.id)
        if "digest" in query:
            return await self._finish(request, name, upload, who)
        return self._under_way(name, upload.id, upload.offset, 202)

    def progress(self, request: Request) -> Response:
        """Where an upload goes on."""
        who, name = self._may_push_now(request)
        upload = self._blobs.uploads.get(request.path_params["key"], who.id)
        return self._under_way(name, upload.id, upload.offset, 204)

    async def append(self, request: Request) -> Response:
        """Add a chunk. What came before the connection was cut is kept."""
        extend_deadline(request.scope)
        who, name = await self._may_push(request)
        key = request.path_params["key"]
        upload = await run_in_threadpool(self._blobs.uploads.get, key, who.id)
        try:
            offset = await self._append(request, upload, who)
        except problems.WrongOffset as error:
            refused = refusal(error, "BLOB_UPLOAD")
            refused.headers.update(self._under_way(name, key, error.offset, 416).headers)
            refused.headers["content-length"] = str(len(refused.body))
            return refused
        return self._under_way(name, key, offset, 202)

    async def finish(self, request: Request) -> Response:
        """Add the rest, check the digest, and make the upload a blob."""
        extend_deadline(request.scope)
        who, name = await self._may_push(request)
        key = request.path_params["key"]
        upload = await run_in_threadpool(self._blobs.uploads.get, key, who.id)
        return await self._finish(request, name, upload, who)

    def cancel(self, request: Request) -> Response:
        """Throw an upload away."""
        who, _ = self._may_push_now(request)
        self._blobs.uploads.cancel(request.path_params["key"], who.id)
        return Response(status_code=204)

    async def _finish(self, request: Request, name: str, upload: Upload, who: Identity) -> Response:
        digest = _digest(request.query_params.get("digest", ""))
        await self._append(request, upload, who)
        finish = self._blobs.uploads.finish
        await run_in_threadpool(finish, upload.id, who.id, digest.removeprefix("sha256:"))
        return _made(f"/v2/{name}/blobs/{digest}", digest)

    async def _append(self, request: Request, upload: Upload, who: Identity) -> int:
        """Add the body where the request says, or at the end; where the upload ends then."""
        text = request.headers.get("content-range", "")
        found = _CONTENT_RANGE.fullmatch(text)
        if text and found is None:
            raise InvalidInput(f"Content-Range is {text[:80]!r}", hint="write <first>-<last>")
        offset = int(found[1]) if found else upload.offset
        with contextlib.ExitStack() as stack:
            opened = self._blobs.uploads.append(upload.id, who.id, offset)
            writer = await run_in_threadpool(stack.enter_context, opened)
            await feed(request, writer, self._limits.stall)
        return writer.offset

    def _under_way(self, name: str, key: str, offset: int, status: int) -> Response:
        headers = {
            "location": f"/v2/{name}/blobs/uploads/{key}",
            "range": f"0-{max(0, offset - 1)}",
            "docker-upload-uuid": key,
        }
        return Response(status_code=status, headers={**VERSION, **headers})

    # --- who --------------------------------------------------------------------------

    def _may(self, request: Request, scope: str) -> Identity:
        return self._access.require(request.headers.get("authorization"), scope)

    def _may_push_now(self, request: Request) -> tuple[Identity, str]:
        name = _name(request)
        namespace, _ = self._artifacts.package(name)
        return self._may(request, f"publish:{namespace}"), name

    async def _may_push(self, request: Request) -> tuple[Identity, str]:
        return await run_in_threadpool(self._may_push_now, request)


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    return name.lower()  # as clients ask anyway; documents are kept under one spelling


def _digest(text: str) -> str:
    if not DIGEST.fullmatch(text):
        raise problems.WrongDigest(
            f"{text[:80]!r} is no digest", hint="sha256: and 64 lower-case hex digits"
        )
    return text


def _made(location: str, digest: str) -> Response:
    headers = {"location": location, "docker-content-digest": digest}
    return Response(status_code=201, headers={**VERSION, **headers})


def _page(request: Request, key: str, names: list[str], beside: dict[str, str]) -> Response:
    """What comes behind `last`, at most `n` of them, and a link to the rest."""
    last = request.query_params.get("last", "")
    count = number(request, "n", _PAGE, _PAGE)
    rest = [name for name in names if name > last]
    page = rest[:count]
    headers = dict(VERSION)
    if page and len(rest) > count:
        headers["link"] = f'<{request.url.path}?n={count}&last={page[-1]}>; rel="next"'
    return reply({**beside, key: page}, headers=headers)


def _nothing(request: Request) -> Response:
    raise InvalidInput("this registry has no such operation")
