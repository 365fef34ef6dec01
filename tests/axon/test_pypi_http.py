# SPDX-License-Identifier: BUSL-1.1
"""The package index over HTTP: pip finds, axon downloads, and pip does where only it can."""

import base64
import hashlib
import random

import pytest
from web import Reply, Web

import axon_client
from axon_client.adapters import pip
from axon_client.adapters.pypi import KNOWN, PypiAdapter
from axon_client.errors import IntegrityError
from axon_client.spec import PackageSpec
from mlos_core.errors import ConfigError, NotFound, Unavailable, Unsupported

NAME = PackageSpec("pypi", "tiny-net")
LOGIN = "Basic " + base64.b64encode(b"ada:lovelace").decode()


@pytest.fixture
def wheel(index, onnx):
    text = random.Random(1).randbytes(1 << 21)
    remark = b"\x32\x80\x80\x80\x01" + text  # the model's doc_string: 2 MiB of it
    return index.wheel("tiny-net", {"tiny/net.onnx": onnx(extra=remark)})


@pytest.fixture
def web(wheel, monkeypatch):
    """An index that pip asks over HTTP."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    page = f'<a href="/files/{wheel.name}#sha256={digest}">{wheel.name}</a>'.encode()

    def behave(request, reply):
        if request.path == "/simple/tiny-net/":
            reply.headers["Content-Type"] = "text/html"

    files = {"/simple/tiny-net/": page, f"/files/{wheel.name}": wheel.read_bytes()}
    with Web(files, behave) as web:
        monkeypatch.setenv("PIP_INDEX_URL", web.url("/simple"))
        yield web


def archives(web):
    return [request for request in web.log if request.path.startswith("/files/")]


def test_axon_fetches_what_pip_found_and_once(home, web, wheel, monkeypatch):
    monkeypatch.setattr(pip, "download_wheel", None)
    model = axon_client.install("pypi/tiny-net")
    package = model.manifest.distribution.package
    assert package.sha256 == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert package.url == web.url(f"/files/{wheel.name}")
    assert archives(web)
    assert all("range" in request.headers for request in archives(web))


def test_a_cut_archive_is_gone_on_with(home, web, wheel):
    cuts, normal = iter([1, 3]), web.behave

    def behave(request, reply):
        if request in archives(web) and request.range and reply.status == 206:
            reply.cut = next(cuts, None)
        return normal(request, reply)

    web.behave = behave
    axon_client.install("pypi/tiny-net")
    assert len({request.range for request in archives(web)}) >= 3


def test_pip_fetches_where_only_pip_is_let_in(home, web, monkeypatch):
    normal = web.behave

    def behave(request, reply):
        if request.headers.get("authorization") != LOGIN:
            return Reply(401, {"WWW-Authenticate": "Basic"})
        return normal(request, reply)

    web.behave = behave
    url = web.url("/simple").replace("http://", "http://ada:lovelace@")
    monkeypatch.setenv("PIP_INDEX_URL", url)
    model = axon_client.install("pypi/tiny-net")
    assert "lovelace" not in (model.path / "manifest.yaml").read_text()


def test_another_archive_than_the_index_speaks_of_is_refused(home, web, store, wheel):
    path = f"/files/{wheel.name}"
    web.files[path] = web.files[path][:-1] + b"?"
    with pytest.raises(IntegrityError, match="promised"):
        axon_client.install("pypi/tiny-net")
    assert store.installed() == []


def test_an_installation_leaves_no_archive(home, web, store):
    model = axon_client.install("pypi/tiny-net")
    assert sum(path.stat().st_size for path in (home / "blobs").rglob("*") if path.is_file()) == (
        model.size
    )


# --- which versions there are ---------------------------------------------------------


def test_versions_are_those_with_a_wheel_for_this_machine(home, index, onnx):
    files = {"tiny/net.onnx": onnx()}
    for version in ("1.0", "1.2.post1", "2.0rc1"):
        index.wheel("tiny-net", files, version=version)
    index.wheel("tiny-net", files, version="3.0", tag="cp36-none-win32")
    index.sdist("tiny-net", files, version="4.0")
    found = [offer.version for offer in PypiAdapter().versions(NAME)]
    assert sorted(found) == ["1.0", "1.2.post1", "2.0rc1"]
    assert axon_client.install("pypi/tiny-net").spec.version == "1.2.post1"
    assert axon_client.install("pypi/tiny-net@<1.1").spec.version == "1.0"


def test_a_yanked_version_is_listed_as_such_and_not_chosen(home, index, onnx):
    for version in ("1.0", "2.0"):
        index.wheel("tiny-net", {"tiny/net.onnx": onnx()}, version=version)
    page = index.root / "simple" / "tiny-net" / "index.html"
    text = page.read_text().replace(">tiny_net-2.0", ' data-yanked="it is wrong">tiny_net-2.0')
    page.write_text(text)
    found = {offer.version: offer for offer in PypiAdapter().versions(NAME)}
    assert (found["1.0"].yanked, found["2.0"].yanked) == ("", "it is wrong")
    assert (found["1.0"].tags, found["2.0"].tags) == (("latest",), ())
    assert axon_client.install("pypi/tiny-net").spec.version == "1.0"


def test_a_pip_whose_finder_is_another_one_is_asked_in_its_own_commands(
    home, index, onnx, tmp_path, monkeypatch
):
    index.wheel("tiny-net", {"tiny/net.onnx": onnx()})
    finder = tmp_path / "finder.py"
    finder.write_text('print(\'{"unknown": "AttributeError: gone"}\')')
    monkeypatch.setattr(pip, "FINDER", str(finder))
    assert [offer.version for offer in PypiAdapter().versions(NAME)] == ["1.0"]
    assert axon_client.install("pypi/tiny-net").model_file().read_bytes() == onnx()


def test_where_no_wheel_is_those_with_a_source_are_listed(home, index, onnx):
    index.sdist("tiny-net", {"tiny/net.onnx": onnx()}, version="4.0")
    assert [offer.version for offer in PypiAdapter().versions(NAME)] == ["4.0"]


def test_nothing_by_that_name_has_no_versions(home, index):
    with pytest.raises(NotFound, match="tiny-net"):
        PypiAdapter().versions(NAME)


@pytest.mark.parametrize("retries", ["0", "1"])
def test_an_index_that_cannot_be_reached_is_not_an_empty_one(home, index, monkeypatch, retries):
    with Web() as web:
        monkeypatch.setenv("PIP_INDEX_URL", web.url("/simple"))
    monkeypatch.setenv("PIP_RETRIES", retries)
    with pytest.raises(Unavailable, match="cannot be reached"):
        axon_client.install("pypi/tiny-net")


def test_offline_pip_is_not_run(home, index, monkeypatch):
    monkeypatch.setenv("AXON_OFFLINE", "1")
    with pytest.raises(ConfigError, match="offline"):
        pip.find_wheel("tiny-net")


def test_a_search_says_that_there_is_none_and_what_there_is():
    with pytest.raises(Unsupported, match="cannot be searched") as caught:
        PypiAdapter().search("digits", 10)
    assert KNOWN[0] in caught.value.hint
