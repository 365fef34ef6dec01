# SPDX-License-Identifier: BUSL-1.1
"""axon against a registry that wants tokens, and one that misbehaves."""

import base64
import gzip
import hashlib
import io
import json
import os
import tarfile

import msgspec
import pytest

from axon_client import credentials
from axon_client import manifest as manifests
from axon_client.adapters.oci import OciAdapter
from axon_client.credentials import Credential
from axon_client.errors import IntegrityError
from axon_client.installer import install
from axon_client.manifest import Format, Metadata, ModelFile, Spec
from axon_client.net import Clock, Options
from axon_client.oci import (
    artifact,
    challenge,
    client,
    docker_config,
    layout,
    media,
    push,
    reference,
    upload,
)
from axon_client.oci.reference import Place
from axon_client.spec import PackageSpec, parse
from axon_client.store import Store
from mlos_core.errors import (
    AlreadyExists,
    InvalidInput,
    NotFound,
    PermissionDenied,
    ProtocolError,
    Unavailable,
    Unsupported,
)

from .oci_registry import PASSWORD, USER, Registry, digest_of, elsewhere, running

WEIGHT = "application/vnd.cncf.model.weight.v1."


class Hasty(Clock):
    """Waits for nothing."""

    def sleep(self, seconds, stop=None):
        pass

    def chance(self):
        return 0.5


OPTIONS = Options(clock=Hasty())


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def url(registry, home, tmp_path, monkeypatch):
    """The registry's address; an empty home knows it as `box`."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("NETRC", os.devnull)
    with running(registry) as url:
        home.mkdir()
        box = {"url": url, "kind": "oci"}
        (home / "config.yaml").write_text(json.dumps({"registries": {"box": box}}))
        yield url


@pytest.fixture
def login(url, home):
    credentials.keep(url, Credential(PASSWORD, USER), home)


def raw(path, data, kind="raw"):
    return (WEIGHT + kind, data, {media.PATH: path})


def tarred(files, mode="w"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def zstd(data):
    from backports import zstd as module

    return module.compress(data)


def package(version="1.0.0", **files):
    """A manifest's bytes and the contents of its files."""
    contents = {"model.onnx": b"weights" * 1000, "README.md": b"# Digits", **files}
    listed = [
        ModelFile(path, len(data), hashlib.sha256(data).hexdigest())
        for path, data in contents.items()
    ]
    about = Metadata(name="digits", namespace="acme", version=version, license="MIT")
    return manifests.encode(manifests.new(about, Spec(format=Format(files=listed)))), contents


def laid_out(folder, contents):
    for path, data in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def paths(registry, method):
    return [path for m, path, _ in registry.asked if m == method]


# --- pulling --------------------------------------------------------------------------


def test_a_token_is_asked_for_once_and_for_what_is_needed(registry, url, onnx):
    registry.put("org/digits", "1.0.0", [raw("model.onnx", onnx()), raw("a.json", b"{}")])
    model = install("box/org/digits@1.0.0")
    assert (model.path / "model.onnx").read_bytes() == onnx()
    assert {scope for scope, _ in registry.scopes} == {("repository:org/digits:pull")}
    assert len(registry.scopes) <= 3  # for the tags, to resolve, and to fetch


def test_what_is_kept_for_the_registry_is_shown_to_its_token_service(registry, url, login, onnx):
    registry.put("digits", "1.0.0", [raw("model.onnx", onnx())])
    install("box/digits@1.0.0")
    assert all(named for _, named in registry.scopes)


def test_a_registry_may_want_a_plain_login(registry, url, onnx, tmp_path):
    registry.basic = True
    registry.put("digits", "1.0.0", [raw("model.onnx", onnx())])
    with pytest.raises(PermissionDenied):
        install("box/digits@1.0.0")
    (tmp_path / "docker").mkdir()
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    auths = {"auths": {url.removeprefix("http://"): {"auth": login}}}
    (tmp_path / "docker" / "config.json").write_text(json.dumps(auths))
    assert install("box/digits@1.0.0").spec.version == "1.0.0"


def test_a_token_does_not_follow_a_redirect_to_another_host(registry, url, login, onnx):
    registry.put("digits", "1.0.0", [raw("model.onnx", onnx())])
    with elsewhere(registry) as registry.elsewhere:
        install("box/digits@1.0.0")
    assert not registry.leaked


@pytest.mark.parametrize("redirected", [False, True])
def test_a_registry_gets_no_token_that_is_made_for_another(registry, url, onnx, home, redirected):
    """It names a service that knows the user, and would be shown the token that this makes."""
    other = Registry()
    with running(other) as service:
        credentials.keep(service, Credential(PASSWORD, USER), home)
        registry.moved = f"{service}/token?scope=repository:secret/model:pull"
        registry.realm = f"{url}/moved" if redirected else registry.moved
        registry.put("digits", "1.0.0", [raw("model.onnx", onnx())])
        with pytest.raises(PermissionDenied):
            install("box/digits@1.0.0")
    assert [named for _, named in other.scopes] == [False] * len(other.scopes) != []


def test_an_upload_to_another_host_takes_no_login_along(registry, url, login, home, tmp_path):
    with elsewhere(registry) as host:
        credentials.keep(host, Credential("other", USER), home)
        registry.uploads_to = f"{host}/upload"
        pushed(url, tmp_path)
    assert not registry.leaked


def test_a_token_that_ends_during_a_download_is_renewed(registry, url, onnx):
    registry.put("digits", "1.0.0", [raw(f"{n}.json", b"%d" % n) for n in range(9)]
                 + [raw("model.onnx", onnx())])  # fmt: skip
    registry.uses = 3
    install("box/digits@1.0.0")
    assert len(registry.tokens) > 3


def test_every_kind_of_layer_is_unpacked(registry, url, onnx):
    layers = [
        raw("model.onnx", onnx()),
        raw("", tarred({"./plain/a.txt": b"a"}), "tar"),
        raw("", gzip.compress(tarred({"b.txt": b"b"})), "tar+gzip"),
        raw("", zstd(tarred({"c.txt": b"c"})), "tar+zstd"),
        ("application/vnd.oci.image.layer.v1.tar", b"no tar", {media.TITLE: "d.txt"}),
        ("application/vnd.oci.image.layer.v1.tar+gzip", tarred({"e/f.txt": b"f"}, "w:gz"),
         {media.TITLE: "e"}),
    ]  # fmt: skip
    registry.put("digits", "1.0.0", layers)
    model = install("box/digits@1.0.0")
    texts = {
        p.relative_to(model.path).as_posix(): p.read_bytes() for p in model.path.rglob("*.txt")
    }
    assert texts == {"plain/a.txt": b"a", "b.txt": b"b", "c.txt": b"c", "d.txt": b"no tar",
                     "e/f.txt": b"f"}  # fmt: skip


def test_an_artifact_of_another_tool_is_described_by_its_config(registry, url, onnx):
    about = {"descriptor": {"licenses": ["MIT", "BSD-3-Clause"], "authors": ["Ada"],
                            "description": "Digits", "version": "2.1.0"},
             "config": {"architecture": "cnn", "quantization": "int8"}}  # fmt: skip
    registry.put("digits", "latest", [raw("model.onnx", onnx())], json.dumps(about).encode())
    model = install("box/digits@latest")
    assert model.spec == PackageSpec("box", "digits", "2.1.0")
    assert model.manifest.metadata.license == "MIT AND BSD-3-Clause"
    assert model.manifest.spec.model.architecture == "cnn"


def test_without_a_version_the_highest_tag_is_taken(registry, url, onnx):
    registry.page = 2
    for tag in ("1.0.0", "1.2.0", "2.0.0-rc.1", "1.10.0", "latest", "main"):
        registry.put("digits", tag, [raw("model.onnx", onnx(extra=b""))])
    assert install("box/digits").spec.version == "1.10.0"
    assert install("box/digits@~1.2").spec.version == "1.2.0"
    with pytest.raises(NotFound, match="fits"):
        install("box/digits@^7")


def test_a_digest_pins_the_content(registry, url, onnx):
    digest = registry.put("digits", "1.0.0", [raw("model.onnx", onnx())])
    registry.put("digits", "1.0.0", [raw("model.onnx", onnx(weights=["w"]))])
    model = install(f"box/digits@{digest}")
    assert (model.path / "model.onnx").read_bytes() == onnx()
    assert model.spec.version == digest.replace(":", "-")
    adapter = OciAdapter(url, "box")
    assert adapter.resolve(model.spec).revision == digest


def test_a_list_of_one_model_is_that_model(registry, url, onnx):
    digest = registry.put("digits", "inner", [raw("model.onnx", onnx())])
    row = {"mediaType": media.MANIFEST, "digest": digest, "size": 1, "artifactType": media.ARTIFACT}
    other = {**row, "artifactType": "text/plain"}
    index = {"schemaVersion": 2, "mediaType": media.INDEX, "manifests": [other, row]}
    registry.put_manifest("digits", "1.0.0", json.dumps(index).encode())
    assert install("box/digits@1.0.0").spec.version == "1.0.0"
    index["manifests"] = [row, row]
    registry.put_manifest("digits", "2.0.0", json.dumps(index).encode())
    with pytest.raises(Unsupported, match="list of 2"):
        install("box/digits@2.0.0")


def test_a_registry_that_lies_is_not_believed(registry, url, onnx, store):
    digest = registry.put("digits", "1.0.0", [raw("model.onnx", onnx())])
    registry.lie = {digest_of(onnx()): onnx().replace(b"tests", b"stest")}
    with pytest.raises(IntegrityError):
        install("box/digits@1.0.0")
    registry.lie = {digest: json.dumps({"schemaVersion": 2}).encode()}
    with pytest.raises(IntegrityError, match="has the digest"):
        install(f"box/digits@{digest}")
    registry.lie, registry.stated = {}, {"1.0.0": "sha256:" + "0" * 64}
    with pytest.raises(IntegrityError, match="has the digest"):
        install("box/digits@1.0.0")
    assert not store.installed()


def test_layers_may_not_be_one_file_together(registry, url, onnx):
    layers = [raw("model.onnx", onnx()), raw("", tarred({"MODEL.onnx": b"x"}), "tar")]
    registry.put("digits", "1.0.0", layers)
    with pytest.raises(IntegrityError, match="differ in case"):
        install("box/digits@1.0.0")


def test_a_package_is_called_what_was_asked_for_whatever_it_calls_itself(registry, url, onnx):
    offer(registry, "mine", "3.0.0", **{"model.onnx": onnx()})
    model = install("box/mine@3.0.0")
    assert model.spec == PackageSpec("box", "mine", "3.0.0")
    assert model.manifest.metadata.annotations[media.PACKAGE] == "acme/digits@1.0.0"
    assert model.manifest.metadata.license == "MIT"


def offer(registry, repository, tag, signed=True, **files):
    """Put acme/digits@1.0.0 there, with what may be a signature."""
    data, contents = package(**files)
    signature = {"key": "k", "signature": "s", "manifest_sha256": "m"}
    packed = layout.pack(data, [signature] if signed else [])
    for body in (*contents.values(), *packed.blobs.values()):
        registry.put_blob(body)
    registry.put_manifest(repository, tag, packed.manifest)
    return packed


@pytest.mark.parametrize(
    ("repository", "tag", "vouched"),
    [
        ("acme/digits", "1.0.0", True),
        ("digits", "1.0.0", True),
        ("mirror/acme/digits", "1.0.0", True),
        ("acme/digits", "1.0.1", False),
        ("acme/letters", "1.0.0", False),
        ("evil/digits", "1.0.0", False),
        ("igits", "1.0.0", False),
    ],
)
def test_a_signature_is_for_the_package_that_was_signed(registry, url, repository, tag, vouched):
    packed = offer(registry, repository, tag)
    found = OciAdapter(url, "box").resolve(PackageSpec("box", repository, tag))
    assert bool(found.signatures) == vouched
    assert found.manifest == packed.blobs[packed.artifact.layers[0].digest]


def test_layers_that_the_manifest_does_not_list_are_refused(registry, url, onnx):
    packed = offer(registry, "acme/digits", "1.0.0", **{"model.onnx": onnx()})
    made = json.loads(packed.manifest)
    made["layers"].append({**made["layers"][1], "annotations": {media.PATH: "evil.py"}})
    registry.put_manifest("acme/digits", "1.0.1", json.dumps(made).encode())
    with pytest.raises(IntegrityError, match=r"evil\.py"):
        install("box/acme/digits@1.0.1")
    del made["layers"][-2:]
    registry.put_manifest("acme/digits", "1.0.2", json.dumps(made).encode())
    with pytest.raises(IntegrityError, match="lacks"):
        install("box/acme/digits@1.0.2")


def test_what_is_not_there_is_not_found(registry, url):
    with pytest.raises(NotFound):
        install("box/none@1.0.0")
    registry.put("digits", "latest", [raw("model.onnx", b"x")])
    with pytest.raises(NotFound, match=r"1\.0\.0"):
        install("box/digits@1.0.0")


# --- pushing --------------------------------------------------------------------------


def pushed(url, tmp_path, name="acme/digits", tags=("1.0.0",), contents=None, **named):
    data, files = package(**(contents or {}))
    folder = laid_out(tmp_path / "files", files)
    return push.push(data, folder, Place(url, name), tags, options=OPTIONS, **named)


def test_a_push_comes_back_byte_for_byte(registry, url, login, onnx, tmp_path):
    done = pushed(url, tmp_path, contents={"model.onnx": onnx()})
    assert (done.new, done.sent) == (True, 2)
    model = install("box/acme/digits@1.0.0")
    assert (model.path / "model.onnx").read_bytes() == onnx()
    assert registry.manifests[("acme/digits", "1.0.0")] == layout.pack(package(
        **{"model.onnx": onnx()})[0]).manifest  # fmt: skip


def test_a_second_push_sends_nothing(registry, url, login, tmp_path):
    first = pushed(url, tmp_path)
    before = len(paths(registry, "PATCH")) + len(paths(registry, "POST"))
    second = pushed(url, tmp_path)
    assert (second.new, second.sent, second.digest) == (False, 0, first.digest)
    assert len(paths(registry, "PATCH")) + len(paths(registry, "POST")) == before


def test_a_version_is_not_moved_and_a_tag_is(registry, url, login, tmp_path):
    pushed(url, tmp_path, tags=("1.0.0", "stable"))
    changed = {"model.onnx": b"other"}
    with pytest.raises(AlreadyExists, match=r"1\.0\.0"):
        pushed(url, tmp_path, contents=changed)
    done = pushed(url, tmp_path, tags=("1.0.1", "stable"), contents=changed)
    assert digest_of(registry.manifests[("acme/digits", "stable")]) == done.digest


def test_a_push_goes_on_after_cuts(registry, url, login, tmp_path):
    registry.cuts = 3
    told = []
    pushed(url, tmp_path, progress=lambda task, done, total: told.append((done, total)))
    assert digest_of(b"weights" * 1000) in registry.blobs
    assert told[-1][0] == told[-1][1]
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_push_goes_in_chunks_where_one_request_may_not_bring_all(
    registry, url, login, tmp_path, monkeypatch
):
    monkeypatch.setattr(upload, "CHUNK", 1000)
    registry.most = 1500
    pushed(url, tmp_path)
    assert digest_of(b"weights" * 1000) in registry.blobs
    assert len(paths(registry, "PATCH")) > 7


def test_a_token_that_ends_during_a_push_is_renewed(registry, url, login, tmp_path):
    registry.uses = 2
    pushed(url, tmp_path)
    assert digest_of(b"weights" * 1000) in registry.blobs


def test_a_push_that_is_cut_again_and_again_ends(registry, url, login, tmp_path, monkeypatch):
    monkeypatch.setattr(upload, "_MOST_FAILURES", 2)
    registry.cuts = 1000
    registry.uploads = _Forgetful()
    with pytest.raises(Unavailable):
        pushed(url, tmp_path)
    assert not registry.manifests


class _Forgetful(dict):
    """Uploads of which nothing is ever kept."""

    def __setitem__(self, key, value):
        super().__setitem__(key, b"")


def test_a_blob_is_taken_over_from_another_repository(registry, url, login, tmp_path):
    registry.elsewhere_only = {registry.put_blob(package()[1]["model.onnx"])}
    done = pushed(url, tmp_path, mount="acme/other")
    assert (done.mounted, done.sent) == (1, 1)
    assert any("repository:acme/other:pull" in scope for scope, _ in registry.scopes)


def test_a_push_without_a_login_is_refused(registry, url, tmp_path):
    with pytest.raises(PermissionDenied):
        pushed(url, tmp_path)
    assert not registry.manifests


# --- what needs no registry -----------------------------------------------------------


def test_the_same_package_gives_the_same_artifact():
    data, contents = package()
    packed = layout.pack(data)
    assert packed == layout.pack(data)
    made = json.loads(packed.manifest)
    assert made["artifactType"] == media.ARTIFACT
    layers = {layer["annotations"][media.PATH]: layer for layer in made["layers"]}
    assert layers.keys() == {*contents, "manifest.yaml"}
    assert layers["model.onnx"]["digest"] == digest_of(contents["model.onnx"])
    assert layers["model.onnx"]["mediaType"] == WEIGHT + "raw"
    assert layers["README.md"]["mediaType"] == "application/vnd.cncf.model.doc.v1.raw"
    config = json.loads(packed.blobs[made["config"]["digest"]])
    assert config["descriptor"] == {"name": "digits", "version": "1.0.0", "licenses": ["MIT"]}
    assert config["modelfs"]["diffIds"] == [layer["digest"] for layer in made["layers"]]


def test_signatures_travel_with_the_artifact():
    signatures = [{"key": "ed25519:a", "signature": "b", "manifest_sha256": "c"}]
    packed = layout.pack(package()[0], signatures)
    assert artifact.signatures_of(artifact.parse(packed.manifest, "x")) == tuple(signatures)
    damaged = msgspec.structs.replace(packed.artifact, annotations={media.SIGNATURES: "[1]"})
    assert artifact.signatures_of(damaged) == ()


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Basic realm="x"', [("basic", "x", "", "")]),
        ('bearer REALM="https://a/t?x=1,2",Service=s , scope="a b"',
         [("bearer", "https://a/t?x=1,2", "s", "a b")]),
        ('Bearer realm="a", Basic realm="b"', [("bearer", "a", "", ""), ("basic", "b", "", "")]),
        (r'Bearer realm="a\"b"', [("bearer", 'a"b', "", "")]),
        ("Negotiate, Basic", [("negotiate", "", "", ""), ("basic", "", "", "")]),
        ('Bearer realm="unclosed', [("bearer", "", "", "")]),
        ("", []),
        ("=,,=", []),
    ],
)  # fmt: skip
def test_challenges_are_read(header, expected):
    found = [(c.scheme, c.realm, c.service, c.scope) for c in challenge.parse(header)]
    assert found == expected


@pytest.mark.parametrize(
    ("spec", "place"),
    [
        ("oci/ghcr.io/org/model@1.0", ("https://ghcr.io", "org/model")),
        ("oci/docker.io/ai/smollm2", ("https://registry-1.docker.io", "ai/smollm2")),
        ("oci/localhost/model", ("https://localhost", "model")),
    ],
)
def test_a_spec_names_a_repository(spec, place):
    found = reference.place_of(parse(spec))
    assert (found.url, found.name) == place


@pytest.mark.parametrize("spec", ["oci/model", "oci/org/model", "oci/ghcr.io/Org/model"])
def test_a_spec_without_a_repository_is_refused(spec):
    with pytest.raises(InvalidInput):
        reference.place_of(parse(spec))


def test_other_namespaces_come_first_in_a_registrys_repositories():
    url = "oci://box.example/models"
    assert str(reference.place_of(PackageSpec("box", "a"), url, "box")) == "box.example/models/a"
    assert str(reference.place_of(PackageSpec("b", "a"), url, "box")) == "box.example/models/b/a"


def test_a_helper_that_docker_names_is_asked(tmp_path, monkeypatch):
    program = tmp_path / "docker-credential-vault"
    program.write_text(
        '#!/bin/sh\nread host\necho "{\\"Username\\": \\"u\\", \\"Secret\\": \\"of $host\\"}"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "config.json").write_text(
        json.dumps({"credHelpers": {"a.example": "vault", "b.example": "../vault", "c": "none"}})
    )
    environ = {"DOCKER_CONFIG": str(tmp_path)}
    assert docker_config.find("a.example", environ) == Credential("of a.example", "u")
    assert docker_config.find("b.example", environ) is None
    assert docker_config.find("c", environ) is None


def test_latest_alone_is_a_version_too(registry, url, onnx):
    about = b'{"descriptor": {"version": "3.1.4"}}'
    for tag in ("latest", "main"):
        registry.put("digits", tag, [raw("model.onnx", onnx())], about)
    assert install("box/digits").spec.version == "3.1.4"
    assert install("box/digits@main").spec.version == "main"


def test_a_version_that_no_tag_can_have_is_found_by_what_becomes_of_it(registry, url, onnx):
    registry.put("digits", "1.0.0_cpu", [raw("model.onnx", onnx())])
    assert install("box/digits@1.0.0+cpu").spec.version == "1.0.0+cpu"


def test_versions_are_the_tags(registry, url, onnx):
    for tag in ("1.0.0", "latest"):
        registry.put("digits", tag, [raw("model.onnx", onnx())])
    adapter = OciAdapter(url, "box")
    assert [v.version for v in adapter.versions(PackageSpec("box", "digits"))] == ["1.0.0"]


@pytest.mark.parametrize("link", ["/v2/digits/tags/list?n=1", "http://127.0.0.2:1/v2/d/tags/list"])
def test_tags_that_never_end_or_lie_elsewhere_are_refused(registry, url, onnx, monkeypatch, link):
    monkeypatch.setattr(client, "_MOST_PAGES", 3)
    registry.put("digits", "1.0.0", [raw("model.onnx", onnx())])
    registry.next_page = link
    with pytest.raises(ProtocolError, match=r"pages|another host"):
        OciAdapter(url, "box").versions(parse("box/digits"))
    assert len(paths(registry, "GET")) < 9


def test_layers_unpack_to_no_more_than_one_archive_of_their_size_may(registry, url, onnx, store):
    bombs = [
        raw(f"{n}", gzip.compress(tarred({f"{n}.json": bytes(48 << 20)}), 9), "tar+gzip")
        for n in range(2)
    ]
    registry.put("digits", "1.0.0", [raw("model.onnx", onnx()), *bombs])
    with pytest.raises(IntegrityError, match="more than is allowed"):
        install("box/digits@1.0.0")
    assert store.installed() == []


def test_the_store_is_not_asked_for_what_it_has(registry, url, onnx, home):
    registry.put("digits", "1.0.0", [raw("model.onnx", onnx())])
    registry.put("digits", "1.0.1", [raw("model.onnx", onnx()), raw("a.json", b"{}")])
    install("box/digits@1.0.0")
    before = len(paths(registry, "GET"))
    install("box/digits@1.0.1")
    fetched = [path for path in paths(registry, "GET")[before:] if digest_of(onnx()) in path]
    assert not fetched
    assert len(Store(home).installed()) == 2
