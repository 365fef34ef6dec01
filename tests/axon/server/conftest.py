# SPDX-License-Identifier: BUSL-1.1
"""A registry in a temporary folder, asked without a network, and one who publishes there."""

import asyncio
import hashlib
import json

import httpx
import pytest

from axon_client import manifest as manifests
from axon_client.registry.app import build
from axon_client.registry.limits import Limits
from axon_client.registry.site import Settings, Site

WEIGHTS = b"weights of a very small model" * 100


class Web:
    """A client of the application; every call is one request."""

    def __init__(self, app, token=""):
        self._app = app
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    def __call__(self, method, path, headers=None, **named):
        async def ask():
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://registry") as client:
                return await client.request(
                    method, path, headers={**self._headers, **(headers or {})}, **named
                )

        return asyncio.run(ask())

    def get(self, path, **named):
        return self("GET", path, **named)


def file(path, data):
    return manifests.ModelFile(path, len(data), hashlib.sha256(data).hexdigest())


def describe(name, files, namespace="acme", version="1.0.0", needs=(), framework="", **about):
    """A manifest's bytes; `files`: {path: bytes}."""
    form = manifests.Format(type="onnx", files=[file(path, data) for path, data in files.items()])
    spec = manifests.Spec(
        framework=manifests.Framework(framework),
        format=form,
        dependencies=manifests.Dependencies(models=list(needs)),
    )
    metadata = manifests.Metadata(name=name, namespace=namespace, version=version, **about)
    return manifests.encode(manifests.new(metadata, spec))


class Publisher:
    """One who holds a token."""

    def __init__(self, web):
        self.web = web

    def begin(self, data, sha256=None, size=None):
        body = {"sha256": sha256 or hashlib.sha256(data).hexdigest(), "size": size or len(data)}
        return self.web("POST", "/api/v1/uploads", json=body)

    def patch(self, location, offset, data):
        headers = {"upload-offset": str(offset)}
        return self.web("PATCH", location, headers=headers, content=data)

    def upload(self, data):
        answer = self.begin(data)
        if answer.json()["exists"]:
            return answer
        location = answer.headers["location"]
        assert self.patch(location, 0, data).status_code == 204
        return self.web("PUT", location)

    def put(self, manifest, url="/api/v1/models/acme/tiny/-/versions/1.0.0", **more):
        return self.web("PUT", url, json={"manifest": manifest.decode(), **more})

    def publish(self, name="tiny", files=None, namespace="acme", version="1.0.0", **about):
        more = {key: about.pop(key) for key in ("tags_", "signatures") if key in about}
        files = {"model.onnx": WEIGHTS} if files is None else files
        for data in files.values():
            self.upload(data)
        manifest = describe(name, files, namespace, version, **about)
        url = f"/api/v1/models/{namespace}/{name}/-/versions/{version}"
        body = {"manifest": manifest.decode(), "signatures": more.get("signatures", [])}
        return self.web("PUT", url, json={**body, "tags": more.get("tags_", [])})


@pytest.fixture
def limits():
    return Limits()


@pytest.fixture
def settings(limits):
    return Settings(name="test", limits=limits)


@pytest.fixture
def site(tmp_path, settings, monkeypatch):
    monkeypatch.setattr("axon_client.registry.connections.SYNCHRONOUS", "OFF")
    site = Site(tmp_path / "registry", settings)
    yield site
    site.close()


@pytest.fixture
def app(site):
    return build(site)


@pytest.fixture
def web(app):
    """Anybody."""
    return Web(app)


@pytest.fixture
def login(app, site):
    """`login("publish:acme")` is a client with a token that has this scope."""

    def make(*scopes):
        text, _ = site.tokens.create("somebody", scopes)
        return Web(app, text)

    return make


@pytest.fixture
def publisher(login):
    return Publisher(login("publish:*"))


@pytest.fixture
def error():
    """`error(answer)`: the code of a JSON error, whose form is checked."""

    def code(answer):
        inner = json.loads(answer.content)["error"]
        assert {"code", "message", "hint"} <= set(inner)
        assert answer.status_code >= 400
        return inner["code"]

    return code
