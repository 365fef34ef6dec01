# SPDX-License-Identifier: BUSL-1.1
"""A store of its own for each test, and makers of tiny ONNX files, wheels and indexes."""

import base64
import csv
import hashlib
import io
import os
import subprocess
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path

import pytest
from pip_at_hand import Pip

from axon_client.adapters import pip
from axon_client.cli import run
from axon_client.store import Store

FLOAT, INT64, STRING = 1, 7, 8


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty store's folder, which AXON_HOME names."""
    path = tmp_path / "axon home"
    monkeypatch.setenv("AXON_HOME", str(path))
    return path


@pytest.fixture
def store(home):
    return Store(home)


@pytest.fixture
def axon(home, capsys):
    """Run a command; gives exit code, standard output and standard error."""

    def axon(*arguments):
        code = run(list(map(str, arguments)))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return axon


@pytest.fixture
def leave():
    """Leave a blob in a store that no model has, as an installation that was killed does."""

    def leave(store, path):
        with store.stage() as stage:
            digest = stage.adopt("left", path).sha256
            store.content.leases.take(digest)
        return digest

    return leave


def _varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _number(field, value):
    return _varint(field << 3) + _varint(value)


def _bytes(field, data):
    data = data.encode() if isinstance(data, str) else data
    return _varint(field << 3 | 2) + _varint(len(data)) + data


def _value(name, dtype, shape):
    dims = b"" if shape is None else _bytes(2, b"".join(map(_dim, shape)))
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, dtype) + dims))


def _dim(size):
    return _bytes(1, _bytes(2, size) if isinstance(size, str) else _number(1, size))


def _initializer(name, location):
    data = _bytes(8, name) + _bytes(9, b"\0" * 64)
    if location:
        data += _bytes(13, _bytes(1, "location") + _bytes(2, location)) + _number(14, 1)
    return data


def make_onnx(inputs=None, outputs=None, weights=(), external=None, extra=b""):
    """The bytes of an ONNX file. `inputs`, `outputs`: {name: (dtype number, shape)}."""
    graph = _bytes(1, _bytes(4, "Identity")) + _bytes(2, "graph")
    for name in weights:
        graph += _bytes(5, _initializer(name, ""))
    for name, location in (external or {}).items():
        graph += _bytes(5, _initializer(name, location))
    for name, (dtype, shape) in (inputs or {"x": (FLOAT, ["batch", 4])}).items():
        graph += _bytes(11, _value(name, dtype, shape))
    for name, (dtype, shape) in (outputs or {"y": (FLOAT, ["batch", 2])}).items():
        graph += _bytes(12, _value(name, dtype, shape))
    opset = _bytes(8, _number(2, 17))
    return _number(1, 8) + _bytes(2, "tests") + _bytes(7, graph) + opset + extra


@pytest.fixture
def onnx():
    return make_onnx


def make_wheel(folder, name, files, version="1.0", tag="py3-none-any", record=None, metadata=""):
    """Write a wheel with `files`; `record` changes RECORD's rows ({path: digest or None})."""
    plain = name.replace("-", "_")
    info = f"{plain}-{version}.dist-info"
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: A test\n{metadata}"
    everything = {
        **files,
        f"{info}/METADATA": about.encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
    }
    rows = {path: _record_digest(data) for path, data in everything.items()} | (record or {})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows((path, digest, "") for path, digest in rows.items() if digest is not None)
    writer.writerow((f"{info}/RECORD", "", ""))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{plain}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, data in everything.items():
            archive.writestr(entry, data)
        archive.writestr(f"{info}/RECORD", text.getvalue())
    return path


def _record_digest(data):
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def make_sdist(folder, name, files, version="1.0"):
    """Write a source archive of the old kind: building it runs its setup.py."""
    top = f"{name.replace('-', '_')}-{version}"
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{top}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for entry, data in {"PKG-INFO": about, **files}.items():
            member = tarfile.TarInfo(f"{top}/{entry}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


class Index:
    """A package index on disk, which pip is told to use instead of any other."""

    def __init__(self, root):
        self.root = root
        self.files = root / "files"

    def wheel(self, name, files, digest=None, **options):
        return self.add(name, make_wheel(self.files, name, files, **options), digest)

    def sdist(self, name, files, digest=None, **options):
        return self.add(name, make_sdist(self.files, name, files, **options), digest)

    def add(self, name, path, digest=None):
        page = self.root / "simple" / name / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        digest = digest or hashlib.sha256(path.read_bytes()).hexdigest()
        with page.open("a") as file:
            file.write(f'<a href="{path.as_uri()}#sha256={digest}">{path.name}</a><br/>\n')
        return path


@pytest.fixture(scope="session")
def pip_at_hand():
    with closing(Pip()) as started:
        yield started


@pytest.fixture
def index(tmp_path, monkeypatch, pip_at_hand):
    """An empty index; pip, which is asked for it, is forked and not started each time."""
    monkeypatch.setattr(pip, "subprocess", pip_at_hand)
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    index = Index(tmp_path / "index")
    index.files.mkdir(parents=True)
    (index.root / "simple").mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", (index.root / "simple").as_uri())
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "cache"))
    return index


@pytest.fixture
def started_pip(index, monkeypatch):
    """pip as axon starts it outside tests: a new Python each time."""
    monkeypatch.setattr(pip, "subprocess", subprocess)


@pytest.fixture
def folder(tmp_path, onnx):
    """A folder with a model, its configuration, and things that are not part of it."""
    path = tmp_path / "digits"
    (path / "labels").mkdir(parents=True)
    (path / "model.onnx").write_bytes(onnx())
    (path / "config.json").write_text("{}")
    (path / "labels" / "en.txt").write_text("zero\none\n")
    (path / ".git").mkdir()
    (path / ".git" / "HEAD").write_text("ref")
    return path


def tree(folder):
    """Relative paths of all files below `folder`."""
    return sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file())


@pytest.fixture
def files_of():
    return tree
