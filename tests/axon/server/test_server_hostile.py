# SPDX-License-Identifier: BUSL-1.1
"""Requests that no honest client sends: each gets an answer that says what is wrong."""

import asyncio
import json
import sqlite3

import pytest

from axon_client.registry.app import build
from axon_client.registry.database import Database
from axon_client.registry.limits import Limits
from axon_client.registry.site import Settings, Site
from mlos_core.errors import ConfigError

from .conftest import WEIGHTS, Publisher, Web, describe

VERSION = "/api/v1/models/acme/tiny/-/versions/1.0.0"


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/models/../../registry.db/-/index.json",
        "/api/v1/models/%2e%2e/%2e%2e%2fregistry.db/-/index.json",
        "/api/v1/models/acme/tiny/-/-/index.json",
        "/api/v1/models/acme//-/index.json",
        "/api/v1/models/acme/tiny%00/-/index.json",
        "/api/v1/models/acme/tïny/-/index.json",
        "/api/v1/models/acme/" + "a/" * 2000 + "-/index.json",
        "/api/v1/models/acme/tiny/..%2f..%2fregistry.db/manifest.yaml",
        "/api/v1/models/acme/tiny/-/versions/..%2f1.json",
        "/packages/..%2f..%2fregistry.db",
        "/packages/" + "a" * 5000 + ".axon",
        "/api/v1/blobs/sha256/..%2f..%2f..%2fregistry.db",
        "/api/v1/blobs/md5/" + "0" * 32,
        "//etc/passwd",
        "/api/v1/uploads/..%2fregistry.db",
        "/%ff%fe",
    ],
)
def test_a_path_trick_is_not_found(publisher, error, path):
    publisher.publish()
    answer = publisher.web.get(path)
    assert (answer.status_code, error(answer)[:3]) in ((404, "not"), (404, "unk"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "../tiny"),
        ("name", "-"),
        ("name", "a//b"),
        ("name", "a/-/b"),
        ("name", "tïny"),
        ("name", "t\u0456ny"),
        ("name", "a" * 200),
        ("name", "/".join("a" * 20)),
        ("name", "con/.."),
        ("namespace", ".."),
        ("namespace", "a/b"),
        ("namespace", "Ⅸ"),
        ("version", "../1.0.0"),
        ("version", "1.0.0/../2"),
        ("version", "1.0.0 "),
        ("version", "1.0.0\u200b"),
        ("path", "../../registry.db"),
        ("path", "/etc/passwd"),
        ("path", "manifest.yaml"),
        ("path", "a\\b"),
        ("path", "a\nb"),
        ("sha256", "0" * 63),
        ("sha256", "sha256:" + "0" * 64),
        ("size", -1),
        ("size", 10**40),
    ],
)
def test_a_manifest_with_a_hostile_field_is_refused(publisher, error, field, value):
    publisher.upload(WEIGHTS)
    metadata = {"name": "tiny", "namespace": "acme", "version": "1.0.0"}
    file = {"path": "model.onnx", "size": len(WEIGHTS), "sha256": "0" * 64}
    (metadata if field in metadata else file)[field] = value
    manifest = {
        "apiVersion": "axon.mlos.io/v1",
        "kind": "Model",
        "metadata": metadata,
        "spec": {"format": {"files": [file]}},
    }
    assert error(publisher.put(json.dumps(manifest).encode())) == "invalid_input"


def test_a_name_whose_files_would_lie_in_the_way_of_others_is_refused(publisher, error):
    assert error(publisher.publish("tiny/manifest.yaml")) == "invalid_input"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"manifest": 5}',
        b'{"manifest": ""}',
        b'{"manifest": "\\ud800"}',
        b'{"manifest": "a: &a [*a]"}',
        b'{"manifest": "\xff"}',
        b'{"manifest": "a: b", "tags": "x"}',
        b'{"manifest": "a: b", "signatures": [5]}',
        b"[" * 100_000,
        b'{"manifest": "' + b"[" * 10_000 + b'"}',
    ],
)
def test_a_body_that_is_no_publication_is_refused(publisher, error, body):
    assert error(publisher.web("PUT", VERSION, content=body)) == "invalid_input"


@pytest.mark.parametrize("limits", [Limits(body=10_000)])
@pytest.mark.parametrize(("method", "path"), [("PUT", VERSION), ("POST", "/api/v1/uploads")])
def test_a_huge_body_is_refused(publisher, error, method, path):
    answer = publisher.web(method, path, content=b"x" * 10_001)
    assert (error(answer), answer.status_code) == ("payload_too_large", 413)


@pytest.mark.parametrize("limits", [Limits(request_time=0)])
def test_a_request_has_an_end(web, error):
    answer = web.get("/api/v1/search")
    assert (error(answer), answer.status_code) == ("request_timeout", 408)


@pytest.mark.parametrize("limits", [Limits(requests=0)])
def test_more_requests_than_the_server_takes_are_told_to_come_again(web, error):
    answer = web.get("/api/v1/search")
    assert (error(answer), answer.headers["retry-after"]) == ("overloaded", "1")


def test_an_upload_that_rests_too_long_ends_and_keeps_what_came(site, error):
    slow = Site(site.folder, Settings(limits=Limits(stall=0.01)))
    text, _ = slow.tokens.create("somebody", ["publish:*"])
    location = Publisher(Web(build(slow), text)).begin(WEIGHTS).headers["location"]

    async def resting():
        yield WEIGHTS[:100]
        await asyncio.Event().wait()

    scope = {
        "type": "http",
        "method": "PATCH",
        "path": location,
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {text}".encode()), (b"upload-offset", b"0")],
    }
    parts = [{"type": "http.request", "body": WEIGHTS[:100], "more_body": True}]
    sent = []

    async def receive():
        return parts.pop() if parts else await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    asyncio.run(build(slow)(scope, receive, send))
    assert sent[0]["status"] == 408
    head = Web(build(slow), text)("HEAD", location)
    assert head.headers["upload-offset"] == "100"
    slow.close()


def test_too_many_tags_and_signatures_are_refused(publisher, error):
    publisher.upload(WEIGHTS)
    manifest = describe("tiny", {"model.onnx": WEIGHTS})
    tags = [f"tag-{'x' * number}" for number in range(150)]
    assert error(publisher.put(manifest, tags=tags)) == "invalid_input"
    assert error(publisher.put(manifest, signatures=[{}] * 17)) == "invalid_input"


def test_what_users_wrote_stays_text_in_answers(publisher, web):
    answer = publisher.publish(description="<script>alert(1)</script>")
    assert answer.status_code == 201
    found = web.get("/api/v1/search?q=script")
    assert found.json()[0]["description"] == "<script>alert(1)</script>"
    assert found.headers["content-type"] == "application/json"
    assert found.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("method", ["TRACE", "POST", "PATCH", "BREW"])
def test_a_method_that_a_path_does_not_have_is_named(web, error, method):
    answer = web(method, "/api/v1/search")
    assert (error(answer), answer.status_code) == ("method_not_allowed", 405)
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api/v1/uploads/key", "DELETE, GET, HEAD, PATCH, PUT"),
        (VERSION + "/yank", "DELETE, POST"),
        ("/api/v1/models/acme/tiny/-/tags/stable", "DELETE, PUT"),
        ("/api/v1/whoami", "GET, HEAD"),
    ],
)
def test_all_methods_of_a_path_are_named(web, path, allowed):
    assert web("BREW", path).headers["allow"] == allowed


@pytest.mark.parametrize("path", ["/api/v1/search", "/api/v1/whoami", "/api/v1/nothing"])
def test_what_has_no_tag_is_kept_by_no_cache(web, path):
    assert web.get(path).headers["cache-control"] == "no-store"


def test_a_file_that_is_no_registry_is_not_touched(tmp_path):
    path = tmp_path / "registry.db"
    path.write_bytes(b"my precious notes" * 100)
    with pytest.raises(ConfigError):
        Database(path)
    assert path.read_bytes() == b"my precious notes" * 100


def test_a_database_of_a_newer_version_is_left_alone(tmp_path):
    path = tmp_path / "registry.db"
    Database(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ConfigError, match="newer"):
        Database(path)


@pytest.mark.parametrize("version", [0, 1])
def test_a_database_of_another_program_is_left_alone(tmp_path, version):
    path = tmp_path / "registry.db"
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("CREATE TABLE notes (text)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="not a registry"):
        Database(path)
    assert path.read_bytes() == before
