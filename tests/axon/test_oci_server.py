# SPDX-License-Identifier: BUSL-1.1
"""The embedded registry as a real process, with oras and with axon itself on the other side."""

import hashlib
import json
import os
import subprocess
import sys

import oras.client
import pytest
import urllib3

from axon_client import config, credentials
from axon_client import manifest as manifests
from axon_client.credentials import Credential
from axon_client.installer import install
from axon_client.oci import media
from axon_client.oci.publishing import publish as push
from axon_client.publish import prepared, publish
from axon_client.registry.site import Site
from axon_client.remote import Remote
from axon_client.spec import PackageSpec, PathSpec
from axon_client.store import Store

WEIGHT = "application/vnd.cncf.model.weight.v1.raw"


class Server:
    def __init__(self, url, token):
        self.url = url
        self.host = url.removeprefix("http://")
        self.token = token

    def oras(self):
        client = oras.client.OrasClient(hostname=self.host, insecure=True, auth_backend="basic")
        client.auth.set_basic_auth("anybody", self.token)
        return client

    def ask(self, method, path, body=None, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        login = urllib3.make_headers(basic_auth=f"u:{self.token}")
        with urllib3.PoolManager() as pool:
            url = path if path.startswith("http") else self.url + path
            return pool.request(method, url, body=body, headers={**login, **headers}, retries=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("registry")
    site = Site(folder)
    token, _ = site.tokens.create("tests", ["publish:*"])
    site.close()
    command = ["registry", "serve", "--data", str(folder), "--port", "0", "--json", "--quiet"]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "axon_client.cli", *command],
        stdout=subprocess.PIPE,
        env={**os.environ, "AXON_HOME": str(folder / "home")},
    )
    try:
        yield Server(json.loads(process.stdout.readline())["url"], token)
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


@pytest.fixture
def client(server, home, tmp_path, monkeypatch):
    """An empty home that knows the server as the axon registry `hub` and the OCI one `box`."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "no docker"))
    monkeypatch.setenv("NETRC", os.devnull)
    home.mkdir()
    registries = {
        "hub": {"url": server.url, "namespaces": ["acme", "made"]},
        "box": {"url": server.url, "kind": "oci"},
    }
    (home / config.FILE_NAME).write_text(json.dumps({"registries": registries}))
    credentials.keep(server.url, Credential(server.token), home)
    return Store(home)


@pytest.fixture
def digits(folder):
    """A folder that is acme/digits, with a version of its own for every test."""

    def make(version):
        about = f"name: digits, namespace: acme, version: {version}, description: Digits"
        text = f"apiVersion: axon.mlos.io/v1\nkind: Model\nmetadata: {{{about}}}\n"
        (folder / "manifest.yaml").write_text(text)
        return PathSpec(folder)

    return make


def contents(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name != manifests.FILE_NAME
    }


def test_oras_pulls_what_axon_published(server, client, digits, tmp_path):
    with prepared(digits("1.0.0"), client) as package:
        publish(package, Remote(server.url), client, tags=["stable"])
        expected = {f.path: f.sha256 for f in package.listed}
        data = package.data
    for reference in ("1.0.0", "stable"):
        out = tmp_path / reference
        server.oras().pull(f"{server.host}/acme/digits:{reference}", outdir=str(out))
        assert (out / manifests.FILE_NAME).read_bytes() == data
        got = {path: hashlib.sha256(x).hexdigest() for path, x in contents(out).items()}
        assert got == expected
    found = server.oras().get_manifest(f"{server.host}/acme/digits:1.0.0")
    assert found["artifactType"] == media.ARTIFACT
    assert found["config"]["mediaType"] == media.CONFIG
    assert "1.0.0" in server.oras().get_tags(f"{server.host}/acme/digits")


def test_axon_installs_what_oras_pushed(server, client, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    (tmp_path / "config").write_text('{"descriptor": {"licenses": ["MIT"], "authors": ["Ada"]}}')
    annotations = {"labels/en.txt": {media.PATH: "labels/en.txt"}}
    (tmp_path / "notes.json").write_text(
        json.dumps({str(folder / path): note for path, note in annotations.items()})
    )
    server.oras().push(
        f"{server.host}/made/digits:2.0.0",
        files=[f"model.onnx:{WEIGHT}", "config.json:application/vnd.cncf.model.doc.v1.raw",
               "labels/en.txt:application/vnd.cncf.model.doc.v1.raw"],
        manifest_config=f"{tmp_path / 'config'}:{media.CONFIG}",
        annotation_file=str(tmp_path / "notes.json"),
        disable_path_validation=True,
    )  # fmt: skip
    expected = {
        p: (folder / p).read_bytes() for p in ("model.onnx", "config.json", "labels/en.txt")
    }
    as_oci = install("box/made/digits@2.0.0")
    assert contents(as_oci.path) == expected
    assert as_oci.manifest.metadata.license == "MIT"
    as_package = install("made/digits@2.0.0")
    assert contents(as_package.path) == expected
    assert as_package.manifest.spec.format.execution_files[0].path == "model.onnx"


def test_a_folder_that_oras_pushed_is_a_package(server, client, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder.parent)
    (tmp_path / "config").write_text("{}")
    server.oras().push(
        f"{server.host}/made/folder:1.1.0",
        files=["digits:application/vnd.cncf.model.weight.v1.tar+gzip"],
        manifest_config=f"{tmp_path / 'config'}:{media.CONFIG}",
    )
    model = install("made/folder@1.1.0")
    assert "digits/model.onnx" in contents(model.path)
    assert contents(install("box/made/folder@1.1.0").path) == contents(model.path)


def test_what_axon_pushed_comes_back_with_nothing_lost(server, client, digits):
    with prepared(digits("3.0.0"), client) as package:
        done = push(package.spec, package.data, package.folder, server.url, ["new"])
        again = push(package.spec, package.data, package.folder, server.url, ["new"])
        expected = contents(package.folder)
    assert (done["new"], again["new"]) == (True, False)
    assert again["digest"] == done["digest"]
    for spec in ("box/acme/digits@3.0.0", f"box/acme/digits@{done['digest']}", "acme/digits@new"):
        model = install(spec)
        assert contents(model.path) == expected
        assert model.manifest.metadata.description == "Digits"
    assert install("acme/digits@3.0.0").spec == PackageSpec("acme", "digits", "3.0.0")


def test_a_published_version_is_not_replaced_by_a_push(server, client, digits, folder):
    with prepared(digits("4.0.0"), client) as package:
        publish(package, Remote(server.url), client)
    (folder / "config.json").write_text("[]")
    layer = {"mediaType": "text/plain", "digest": "sha256:" + "0" * 64, "size": 0}
    body = json.dumps({"schemaVersion": 2, "config": layer, "layers": []}).encode()
    answer = server.ask("PUT", "/v2/acme/digits/manifests/4.0.0", body)
    assert (answer.status, answer.json()["errors"][0]["code"]) == (404, "MANIFEST_BLOB_UNKNOWN")
    empty = hashlib.sha256(b"").hexdigest()
    server.ask("POST", f"/v2/acme/digits/blobs/uploads/?digest=sha256:{empty}", b"")
    body = body.replace(b"0" * 64, empty.encode())
    answer = server.ask("PUT", "/v2/acme/digits/manifests/4.0.0", body)
    assert (answer.status, answer.json()["errors"][0]["code"]) == (409, "DENIED")


def test_an_upload_under_a_digest_that_is_none_is_never_begun(server):
    for _ in range(40):  # more than one may have under way
        refused = server.ask("POST", "/v2/acme/digits/blobs/uploads/?digest=bad", b"x")
        assert refused.status == 400
    assert server.ask("POST", "/v2/acme/digits/blobs/uploads/", b"").status == 202


def test_blobs_are_uploaded_in_chunks_that_resume_and_are_checked(server):
    begun = server.ask("POST", "/v2/made/chunks/blobs/uploads/", b"")
    assert begun.status == 202
    place = begun.headers["Location"]
    sent = server.ask("PATCH", place, b"abc", Content_Range="0-2")
    assert (sent.status, sent.headers["Range"]) == (202, "0-2")
    gap = server.ask("PATCH", place, b"xyz", Content_Range="9-11")
    assert (gap.status, gap.headers["Range"]) == (416, "0-2")
    there = server.ask("GET", place)
    assert (there.status, there.headers["Range"]) == (204, "0-2")
    digest = hashlib.sha256(b"abcdef").hexdigest()
    done = server.ask("PUT", f"{place}?digest=sha256:{digest}", b"def")
    assert done.status == 201
    got = server.ask("GET", f"/v2/made/chunks/blobs/sha256:{digest}", Range="bytes=1-3")
    assert (got.status, got.data, got.headers["Content-Range"]) == (206, b"bcd", "bytes 1-3/6")
    other = server.ask("POST", "/v2/made/chunks/blobs/uploads/", b"").headers["Location"]
    wrong = server.ask("PUT", f"{other}?digest=sha256:{digest}", b"other")
    assert (wrong.status, wrong.json()["errors"][0]["code"]) == (400, "DIGEST_INVALID")
    mounted = server.ask(
        "POST", f"/v2/made/x/blobs/uploads/?mount=sha256:{digest}&from=made/chunks"
    )
    assert mounted.status == 201


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v2/made/none/manifests/1.0.0", 404, "MANIFEST_UNKNOWN"),
        ("GET", "/v2/made/none/tags/list", 404, "NAME_UNKNOWN"),
        ("GET", "/v2/made/none/blobs/sha256:" + "0" * 64, 404, "BLOB_UNKNOWN"),
        ("GET", "/v2/made/none/blobs/sha256:" + "A" * 64, 400, "DIGEST_INVALID"),
        ("GET", "/v2/made/none/blobs/uploads/00", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("GET", "/v2/made/none/referrers/sha256:" + "0" * 64, 404, "UNSUPPORTED"),
        ("PUT", "/v2/made/none/manifests/1.0.0", 400, "MANIFEST_INVALID"),
        ("PUT", "/v2/single/manifests/1.0.0", 400, "MANIFEST_INVALID"),
        ("POST", "/v2/a%00b/c/blobs/uploads/", 400, "BLOB_UPLOAD_INVALID"),
    ],
)
def test_errors_are_those_that_clients_know(server, method, path, status, code):
    answer = server.ask(method, path)
    assert (answer.status, answer.json()["errors"][0]["code"]) == (status, code)


def test_a_push_needs_a_token_and_a_pull_none(server):
    with urllib3.PoolManager() as pool:
        asked = pool.request("POST", f"{server.url}/v2/made/x/blobs/uploads/", retries=False)
        assert (asked.status, asked.headers["WWW-Authenticate"]) == (401, 'Basic realm="axon"')
        assert pool.request("GET", f"{server.url}/v2/").status == 200


def test_tags_come_in_pages(server, client, digits):
    for version in ("5.0.0", "5.0.1", "5.0.2"):
        with prepared(digits(version), client) as package:
            publish(package, Remote(server.url), client)
    first = server.ask("GET", "/v2/acme/digits/tags/list?n=2&last=5")
    assert first.json()["tags"] == ["5.0.0", "5.0.1"]
    assert 'rel="next"' in first.headers["Link"]
    following = first.headers["Link"].partition("<")[2].partition(">")[0]
    assert server.ask("GET", following).json()["tags"][0] == "5.0.2"
    assert install("box/acme/digits@~5.0.0").spec.version == "5.0.2"
