# SPDX-License-Identifier: BUSL-1.1
"""The static export: the same paths, the same bytes, from a web server that knows nothing."""

import functools
import hashlib
import http.server
import json
import threading

import httpx
import pytest
from click.testing import CliRunner

from axon_client.commands.registry_server import export as export_command
from axon_client.commands.registry_server import token
from axon_client.errors import IntegrityError
from axon_client.registry.export import export
from mlos_core.errors import InvalidInput, MlosError

from .conftest import WEIGHTS

DIGEST = hashlib.sha256(WEIGHTS).hexdigest()
PATHS = [
    "/api/v1/index.json",
    "/api/v1/models/acme/tiny/-/index.json",
    "/api/v1/models/acme/tiny/-/versions/1.0.0.json",
    "/api/v1/models/acme/tiny/1.0.0/manifest.yaml",
    "/api/v1/models/acme/org/tiny/-/index.json",
    "/api/v1/models/acme/org/tiny/-/versions/1.0.0%2Bcpu.json",
    "/api/v1/models/acme/org/tiny/1.0.0%2Bcpu/manifest.yaml",
    f"/api/v1/blobs/sha256/{DIGEST}",
    "/packages/acme-tiny-1.0.0.axon",
    "/packages/acme-org--tiny-1.0.0%2Bcpu.axon",
]


@pytest.fixture
def filled(publisher):
    publisher.publish()
    publisher.publish("org/tiny", {"a": WEIGHTS, "b/c": b"other"}, version="1.0.0+cpu")
    return publisher


@pytest.fixture
def static():
    """`static(folder)` serves a folder like `python -m http.server`; gives its URL."""
    servers = []

    def serve(folder):
        handler = functools.partial(_Quiet, directory=folder)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


def test_any_web_server_gives_what_the_registry_gives(site, web, filled, static, tmp_path):
    done = export(site, tmp_path / "out")
    assert (done.packages, done.versions, done.blobs, done.copied) == (2, 2, 2, 0)
    url = static(tmp_path / "out")
    for path in PATHS:
        answer = httpx.get(url + path)
        assert (answer.status_code, answer.content) == (200, web.get(path).content), path
    about = httpx.get(f"{url}/api/v1/registry.json").json()
    assert (about["static"], about["oci"], about["namespaces"]) == (True, False, ["acme"])


def test_every_json_file_of_the_export_is_what_the_server_says(site, web, filled, tmp_path):
    export(site, tmp_path / "out", archives=False)
    assert not (tmp_path / "out" / "packages").exists()
    files = [p for p in (tmp_path / "out").rglob("*.json") if p.name != "registry.json"]
    assert len(files) == 5
    for file in files:
        path = "/" + file.relative_to(tmp_path / "out").as_posix().replace("+", "%2B")
        assert json.loads(file.read_bytes()) == web.get(path).json()


def test_blobs_are_linked_and_cost_nothing(site, filled, tmp_path):
    export(site, tmp_path / "out")
    blob = tmp_path / "out" / "api" / "v1" / "blobs" / "sha256" / DIGEST
    assert blob.samefile(site.blobs.root / DIGEST)


def test_blobs_are_copied_where_links_are_not_possible(site, filled, tmp_path, monkeypatch):
    def refuse(self, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    done = export(site, tmp_path / "out")
    assert done.copied == len(WEIGHTS) + len(b"other")
    blob = tmp_path / "out" / "api" / "v1" / "blobs" / "sha256" / DIGEST
    assert blob.read_bytes() == WEIGHTS
    assert not blob.samefile(site.blobs.root / DIGEST)


def test_a_damaged_file_is_not_copied(site, filled, tmp_path, monkeypatch):
    def refuse(self, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    blob = site.blobs.root / DIGEST
    blob.chmod(0o644)
    blob.write_bytes(bytes(len(WEIGHTS)))
    with pytest.raises(IntegrityError):
        export(site, tmp_path / "out")
    assert not (tmp_path / "out" / "api" / "v1" / "blobs" / "sha256" / DIGEST).exists()


def test_a_package_whose_archives_name_no_file_can_have_is_exported_without_it(
    site, filled, tmp_path, web
):
    name = "/".join(["n" * 128] * 3)
    assert filled.publish(name, version="1.0.0").status_code == 201
    assert export(site, tmp_path / "out").versions == 3
    path = f"api/v1/models/acme/{name}/1.0.0/manifest.yaml"
    assert (tmp_path / "out" / path).read_bytes() == web.get(f"/{path}").content
    assert len(list((tmp_path / "out" / "packages").iterdir())) == 2


def test_what_is_published_during_an_export_is_not_named_by_it(site, filled, tmp_path, monkeypatch):
    packages = site.database.packages

    def publish_afterwards():
        found = packages()
        filled.publish("late")
        filled.publish(version="9.0.0")
        return found

    monkeypatch.setattr(site.database, "packages", publish_afterwards)
    export(site, tmp_path / "out")
    model = tmp_path / "out" / "api" / "v1" / "models"
    for entry in json.loads((tmp_path / "out" / "api" / "v1" / "index.json").read_bytes()):
        folder = model / entry["namespace"] / entry["name"]
        assert (folder / entry["version"] / "manifest.yaml").is_file()
    assert not (model / "acme" / "late").exists()


def test_exporting_again_adds_what_is_new(site, filled, tmp_path, web):
    export(site, tmp_path / "out")
    filled.publish(version="2.0.0")
    export(site, tmp_path / "out")
    index = tmp_path / "out" / "api" / "v1" / "models" / "acme" / "tiny" / "-" / "index.json"
    assert json.loads(index.read_bytes())["tags"] == {"latest": "2.0.0"}
    left = [path for path in (tmp_path / "out").rglob(".*") if path.is_file()]
    assert left == []


def test_an_export_into_the_registry_itself_is_refused(site, filled):
    with pytest.raises(InvalidInput):
        export(site, site.folder / "out")
    with pytest.raises(InvalidInput):
        export(site, site.folder.parent)


def test_an_export_that_fails_names_no_package_that_is_not_there(site, filled, tmp_path):
    (site.blobs.root / hashlib.sha256(b"other").hexdigest()).unlink()
    with pytest.raises(MlosError):
        export(site, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("index.json"))


def test_the_commands_make_export_list_and_revoke(site, filled, tmp_path):
    def run(command, *arguments):
        done = CliRunner().invoke(command, [*arguments, "--data", str(site.folder), "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    assert run(export_command, str(tmp_path / "out"))["versions"] == 2
    made = run(token, "create", "ci", "--scope", "publish:acme", "--scope", "read", "--days", "7")
    assert site.tokens.find(made["token"]).scopes == ["publish:acme", "read"]
    listed = {entry["id"]: entry for entry in run(token, "list")}
    assert listed[made["id"]]["label"] == "ci"
    assert made["token"] not in json.dumps(listed)
    assert run(token, "revoke", made["id"]) == {"revoked": made["id"]}
    assert site.tokens.find(made["token"]) is None
