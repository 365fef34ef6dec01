# SPDX-License-Identifier: BUSL-1.1
"""Files on a web server, archives among them, and a source from another distribution."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import axon_client
from axon_client import cli
from axon_client.errors import IntegrityError
from axon_client.store import Store
from mlos_core.errors import InvalidInput, MlosError, NotFound

IDENTITY = b"""apiVersion: axon.mlos.io/v1
kind: Model
metadata: {name: digits, namespace: ada, version: "2.1"}
"""


class Web:
    """A web server in a thread; `files` by path, and the paths that were asked for."""

    def __init__(self):
        self.files, self.asked = {}, []
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body go out at once

            def log_message(self, *arguments):
                pass

            def do_GET(self):
                path = self.path.partition("?")[0]
                web.asked.append(path)
                data = web.files.get(path)
                self.send_response(200 if data is not None else 404)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                self.wfile.write(data or b"")

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def put(self, path, data, claimed=None):
        """Serve `data`; the URL with its digest."""
        self.files[path] = data
        digest = hashlib.sha256(data if claimed is None else claimed).hexdigest()
        return f"http://127.0.0.1:{self.server.server_address[1]}{path}#sha256={digest}"


@pytest.fixture
def web(home, monkeypatch):
    for name in [name for name in os.environ if "proxy" in name.lower()]:
        monkeypatch.delenv(name)
    web = Web()
    yield web
    web.server.shutdown()
    web.server.server_close()


def tarred(files, suffix="gz"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{suffix}") as archive:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def zipped(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return out.getvalue()


def paths(model):
    return [file.path for file in model.manifest.spec.format.files]


# --- single files ---------------------------------------------------------------------


def test_a_model_file_is_named_after_its_host_and_its_digest(web, onnx):
    url = web.put("/models/digits%20v2.onnx", onnx())
    web.files["/models/digits%20v2.onnx"] = onnx()
    digest = url.rpartition("=")[2]
    model = axon_client.install(url)
    assert str(model.spec) == f"https/127.0.0.1/digits-v2@0.0.0+{digest[:12]}"
    assert paths(model) == ["digits v2.onnx"]
    package = model.manifest.distribution.package
    assert (package.url, package.sha256, package.size) == (
        url.partition("#")[0],
        digest,
        len(onnx()),
    )
    axon_client.install(url)
    assert len(web.asked) == 1


def test_a_file_with_another_digest_is_refused(web, onnx, home):
    url = web.put("/m.onnx", onnx(), claimed=b"something else")
    with pytest.raises(IntegrityError):
        axon_client.install(url)
    assert Store(home).installed() == []


def test_a_url_without_a_digest_is_refused_with_how_to_write_one(web, onnx):
    url = web.put("/m.onnx", onnx()).partition("#")[0]
    for text in (url, f"{url}#sha256=", f"{url}#sha256=abc", f"{url}#md5={'a' * 32}"):
        with pytest.raises(InvalidInput, match="digest") as caught:
            axon_client.install(text)
        assert "#sha256=" in caught.value.hint
    assert web.asked == []


@pytest.mark.parametrize("path", ["/page.html", "/", "/model", "/a%2f..%2f.onnx/", "/con.onnx"])
def test_a_url_that_names_no_model_is_refused_before_anything_is_fetched(web, path):
    with pytest.raises(InvalidInput, match="URL ends"):
        axon_client.install(web.put(path, b"x"))
    assert web.asked == []


def test_a_file_that_is_not_there_is_not_found(web, onnx):
    url = web.put("/m.onnx", onnx())
    web.files.clear()
    with pytest.raises(NotFound):
        axon_client.install(url)


def test_a_pickle_is_refused_with_the_reason(web, home):
    import pickle

    url = web.put("/model.pkl", pickle.dumps({"weights": [1]}))
    with pytest.raises(InvalidInput, match="pickle"):
        axon_client.install(url)
    assert Store(home).installed() == []


# --- archives, here and there ---------------------------------------------------------

WRITERS = {".tar.gz": tarred, ".tar.xz": lambda f: tarred(f, "xz"), ".zip": zipped}


@pytest.fixture(params=["a path", "a URL"])
def place(request, web, tmp_path):
    """Puts an archive somewhere; what to install it by."""

    def put(name, data):
        if request.param == "a URL":
            return web.put(f"/{name}", data)
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    return put


@pytest.mark.parametrize("suffix", WRITERS)
def test_an_archive_is_the_folder_that_it_was_made_from(place, onnx, suffix):
    inside = {
        "digits/model.onnx": onnx(),
        "digits/labels/en.txt": b"zero",
        "digits/.git/HEAD": b"ref",
        "__MACOSX/digits/._model.onnx": b"junk",
    }
    model = axon_client.install(place(f"digits{suffix}", WRITERS[suffix](inside)))
    assert paths(model) == ["labels/en.txt", "model.onnx"]
    assert model.spec.name.rpartition("/")[2] == "digits"


@pytest.mark.parametrize("suffix", WRITERS)
def test_an_archives_manifest_names_the_package(place, onnx, suffix):
    inside = {"manifest.yaml": IDENTITY, "model.onnx": onnx(), "config.json": b"{}"}
    model = axon_client.install(place(f"x{suffix}", WRITERS[suffix](inside)))
    assert str(model.spec) == "ada/digits@2.1"
    assert paths(model) == ["config.json", "model.onnx"]


def test_a_packed_package_is_installed_as_it_was(place, home, folder, tmp_path):
    (folder / "axon.yaml").write_bytes(IDENTITY)
    target = tmp_path / "digits.axon"
    assert cli.run(["pack", str(folder), "-o", str(target)]) == 0
    model = axon_client.install(place("other.axon", target.read_bytes()))
    assert str(model.spec) == "ada/digits@2.1"
    assert (model.path / "model.onnx").read_bytes() == (folder / "model.onnx").read_bytes()
    assert Store(home).verify(model) == []


def test_an_archive_with_a_file_that_is_not_the_listed_one_is_refused(place, onnx):
    digest = hashlib.sha256(b"something else").hexdigest()
    size = len(onnx())
    listed = f"spec: {{format: {{files: [{{path: m.onnx, size: {size}, sha256: {digest}}}]}}}}"
    inside = {"manifest.yaml": IDENTITY + listed.encode(), "m.onnx": onnx()}
    for name, data in {"a.axon": tarred(inside), "a.zip": zipped(inside)}.items():
        with pytest.raises(IntegrityError, match=r"m\.onnx"):
            axon_client.install(place(name, data))


@pytest.mark.parametrize("name", ["../evil.onnx", "/evil.onnx", "a/../../evil.onnx"])
@pytest.mark.parametrize("suffix", [".tar.gz", ".zip", ".axon"])
def test_an_archive_whose_names_leave_it_is_refused(place, onnx, home, tmp_path, name, suffix):
    inside = {"manifest.yaml": IDENTITY, name: onnx()}
    data = zipped(inside) if suffix == ".zip" else tarred(inside)
    with pytest.raises(IntegrityError):
        axon_client.install(place(f"a{suffix}", data))
    assert not list(tmp_path.rglob("evil.onnx"))


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip", ".axon"])
def test_what_is_no_archive_is_refused(place, suffix):
    with pytest.raises(MlosError) as caught:
        axon_client.install(place(f"a{suffix}", b"<html>not found</html>"))
    assert f"a{suffix}" in caught.value.message


def test_an_archive_with_two_manifests_or_no_model_is_refused(place, onnx):
    two = {"manifest.yaml": IDENTITY, "axon.yaml": IDENTITY, "m.onnx": onnx()}
    with pytest.raises(InvalidInput, match="both"):
        axon_client.install(place("two.zip", zipped(two)))
    with pytest.raises(InvalidInput, match="no model"):
        axon_client.install(place("none.zip", zipped({"a.txt": b"a"})))


# --- a source that another distribution adds ------------------------------------------

SOURCE = '''
import hashlib

from axon_client.adapters.base import Resolved, Version
from axon_client.describe import complete
from axon_client.manifest import Metadata, Spec, new


class Shelf:
    """Models that this distribution carries in its own code."""

    def resolve(self, spec):
        return Resolved(spec.at("1.0.0"), kind="shelf")

    def fetch(self, spec, found, stage, progress):
        (stage.scratch / "weights").write_bytes(bytes.fromhex("@MODEL@"))
        stage.adopt("model.onnx", stage.scratch / "weights")
        about = Metadata(found.package.name, found.package.namespace, found.package.version)
        return complete(new(about, Spec()), stage.files, progress, known=stage.known)

    def versions(self, spec):
        return [Version("1.0.0", tags=("latest",))]
'''


def distribution(folder, onnx, target="shelf_source:Shelf"):
    """Lay out an installed distribution with an entry point; the folder to put on the path."""
    info = folder / "shelf_source-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "shelf_source.py").write_text(SOURCE.replace("@MODEL@", onnx().hex()))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf-source\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[axon.sources]\nshelf = {target}\n")
    return folder


def axon(*arguments, path):
    """Run the command in a process that has `path` among its packages."""
    command = "import sys; from axon_client.cli import run; sys.exit(run(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", command, *arguments, "--json"],
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        check=False,
        timeout=60,
    )


def test_a_source_from_another_distribution_works_on_the_command_line(home, tmp_path, onnx):
    path = distribution(tmp_path / "site", onnx)
    result = axon("install", "shelf/digits@^1", path=path)
    assert result.returncode == 0, result.stderr
    (model,) = Store(home).installed()
    assert str(model.spec) == "shelf/digits@1.0.0"
    assert model.model_file().read_bytes() == onnx()
    assert axon("verify", "shelf/digits", path=path).returncode == 0


def test_a_source_that_does_not_load_is_named_and_stops_nothing_else(home, tmp_path, onnx, folder):
    path = distribution(tmp_path / "site", onnx, target="shelf_source:Missing")
    result = axon("install", "shelf/digits", path=path)
    assert result.returncode == 69
    error = json.loads(result.stdout)["error"]
    assert "shelf-source" in error["message"] or "shelf" in error["message"]
    assert axon("install", str(folder), path=path).returncode == 0
