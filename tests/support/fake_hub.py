# SPDX-License-Identifier: BUSL-1.1
"""A Hugging Face hub in a thread, for `huggingface_hub`, its command line, and axon alike.

Repositories are folders of bytes with commits, branches and tags. Large files are served as
the hub serves them: the resolve route redirects to a second server on another port, which
stands for the content network and must never see a token.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

LARGE = 10_000
"""Files of that many bytes and more are large files."""


def git_sha1(data: bytes) -> str:
    """What git calls a file with these contents."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Commit:
    """One state of a repository."""

    files: dict[str, bytes]

    @property
    def id(self) -> str:
        """Forty hex digits made from the files."""
        digest = hashlib.sha1()
        for path, data in sorted(self.files.items()):
            digest.update(f"{path}\0{git_sha1(data)}\n".encode())
        return digest.hexdigest()


@dataclass
class Repo:
    """A repository. `readers` are the tokens that may fetch a gated or private one."""

    name: str
    commits: list[Commit] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    private: bool = False
    readers: set[str] = field(default_factory=set)
    about: dict[str, object] = field(default_factory=dict)
    lies: dict[str, bytes] = field(default_factory=dict)
    """By path: what is sent instead of the file."""

    def commit(self, files: dict[str, bytes], branch: str = "main", tag: str = "") -> str:
        """Add a commit; its id."""
        made = Commit(dict(files))
        self.commits.insert(0, made)
        self.branches[branch] = made.id
        if tag:
            self.tags[tag] = made.id
        return made.id

    def at(self, revision: str) -> Commit | None:
        """The commit that a branch, a tag or a whole commit names."""
        wanted = self.branches.get(revision) or self.tags.get(revision) or revision
        return next((commit for commit in self.commits if commit.id == wanted), None)


class Hub:
    """The hub's state: repositories, and every request that came."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.requests: list[tuple[str, str, str]] = []
        """Server (`hub` or `content`), `METHOD path?query`, and the Authorization header."""
        self.faults: list[tuple[int, dict[str, str], bytes]] = []
        """Answers to the next requests to the hub, instead of true ones."""
        self.url = self.content_url = ""

    def add(self, name: str, files: dict[str, bytes], tag: str = "", **options: object) -> Repo:
        """A repository with one commit."""
        repo = self.repos[name] = Repo(name, **options)  # type: ignore[arg-type]
        repo.commit(files, tag=tag)
        return repo

    def asked(self, server: str, beginning: str = "") -> list[str]:
        """The requests that one of the servers got."""
        return [what for where, what, _ in self.requests if where == server and beginning in what]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news; anything else is."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def running():
    """A hub while the block lasts."""
    hub = Hub()
    servers = []
    for kind in (_Front, _Content):
        handler = type(kind.__name__, (kind,), {"hub": hub})
        server = _Server(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
    hub.url, hub.content_url = (f"http://127.0.0.1:{s.server_address[1]}" for s in servers)
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body go out at once
    hub: Hub
    server_name = ""

    def log_message(self, *arguments: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self._note()
        self.answer()

    do_HEAD = do_GET

    def _note(self) -> None:
        token = self.headers.get("Authorization", "")
        self.hub.requests.append((self.server_name, f"{self.command} {self.path}", token))

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def send_range(self, data: bytes, **headers: str) -> None:
        """Bytes, or the part of them that was asked for."""
        asked = self.headers.get("Range", "")
        headers |= {"Accept_Ranges": "bytes"}
        if not asked.startswith("bytes="):
            return self.send(200, data, **headers)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or len(data) - 1), len(data) - 1)
        if start >= len(data):
            return self.send(416, Content_Range=f"bytes */{len(data)}")
        part = f"bytes {start}-{end}/{len(data)}"
        return self.send(206, data[start : end + 1], Content_Range=part, **headers)


class _Content(_Handler):
    server_name = "content"

    def answer(self) -> None:
        _, sha256, _ = self.path.split("/", 2)
        for repo in self.hub.repos.values():
            for commit in repo.commits:
                for path, data in commit.files.items():
                    if hashlib.sha256(data).hexdigest() == sha256:
                        return self.send_range(repo.lies.get(path, data), ETag=f'"{sha256}"')
        return self.send(404)


class _Front(_Handler):
    server_name = "hub"

    def answer(self) -> None:
        if self.hub.faults:
            status, headers, body = self.hub.faults.pop(0)
            return self.send(status, body, **headers)
        url = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        path = unquote(url.path)
        if path == "/api/models":
            return self.listing(query)
        name, rest = self._split(path.removeprefix("/api/models"))
        repo = self.hub.repos.get(name)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repo is None or (repo.private and token not in repo.readers):
            return self.error(401, "RepoNotFound", "Repository not found")
        if path.startswith("/api/models/"):
            return self.about(repo, rest, token, "blobs" in query)
        return self.resolve(repo, rest, token)

    def _split(self, path: str) -> tuple[str, str]:
        """The repository's name, and what comes behind it."""
        parts = path.strip("/").split("/")
        count = 1 if parts[0] in self.hub.repos else 2
        return "/".join(parts[:count]), "/".join(parts[count:])

    def error(self, status: int, code: str, message: str) -> None:
        body = json.dumps({"error": message}).encode()
        self.send(status, body, X_Error_Code=code, X_Error_Message=message)

    def json(self, value: object, **headers: str) -> None:
        self.send(200, json.dumps(value).encode(), Content_Type="application/json", **headers)

    def listing(self, query: dict[str, str]) -> None:
        found = [
            {"id": repo.name, "modelId": repo.name, "private": False, **repo.about}
            for repo in self.hub.repos.values()
            if not repo.private
            and query.get("search", "").lower() in repo.name.lower()
            and repo.name.startswith(query.get("author", ""))
        ]
        tags = parse_qs(urlsplit(self.path).query).get("filter", [])
        found = [one for one in found if set(tags) <= set(one.get("tags", []))]
        start, limit = int(query.get("cursor", 0)), min(int(query.get("limit", 1000)), 2)
        more = f"{self.hub.url}/api/models?search={quote(query.get('search', ''))}"
        more += f"&author={query.get('author', '')}&cursor={start + limit}"
        link = {"Link": f'<{more}>; rel="next"'} if start + limit < len(found) else {}
        self.json(found[start : start + limit], **link)

    def about(self, repo: Repo, rest: str, token: str, blobs: bool) -> None:
        action, _, revision = rest.partition("/")
        if action == "auth-check":
            if repo.gated and token not in repo.readers:
                return self.error(403, "GatedRepo", "Access to this model is restricted")
            return self.json({})
        if action == "refs":
            named = {"branches": repo.branches, "converts": {}, "tags": repo.tags}
            return self.json(
                {
                    kind: [
                        {"name": n, "ref": f"refs/heads/{n}", "targetCommit": c}
                        for n, c in refs.items()
                    ]
                    for kind, refs in named.items()
                }
            )
        commit = repo.at(revision or "main")
        if commit is None:
            return self.error(404, "RevisionNotFound", "Invalid rev id")
        if action == "commits":
            stamp = "2026-01-01T00:00:00.000Z"
            return self.json(
                [
                    {"id": c.id, "authors": [], "date": stamp, "title": "", "message": ""}
                    for c in repo.commits
                ]
            )
        if action == "tree":
            return self.json([_tree_entry(path, data) for path, data in commit.files.items()])
        return self.json(
            {
                "id": repo.name,
                "modelId": repo.name,
                "sha": commit.id,
                "private": repo.private,
                "gated": "manual" if repo.gated else False,
                "siblings": [_sibling(path, data, blobs) for path, data in commit.files.items()],
                **repo.about,
            }
        )

    def resolve(self, repo: Repo, rest: str, token: str) -> None:
        _, revision, path = rest.split("/", 2)
        commit = repo.at(revision)
        if repo.gated and token not in repo.readers:
            return self.error(403 if token else 401, "GatedRepo", "Access is restricted")
        if commit is None:
            return self.error(404, "RevisionNotFound", "Invalid rev id")
        if path not in commit.files:
            return self.error(404, "EntryNotFound", "Entry not found")
        data = commit.files[path]
        if len(data) < LARGE:
            sent = repo.lies.get(path, data)
            return self.send_range(sent, X_Repo_Commit=commit.id, ETag=f'"{git_sha1(data)}"')
        sha256 = hashlib.sha256(data).hexdigest()
        return self.send(
            302,
            X_Repo_Commit=commit.id,
            X_Linked_Etag=f'"{sha256}"',
            X_Linked_Size=str(len(data)),
            Location=f"{self.hub.content_url}/{sha256}/{quote(path)}",
        )


def _sibling(path: str, data: bytes, blobs: bool) -> dict[str, object]:
    if not blobs:
        return {"rfilename": path}
    about: dict[str, object] = {"rfilename": path, "size": len(data), "blobId": git_sha1(data)}
    if len(data) >= LARGE:
        sha256 = hashlib.sha256(data).hexdigest()
        about["lfs"] = {"size": len(data), "sha256": sha256, "pointerSize": 130}
    return about


def _tree_entry(path: str, data: bytes) -> dict[str, object]:
    about: dict[str, object] = {"type": "file", "path": path, "size": len(data)}
    about["oid"] = git_sha1(data)
    if len(data) >= LARGE:
        sha256 = hashlib.sha256(data).hexdigest()
        about["lfs"] = {"oid": sha256, "size": len(data), "pointerSize": 130}
    return about
