# SPDX-License-Identifier: BUSL-1.1
"""Axon registries as a source: one that is served, one of files, one of the original kind."""

import hashlib
import io
import itertools
import json
import tarfile
import zlib
from pathlib import Path

import pytest
from axon_served import Quiet, answering, axon, files_of, original, serving

from axon_client import cli, config_file, net
from axon_client import manifest as manifests
from axon_client.adapters import adapter_for, registry_of, source
from axon_client.adapters.base import Lists, Searches
from axon_client.adapters.catalogue import facets, search
from axon_client.adapters.registry import RegistryAdapter, choose
from axon_client.config import Config, Registry
from axon_client.errors import IntegrityError
from axon_client.installer import install
from axon_client.manifest import Distribution, Metadata, ModelFile, Package, Spec
from axon_client.prepare import prepared
from axon_client.publish import publish
from axon_client.remote import Entry, Filters, Index, Release, Remote
from axon_client.spec import PathSpec, parse, parse_name
from axon_client.store import Store
from mlos_core.errors import NotFound, PluginBroken, ProtocolError, Unavailable


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A registry with acme/digits 1.0.0, 1.1.0 (stable), 2.0.0-rc.1, 1.2.0 (yanked)."""
    root = tmp_path_factory.mktemp("registry")
    with serving(root / "data") as registry:
        from .conftest import make_onnx

        fill(registry, root, make_onnx())
        yield registry


def fill(registry, root, model):
    folder, home = root / "digits", root / "publisher"
    (folder / "labels").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model)
    (folder / "labels" / "en.txt").write_text("zero\none\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AXON_HOME", str(home))
        use(home, registry.url)
        patch.setenv("AXON_TOKEN", registry.token)
        remote = Remote(registry.url)
        for version in ("1.0.0", "1.1.0", "2.0.0-rc.1", "1.2.0"):
            (folder / "labels" / "v.txt").write_text(version)
            name = parse_name(f"acme/digits@{version}")
            with prepared(PathSpec(folder), Store(home), rename=name) as package:
                tags = ["stable"] if version == "1.1.0" else []
                publish(package, remote, Store(home), tags)
        remote.yank(parse_name("acme/digits@1.2.0"), "it counts wrong")


def use(home, url, **more):
    def change(values):
        values["registries"] = {"hub": {"url": url, **more}}
        values["default_registry"] = "hub"

    config_file.edit(home, change)


@pytest.fixture
def client(home, served):
    use(home, served.url)
    return home


@pytest.fixture(scope="module")
def static(served, tmp_path_factory):
    """The same, as files on a plain web server."""
    folder = tmp_path_factory.mktemp("static") / "files"
    done = axon("registry", "export", folder, "--data", served.data, home=served.data)
    assert done.returncode == 0, done.stderr
    with answering(files_of(folder)) as url:
        yield url


@pytest.fixture(params=["served", "static"])
def url(request, home):
    """Both kinds keep the same promises."""
    found = request.getfixturevalue(request.param)
    found = found if isinstance(found, str) else found.url
    use(home, found)
    return found


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("acme/digits", "1.1.0"),
        ("acme/digits@latest", "1.1.0"),
        ("acme/digits@stable", "1.1.0"),
        ("acme/digits@^1.0", "1.1.0"),
        ("acme/digits@<1.1", "1.0.0"),
        ("acme/digits@1.0.0", "1.0.0"),
        ("acme/digits@2.0.0-rc.1", "2.0.0-rc.1"),
        ("acme/digits@1.2.0", "1.2.0"),
    ],
)
def test_a_selector_chooses_a_version(url, text, version):
    found = adapter_for(parse(text)).resolve(parse(text))
    assert str(found.package) == f"acme/digits@{version}"
    assert found.yanked == ("it counts wrong" if version == "1.2.0" else "")
    assert {file.path for file in found.files} == {"model.onnx", "labels/en.txt", "labels/v.txt"}


def test_a_digest_chooses_the_manifest_that_has_it(url):
    exact = adapter_for(parse("acme/digits@1.0.0")).resolve(parse("acme/digits@1.0.0"))
    assert exact.revision == f"sha256:{hashlib.sha256(exact.manifest).hexdigest()}"
    again = parse(f"acme/digits@{exact.revision}")
    assert adapter_for(again).resolve(again) == exact


def test_a_package_is_installed_with_the_bytes_that_were_published(url, store, files_of):
    model = install("acme/digits@1.0.0")
    assert files_of(model.path) >= ["labels/en.txt", "labels/v.txt", "manifest.yaml", "model.onnx"]
    assert (model.path / "labels/v.txt").read_text() == "1.0.0"
    assert store.verify(model) == []
    assert model.manifest.distribution == Distribution()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("acme/digit", "did you mean acme/digits?"),
        ("acme/digits@9", "1.1.0"),
        ("acme/digits@nightly", "stable"),
        ("acme/digits@sha256:" + "0" * 64, "there are"),
        ("other/thing", "axon search thing"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(url, text, said):
    with pytest.raises(NotFound) as caught:
        adapter_for(parse(text)).resolve(parse(text))
    assert said in str(caught.value)


def test_versions_come_with_tags_and_yanks(url):
    adapter = source("acme")
    assert isinstance(adapter, Lists)
    assert isinstance(adapter, Searches)
    there = {version.version: version for version in adapter.versions(parse_name("acme/digits"))}
    assert set(there) == {"1.0.0", "1.1.0", "2.0.0-rc.1", "1.2.0"}
    assert set(there["1.1.0"].tags) == {"stable", "latest"}
    assert there["1.2.0"].yanked == "it counts wrong"
    with pytest.raises(NotFound):
        adapter.versions(parse_name("acme/none"))


def test_search_finds_by_name_and_filters(url):
    adapter = source("acme")
    (hit,) = adapter.search("digits", 5)
    assert (hit.namespace, hit.name, hit.version, hit.framework) == (
        "acme", "digits", "1.1.0", "onnx",
    )  # fmt: skip
    assert adapter.find("", Filters(format="onnx"), 5)[1] == 1
    assert adapter.find("", Filters(format="gguf"), 5) == ([], 0)
    assert adapter.search("nothing", 5) == []
    assert adapter.facets("", Filters())["format"] == {"onnx": 1}


# --- a registry that is wrong ------------------------------------------------------------


def lying(manifest, index=None, detail=None):
    """A registry with one package, whose answers can be anything."""
    about = {"name": "x", "version": "1", "static": False, "namespaces": [], "oci": False}
    digest = hashlib.sha256(manifest).hexdigest()
    index = index or {
        "namespace": "acme",
        "name": "m",
        "tags": {"latest": "1.0.0"},
        "versions": [{"version": "1.0.0", "manifest_sha256": digest, "new_field": 1}],
    }
    pages = {
        "/api/v1/registry.json": about,
        "/api/v1/models/acme/m/-/index.json": index,
        "/api/v1/models/acme/m/-/versions/1.0.0.json": detail or {"version": "1.0.0"},
    }

    class Lying(Quiet):
        def do_GET(self):
            if self.path.endswith("manifest.yaml"):
                self.reply(200, manifest)
            elif self.path in pages:
                page = pages[self.path]
                self.reply(200, page if isinstance(page, bytes) else json.dumps(page).encode())
            else:
                self.reply(404)

    return Lying


def describe(name="m", version="1.0.0", files=(), distribution=None):
    spec = Spec(format=manifests.Format(type="onnx", files=list(files)))
    about = Metadata(name=name, namespace="acme", version=version)
    return manifests.encode(manifests.new(about, spec, distribution))


def resolving(handler, text="acme/m"):
    with answering(handler) as url:
        return RegistryAdapter(url).resolve(parse(text))


def test_a_manifest_that_is_not_the_indexed_one_is_refused(home):
    index = {
        "namespace": "acme",
        "name": "m",
        "versions": [{"version": "1.0.0", "manifest_sha256": "0" * 64}],
    }
    with pytest.raises(IntegrityError, match=r"the manifest of acme/m@1\.0\.0 has sha256"):
        resolving(lying(describe(), index), "acme/m@1.0.0")


def test_the_manifest_of_another_package_is_refused(home):
    with pytest.raises(IntegrityError, match="has the manifest of acme/other"):
        resolving(lying(describe("other")))


@pytest.mark.parametrize("index", [b"<html>", b"[]", b'{"versions": 3}', b"\xff", b'{"a":' * 5000])
def test_what_is_no_registry_is_said_to_be_none(home, index):
    with pytest.raises(ProtocolError, match="something else than a registry"):
        resolving(lying(describe(), index))


def test_a_tag_that_names_no_version_is_not_found(home):
    index = Index("acme", "m", tags={"latest": "9"}, versions=[Release("1.0.0")])
    with pytest.raises(NotFound):
        choose(index, parse_name("acme/m"))


def test_a_file_that_is_not_the_listed_one_is_refused(home, store):
    file = ModelFile("model.onnx", 3, hashlib.sha256(b"abc").hexdigest())

    class Forging(lying(describe(files=[file]))):
        def do_GET(self):
            if "/blobs/" in self.path:
                self.reply(200, b"abd")
            else:
                super().do_GET()

    with answering(Forging) as url:
        use(home, url)
        with pytest.raises(IntegrityError):
            install("acme/m")
    assert store.installed() == []


def test_an_upset_registry_is_asked_again(home, monkeypatch):
    monkeypatch.setattr(net.options.SYSTEM, "sleep", lambda *arguments: None)
    refused = []

    class Upset(lying(describe())):
        def do_GET(self):
            if len(refused) < 2:
                refused.append(self.path)
                self.reply(503)
            else:
                super().do_GET()

    assert str(resolving(Upset).package) == "acme/m@1.0.0"
    assert len(refused) == 2


def test_a_registry_that_drips_is_given_up(home, monkeypatch):
    seconds = itertools.count(0, 40)
    monkeypatch.setattr(net.options.SYSTEM, "now", lambda: float(next(seconds)))
    monkeypatch.setattr(net.options.SYSTEM, "sleep", lambda *arguments: None)

    class Dripping(Quiet):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b" ")
            self.wfile.flush()
            self.rfile.read(1)  # the client goes away

    with answering(Dripping) as url, pytest.raises(Unavailable, match="does not answer in time"):
        RegistryAdapter(url).remote.about()


def test_an_answer_that_unpacks_to_more_than_is_allowed_is_refused(home):
    packed = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packed.compress(bytes(1 << 20)) for _ in range(80)) + packed.flush()

    class Bombing(Quiet):
        def do_GET(self):
            self.reply(200, bomb, Content_Encoding="gzip")

    with answering(Bombing) as url, pytest.raises(ProtocolError, match="more than"):
        RegistryAdapter(url).remote.about()


@pytest.mark.parametrize("count", ["\xb2", "-1", "many", "9" * 5000])
def test_a_count_that_is_no_number_is_not_believed(home, count):
    class Counting(Quiet):
        def do_GET(self):
            if "search" in self.path:
                self.reply(200, b'[{"name": "a", "namespace": "b"}]', X_Total_Count=count)
            else:
                self.reply(200, b"{}")

    with answering(Counting) as url:
        assert RegistryAdapter(url).find("", Filters(), 5)[1] == 1


# --- the original kind -------------------------------------------------------------------


def archived(manifest, files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in {"manifest.yaml": manifest, **files}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def old_registry(onnx, listed=True, stated=True):
    model = onnx()
    file = ModelFile("model.onnx", len(model), hashlib.sha256(model).hexdigest())
    plain = describe(files=[file] if listed else ())
    data = archived(plain, {"model.onnx": model})
    package = Package(size=len(data), sha256=hashlib.sha256(data).hexdigest() if stated else "")
    outside = describe(files=[file] if listed else (), distribution=Distribution(package))
    hits = [{"name": "m", "namespace": "acme", "version": "1.0.0", "description": "A model",
             "framework": "onnx", "tags": None}]  # fmt: skip
    return original(
        hits,
        {"/api/v1/models/acme/m/1.0.0/manifest.yaml": outside},
        {"/packages/acme-m-1.0.0.axon": data},
    )


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("text", ["acme/m@1.0.0", "acme/m", "acme/m@latest"])
def test_an_original_registry_serves_packages(home, store, onnx, text, listed):
    with answering(old_registry(onnx, listed)) as url:
        use(home, url)
        model = install(text)
        assert [hit.name for hit in source("acme").search("m", 5)] == ["m"]
        assert source("acme").find("", Filters(framework="tensorflow"), 5) == ([], 0)
        assert [v.version for v in source("acme").versions(parse_name("acme/m"))] == ["1.0.0"]
    assert str(model.spec) == "acme/m@1.0.0"
    assert model.model_file().read_bytes() == onnx()
    assert store.verify(model) == []


def test_an_original_registry_that_states_no_digest_is_refused(home, onnx):
    with answering(old_registry(onnx, listed=False, stated=False)) as url:
        use(home, url)
        with pytest.raises(IntegrityError, match="states no sha256"):
            install("acme/m@1.0.0")


def test_an_original_registry_cannot_look_up_a_range(home, onnx):
    with answering(old_registry(onnx)) as url:
        use(home, url)
        with pytest.raises(NotFound, match="lists no versions"):
            RegistryAdapter(url).resolve(parse("acme/m@^1"))


# --- which source serves a namespace -----------------------------------------------------


def test_a_namespace_is_asked_at_one_registry_only():
    settings = Config(
        default_registry="main",
        registries={
            "main": Registry("https://main"),
            "private": Registry("https://private", namespaces=["secret"]),
            "lab": Registry("https://lab", "hf"),
        },
    )
    assert registry_of("secret", settings) == "private"
    assert registry_of("anything", settings) == "main"
    assert registry_of("lab", settings) == "lab"
    assert registry_of("private", settings) == "main"
    assert registry_of("x", Config()) == ""


def test_a_namespace_without_a_source_says_how_to_add_one(home):
    with pytest.raises(NotFound) as caught:
        adapter_for(parse("pipy/magika"))
    assert "did you mean pypi?" in str(caught.value)
    assert "axon registry add" in str(caught.value)


class Point:
    """An entry point."""

    def __init__(self, name, load):
        self.name, self.load = name, load
        self.dist, self.value = None, "somewhere:Source"


@pytest.fixture
def points(monkeypatch):
    found = []
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: found)
    return found


def test_an_outside_source_serves_its_namespace(home, points):
    class Mine:
        def resolve(self, spec):
            return "resolved"

        def fetch(self, *arguments):
            pass

    points.append(Point("mine", lambda: Mine))
    assert adapter_for(parse("mine/x")).resolve(None) == "resolved"


def test_a_broken_outside_source_is_named_and_hurts_no_other(home, points):
    def fail():
        raise ZeroDivisionError("oops")

    points += [Point("bad", fail), Point("empty", lambda: object), Point("pypi", fail)]
    with pytest.raises(PluginBroken, match="source 'bad' of somewhere:Source does not load"):
        source("bad")
    with pytest.raises(PluginBroken, match="has no resolve and no fetch"):
        source("empty")
    assert type(source("pypi")).__name__ == "PypiAdapter"


# --- searching in the client -------------------------------------------------------------


def test_names_count_more_than_descriptions():
    entries = [
        Entry("other", "a", description="as good as bert"),
        Entry("bert-base", "a"),
        Entry("bert", "a"),
        Entry("gpt", "a"),
    ]
    assert [entry.name for entry in search(entries, "BERT", Filters())] == [
        "bert", "bert-base", "other",
    ]  # fmt: skip
    assert search(entries, "bert nothing", Filters()) == []
    assert len(search(entries, "", Filters())) == 4


def test_facets_are_counted():
    entries = [Entry("a", "x", framework="onnx", tags=["t"]), Entry("b", "x", tags=["t", "u"])]
    assert facets(entries)["tag"] == {"t": 2, "u": 1}
    assert facets(entries)["framework"] == {"onnx": 1}


def test_paths_are_local():
    assert type(adapter_for(PathSpec(Path("x")))).__name__ == "LocalAdapter"


def test_files_on_a_web_server_take_no_login_and_no_package(
    static, home, folder, monkeypatch, capsys
):
    use(home, static)
    monkeypatch.setattr("sys.stdin", io.StringIO("a-token"))
    assert cli.run(["registry", "login", "hub"]) == 69
    assert "knows no tokens" in capsys.readouterr().err
    assert cli.run(["publish", str(folder), "--as", "acme/new@1.0.0"]) == 69
    assert "plain files" in capsys.readouterr().err


def test_who_speaks_no_tls_is_told_to_write_another_url(served, home):
    with pytest.raises(Unavailable) as caught:
        Remote(served.url.replace("http://", "https://")).about()
    assert "http://" in caught.value.hint
