# SPDX-License-Identifier: BUSL-1.1
"""Who may do what: tokens, scopes, private registries."""

import base64
import json
import sqlite3

import pytest

from axon_client.registry.app import build
from axon_client.registry.database import Database
from axon_client.registry.site import Settings, Site
from axon_client.registry.tokens import Tokens
from mlos_core.errors import InvalidInput, NotFound

from .conftest import WEIGHTS, Publisher, Web, describe

VERSION = "/api/v1/models/acme/tiny/-/versions/1.0.0"
CHANGES = [
    ("POST", "/api/v1/uploads"),
    ("PATCH", "/api/v1/uploads/x"),
    ("PUT", "/api/v1/uploads/x"),
    ("DELETE", "/api/v1/uploads/x"),
    ("PUT", VERSION),
    ("POST", VERSION + "/yank"),
    ("DELETE", VERSION + "/yank"),
    ("PUT", "/api/v1/models/acme/tiny/-/tags/x"),
    ("DELETE", "/api/v1/models/acme/tiny/-/tags/x"),
]
READS = [
    "/api/v1/registry.json",
    "/api/v1/search",
    "/api/v1/facets",
    "/api/v1/index.json",
    "/api/v1/models/acme/tiny/-/index.json",
    VERSION + ".json",
    "/api/v1/models/acme/tiny/1.0.0/manifest.yaml",
    "/api/v1/blobs/sha256/" + "0" * 64,
    "/packages/acme-tiny-1.0.0.axon",
]


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_changes_need_a_token(web, error, method, path):
    answer = web(method, path, headers={"upload-offset": "0"})
    assert (error(answer), answer.status_code) == ("unauthenticated", 401)
    assert "Bearer" in answer.headers["www-authenticate"]


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_a_reader_may_change_nothing(login, error, method, path):
    answer = login("read")(method, path, headers={"upload-offset": "0"})
    assert (error(answer), answer.status_code) == ("permission_denied", 403)


def test_a_publisher_keeps_to_its_namespace(login, error, publisher):
    publisher.publish()
    publisher.publish(namespace="other")
    acme = Publisher(login("publish:acme"))
    assert acme.publish(version="1.1.0").status_code == 201
    assert error(acme.publish(namespace="other", version="1.1.0")) == "permission_denied"
    for url in (VERSION, VERSION.replace("acme", "other")):
        answer = acme.web("POST", url + "/yank")
        assert answer.status_code == (200 if "acme" in url else 403)


def test_an_administrator_may_everything(login):
    assert Publisher(login("admin")).publish().status_code == 201


@pytest.mark.parametrize("path", READS)
def test_a_private_registry_shows_nothing_without_a_token(site, error, path):
    private = Site(site.folder, Settings(private=True))
    text, _ = private.tokens.create("reader", ["read"])
    app = build(private)
    assert error(Web(app).get(path)) == "unauthenticated"
    assert Web(app, text).get(path).status_code in (200, 404)
    assert Web(app).get("/health").status_code == 200
    private.close()


def test_what_a_private_registry_sends_is_not_for_shared_caches(site, publisher):
    publisher.publish()
    private = Site(site.folder, Settings(private=True))
    text, _ = private.tokens.create("reader", ["read"])
    answer = Web(build(private), text).get("/api/v1/models/acme/tiny/1.0.0/manifest.yaml")
    assert answer.headers["cache-control"].startswith("private")
    private.close()


def test_whoami_tells_what_a_token_is_good_for(web, login):
    about = login("publish:acme", "read").get("/api/v1/whoami").json()
    assert (about["name"], about["scopes"]) == ("somebody", ["publish:acme", "read"])
    assert web.get("/api/v1/whoami").json()["name"] is None


@pytest.mark.parametrize(
    "header",
    [
        "Bearer x",
        "Bearer ",
        "Bearer axon_" + "0" * 12 + "_" + "a" * 43,
        "Basic !!!",
        "Basic " + base64.b64encode(b"\xff\xff").decode(),
        "Digest abc",
        "x" * 5000,
    ],
)
def test_a_token_that_is_not_valid_is_refused_even_for_reading(web, error, header):
    answer = web.get("/api/v1/search", headers={"authorization": header})
    assert error(answer) == "unauthenticated"


def test_a_token_may_come_as_the_password_of_basic(site, web):
    text, _ = site.tokens.create("somebody", ["read"])
    pair = base64.b64encode(f"anyone:{text}".encode()).decode()
    answer = web.get("/api/v1/whoami", headers={"authorization": f"Basic {pair}"})
    assert answer.json()["name"] == "somebody"


def test_only_hashes_of_tokens_are_kept(site):
    text, _ = site.tokens.create("somebody", ["read"])
    secret = text.split("_", 2)[2]
    for path in site.folder.glob("registry.db*"):
        assert secret.encode() not in path.read_bytes()


def test_a_revoked_token_is_refused_at_once(site, app, error):
    text, token = site.tokens.create("somebody", ["read"])
    assert Web(app, text).get("/api/v1/whoami").status_code == 200
    site.tokens.revoke(token.id)
    assert error(Web(app, text).get("/api/v1/whoami")) == "unauthenticated"
    with pytest.raises(NotFound):
        site.tokens.revoke(token.id)


def test_a_token_that_is_revoked_while_a_request_comes_is_refused(site, app, error):
    text, token = site.tokens.create("somebody", ["publish:acme"])
    publisher = Publisher(Web(app, text))
    assert publisher.publish().status_code == 201
    data = describe("tiny", {"model.onnx": WEIGHTS}, version="2.0.0").decode()

    async def slowly():
        yield b'{"manifest": '
        site.tokens.revoke(token.id)
        yield json.dumps(data).encode() + b"}"

    url = "/api/v1/models/acme/tiny/-/versions/2.0.0"
    assert error(publisher.web("PUT", url, content=slowly())) == "unauthenticated"
    assert Web(app).get(url + ".json").status_code == 404


@pytest.mark.parametrize("days", [-1, 40_000, float("nan"), float("inf")])
def test_a_token_lasts_a_number_of_days(site, days):
    with pytest.raises(InvalidInput):
        site.tokens.create("somebody", ["read"], days)


def test_a_token_expires(tmp_path):
    now = ["2030-01-01T00:00:00Z"]
    database = Database(tmp_path / "registry.db", now=lambda: now[0])
    tokens = Tokens(database)
    text, token = tokens.create("somebody", ["read"], days=1)
    assert token.expires == "2030-01-02T00:00:00Z"
    assert tokens.find(text) == token
    now[0] = "2030-01-02T00:00:00Z"
    assert tokens.find(text) is None
    database.close()


def test_another_secret_is_another_token(site):
    text, token = site.tokens.create("somebody", ["read"])
    other, _ = site.tokens.create("somebody", ["admin"])
    mixed = "_".join([*text.split("_", 2)[:2], other.split("_", 2)[2]])
    assert site.tokens.find(mixed) is None
    assert site.tokens.find(text) == token


@pytest.mark.parametrize(
    "scopes", [[], ["write"], ["publish:"], ["publish:a/b"], ["publish:../x"], ["ADMIN"]]
)
def test_unknown_scopes_are_refused(site, scopes):
    with pytest.raises(InvalidInput):
        site.tokens.create("somebody", scopes)


@pytest.mark.parametrize("label", ["", "a" * 101, "two\nlines", "\x1b[31m"])
def test_a_token_has_a_printable_name(site, label):
    with pytest.raises(InvalidInput):
        site.tokens.create(label, ["read"])


def test_the_database_is_for_its_owner_alone(site):
    assert (site.folder / "registry.db").stat().st_mode & 0o077 == 0
    with sqlite3.connect(site.folder / "registry.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
