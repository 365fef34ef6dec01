# SPDX-License-Identifier: BUSL-1.1
"""A small OCI registry that wants tokens and misbehaves on demand."""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

USER, PASSWORD = "ada", "secret"


def digest_of(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Registry:
    """What is in it, what it was asked, and how it misbehaves.

    `lie`: {path ending: bytes} sent instead; `cuts`: how many PATCHes lose their second half;
    `elsewhere`: the URL that blobs are redirected to; `uses`: requests that a token is good for;
    `realm`: another token service; `moved`: where `/moved` redirects to; `uploads_to`: another
    host that uploads are sent to; `most`: bytes of one PATCH; `elsewhere_only`: blobs that only
    another repository has; `next_page`: where the tags always go on.
    """

    def __init__(self):
        self.blobs = {}
        self.manifests = {}
        self.uploads = {}
        self.tokens = {}
        self.asked = []
        self.scopes = []
        self.lie = {}
        self.cuts = 0
        self.elsewhere = ""
        self.realm = ""
        self.moved = ""
        self.uploads_to = ""
        self.uses = 1 << 30
        self.login = True
        self.basic = False
        self.stated = {}
        self.page = 100
        self.next_page = ""
        self.most = 1 << 40
        self.leaked = []
        self.elsewhere_only = set()
        self.guard = threading.Lock()

    def put_blob(self, data):
        self.blobs[digest_of(data)] = data
        return digest_of(data)

    def put(self, repository, tag, layers, config=b"{}", **more):
        """An artifact; `layers`: (media type, data, annotations)."""
        rows = [
            {"mediaType": kind, "digest": self.put_blob(data), "size": len(data),
             "annotations": notes}
            for kind, data, notes in layers
        ]  # fmt: skip
        manifest = {
            "schemaVersion": 2,
            "config": {
                "mediaType": "application/vnd.cncf.model.config.v1+json",
                "digest": self.put_blob(config),
                "size": len(config),
            },
            "layers": rows,
            **more,
        }
        return self.put_manifest(repository, tag, json.dumps(manifest).encode())

    def put_manifest(self, repository, tag, data):
        self.manifests[(repository, tag)] = data
        self.manifests[(repository, digest_of(data))] = data
        return digest_of(data)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    @property
    def registry(self):
        return self.server.registry

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def error(self, status, code, **headers):
        body = {"errors": [{"code": code, "message": f"that is {code.lower()}"}]}
        self.answer(status, json.dumps(body).encode(), **headers)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (ConnectionError, ValueError):
            self.close_connection = True

    def respond(self):
        registry, parts = self.registry, urlsplit(self.path)
        shown = self.headers.get("Authorization", "")
        registry.asked.append((self.command, parts.path, shown))
        if parts.path == "/token":
            return self.token(parse_qs(parts.query), shown)
        if parts.path == "/moved":
            return self.answer(302, Location=registry.moved)
        if registry.login and not self.known(shown):
            self.body()
            return self.challenge(parts.path)
        found = re.fullmatch(r"/v2/(.+)/(manifests|blobs|tags|blobs/uploads)/([^/]*)", parts.path)
        if not found:
            return self.error(404, "NAME_UNKNOWN")
        handle = getattr(self, "on_" + found[2].replace("/", "_"))
        return handle(found[1], found[3], parse_qs(parts.query))

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = respond

    def token(self, query, shown):
        expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if shown not in ("", expected):
            return self.error(401, "UNAUTHORIZED")
        scope = query.get("scope", [""])[0]
        self.registry.scopes.append((scope, bool(shown)))
        if "push" in scope and not shown:
            return self.error(403, "DENIED")
        text = f"token-{len(self.registry.tokens)}"
        self.registry.tokens[text] = self.registry.uses
        return self.answer(200, json.dumps({"token": text, "expires_in": 60}).encode())

    def known(self, shown):
        if self.registry.basic:
            expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            return shown == f"Basic {expected}"
        text = shown.removeprefix("Bearer ")
        with self.registry.guard:
            left = self.registry.tokens.get(text, 0)
            self.registry.tokens[text] = left - 1
        return left > 0

    def challenge(self, path):
        host = self.headers["Host"]
        name = path.removeprefix("/v2/").partition("/blobs")[0].partition("/manifests")[0]
        scope = f"repository:{name}:pull"
        realm = self.registry.realm or f"http://{host}/token"
        text = f'Bearer realm="{realm}",service="fake, registry",scope="{scope}"'
        text = 'Basic realm="fake"' if self.registry.basic else text
        self.error(401, "UNAUTHORIZED", WWW_Authenticate=text)

    def on_manifests(self, repository, reference, query):
        registry = self.registry
        if self.command == "PUT":
            data = self.body()
            registry.put_manifest(repository, reference, data)
            return self.answer(201, Docker_Content_Digest=digest_of(data))
        data = registry.manifests.get((repository, reference))
        if data is None:
            return self.error(404, "MANIFEST_UNKNOWN")
        stated = registry.stated.get(reference, digest_of(data))
        return self.answer(200, registry.lie.get(reference, data), Docker_Content_Digest=stated)

    def on_tags(self, repository, _, query):
        tags = sorted({t for r, t in self.registry.manifests if r == repository and ":" not in t})
        last = query.get("last", [""])[0]
        rest = [tag for tag in tags if tag > last]
        page, more = rest[: self.registry.page], rest[self.registry.page :]
        link = {}
        if more:
            link = {"Link": f'</v2/{repository}/tags/list?last={page[-1]}>; rel="next"'}
        if self.registry.next_page:
            link = {"Link": f'<{self.registry.next_page}>; rel="next"'}
        return self.answer(200, json.dumps({"name": repository, "tags": page}).encode(), **link)

    def on_blobs(self, repository, digest, query):
        registry = self.registry
        if digest not in registry.blobs or digest in registry.elsewhere_only:
            return self.error(404, "BLOB_UNKNOWN")
        if registry.elsewhere and self.command == "GET":
            return self.answer(307, Location=f"{registry.elsewhere}/{digest}")
        return serve(self, registry.lie.get(digest, registry.blobs[digest]))

    def on_blobs_uploads(self, repository, key, query):
        registry, base = self.registry, f"/v2/{repository}/blobs/uploads/"
        if self.command == "POST":
            self.body()
            if query.get("mount", [""])[0] in registry.blobs and "from" in query:
                return self.answer(201, Location="/")
            if registry.uploads_to:
                return self.answer(202, Location=registry.uploads_to)
            key = f"u{len(registry.uploads)}"
            registry.uploads[key] = b""
            return self.answer(202, Location=base + key + "?state=1", Range="0-0")
        there = registry.uploads[key]
        if self.command == "PATCH":
            return self.patch(base, key, there)
        if self.command == "GET":
            return self.answer(204, Location=base + key, Range=f"0-{max(0, len(there) - 1)}")
        data = there + self.body()
        if digest_of(data) != query["digest"][0]:
            return self.error(400, "DIGEST_INVALID")
        registry.blobs[digest_of(data)] = data
        return self.answer(201, Docker_Content_Digest=digest_of(data))

    def patch(self, base, key, there):
        registry, data = self.registry, self.body()
        start = int(self.headers.get("Content-Range", f"{len(there)}-").partition("-")[0])
        if len(data) > registry.most:
            return self.answer(413, b"<html>too large</html>")
        if start != len(there):
            return self.error(416, "BLOB_UPLOAD_INVALID", Range=f"0-{max(0, len(there) - 1)}")
        cut = registry.cuts > 0
        registry.cuts -= cut
        there += data[: len(data) // 2] if cut else data
        registry.uploads[key] = there
        if cut:
            self.close_connection = True
            return self.connection.close()
        return self.answer(202, Location=base + key, Range=f"0-{len(there) - 1}")


def serve(handler, data):
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", ""))
    if not found:
        return handler.answer(200, data, Accept_Ranges="bytes")
    start, end = int(found[1]), int(found[2] or len(data) - 1)
    end = min(end, len(data) - 1)
    where = f"bytes {start}-{end}/{len(data)}"
    return handler.answer(206, data[start : end + 1], Content_Range=where)


class _Elsewhere(_Handler):
    """Where blobs are kept: it knows nobody, and refuses who shows a token."""

    def respond(self):
        self.body()
        if self.headers.get("Authorization"):
            self.registry.leaked.append(self.headers["Authorization"])
            return self.error(400, "DENIED")
        if self.command in ("PATCH", "PUT"):
            return self.answer(201)
        return serve(self, self.registry.blobs[self.path[1:]])

    do_GET = do_HEAD = do_PATCH = do_PUT = respond


@contextmanager
def running(registry, handler=_Handler):
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.registry = registry
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def elsewhere(registry):
    return running(registry, _Elsewhere)
