# SPDX-License-Identifier: BUSL-1.1
"""The real pip against an index on disk: no network."""

import hashlib

import pytest

import axon_client
from axon_client.adapters import pip
from axon_client.adapters.pypi import choose_files
from axon_client.errors import IntegrityError
from mlos_core.errors import DeadlineExceeded, InvalidInput, NotFound, Unavailable


@pytest.fixture
def files(onnx):
    return {
        "tiny/__init__.py": b"raise SystemExit('imported')",
        "tiny/data/tiny_net.onnx": onnx(),
        "tiny/data/tiny_net_half.onnx": onnx(inputs={"half": (10, [1])}),
        "tiny/data/config.json": b"{}",
        "tiny/data/sub/vocab.txt": b"a\nb\n",
        "tiny/other.json": b"{}",
    }


METADATA = """Summary: Digits
License-Expression: MIT
Author-email: Ada <ada@example.org>
Project-URL: Homepage, https://example.org
Keywords: a,b
"""


@pytest.mark.usefixtures("started_pip")
def test_a_wheels_models_are_installed_with_their_companions(home, index, files, files_of):
    wheel = index.wheel("tiny-net", files, metadata=METADATA)
    model = axon_client.install("pypi/Tiny_Net")
    assert str(model.spec) == "pypi/tiny-net@1.0"
    assert files_of(model.path) == [
        "config.json",
        "manifest.yaml",
        "sub/vocab.txt",
        "tiny_net.onnx",
        "tiny_net_half.onnx",
    ]
    assert model.model_file() == model.path / "tiny_net.onnx"
    assert [spec.name for spec in model.manifest.spec.io.inputs] == ["x"]
    about = model.manifest.metadata
    assert (about.description, about.license, about.authors[0].name) == ("A test", "MIT", "Ada")
    package = model.manifest.distribution.package
    assert package.sha256 == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert package.url == wheel.as_uri()


def test_an_installed_version_is_returned_without_a_question(home, index, files, monkeypatch):
    index.wheel("tiny-net", files)
    first = axon_client.install("pypi/tiny-net")

    def ask(*arguments, **options):
        raise AssertionError("pip was run")

    monkeypatch.setattr(pip, "run_python", ask)
    assert axon_client.install("pypi/tiny-net@1.0").path == first.path


def test_the_version_that_is_asked_for_is_installed(home, index, files):
    index.wheel("tiny-net", files, version="1.0")
    index.wheel("tiny-net", files, version="2.0")
    assert axon_client.install("pypi/tiny-net@1.0").spec.version == "1.0"
    assert axon_client.install("pypi/tiny-net@latest").spec.version == "2.0"


@pytest.mark.usefixtures("started_pip")
def test_an_unknown_version_names_those_there_are(home, index, files):
    index.wheel("tiny-net", files)
    with pytest.raises(NotFound) as caught:
        axon_client.install("pypi/tiny-net@9")
    assert "1.0" in caught.value.hint


def test_an_unknown_distribution_is_not_found(home, index):
    with pytest.raises(NotFound, match="no-such-net"):
        axon_client.install("pypi/no-such-net")


def test_a_wheel_with_another_digest_than_the_index_states_is_refused(home, index, files, store):
    index.wheel("tiny-net", files, digest="0" * 64)
    with pytest.raises(IntegrityError, match="index states"):
        axon_client.install("pypi/tiny-net")
    assert store.installed() == []


def test_a_file_that_is_not_the_one_in_record_is_refused(home, index, files, store):
    wrong = {"tiny/data/tiny_net.onnx": "sha256=" + "A" * 43}
    index.wheel("tiny-net", files, record=wrong)
    with pytest.raises(IntegrityError, match="RECORD"):
        axon_client.install("pypi/tiny-net")
    assert store.installed() == []


@pytest.mark.parametrize("digest", [None, "md5=1234", "sha256=?"])
def test_a_file_without_a_good_digest_in_record_is_refused(home, index, files, digest):
    index.wheel("tiny-net", files, record={"tiny/data/tiny_net.onnx": digest})
    with pytest.raises(IntegrityError):
        axon_client.install("pypi/tiny-net")


def test_a_wheel_with_a_path_that_leads_out_is_refused(home, index, files, store, tmp_path):
    index.wheel("tiny-net", {**files, "../../evil.onnx": b"1"})
    with pytest.raises(IntegrityError, match="evil"):
        axon_client.install("pypi/tiny-net")
    assert store.installed() == []
    assert list(tmp_path.rglob("evil.onnx")) == []


def test_a_distribution_without_a_model_is_refused(home, index):
    index.wheel("tiny-net", {"tiny/__init__.py": b""})
    with pytest.raises(InvalidInput, match="no model"):
        axon_client.install("pypi/tiny-net")


def test_a_pickled_checkpoint_is_no_model(home, index):
    index.wheel("tiny-net", {"tiny/model.pt": b"\x80\x02."})
    with pytest.raises(InvalidInput, match="pickled"):
        axon_client.install("pypi/tiny-net")


def test_external_weights_come_along_whatever_they_are_called(home, index, onnx):
    index.wheel("tiny-net", {"t/m.onnx": onnx(external={"w": "m.weights"}), "t/m.weights": b"12"})
    model = axon_client.install("pypi/tiny-net")
    assert (model.path / "m.weights").read_bytes() == b"12"


def test_a_file_called_like_the_manifest_keeps_its_folder(home, index, onnx):
    index.wheel("tiny-net", {"t/m/x.onnx": onnx(), "t/m/manifest.yaml": b"a: 1"})
    model = axon_client.install("pypi/tiny-net")
    assert (model.path / "m" / "manifest.yaml").read_bytes() == b"a: 1"
    assert model.model_file() == model.path / "m" / "x.onnx"


@pytest.mark.usefixtures("started_pip")
def test_a_source_archive_is_taken_without_running_its_code(home, index, onnx, tmp_path):
    ran = tmp_path / "ran"
    setup = f"open({str(ran)!r}, 'w'); from setuptools import setup; setup()".encode()
    index.sdist("old-net", {"setup.py": setup, "old/m.onnx": onnx(), "old/labels.txt": b"a"})
    model = axon_client.install("pypi/old-net")
    assert str(model.spec) == "pypi/old-net@1.0"
    assert [file.path for file in model.manifest.spec.format.files] == ["labels.txt", "m.onnx"]
    assert not ran.exists()


def test_a_source_archive_with_another_digest_is_refused(home, index, onnx):
    index.sdist("old-net", {"old/m.onnx": onnx()}, digest="0" * 64)
    with pytest.raises(IntegrityError, match="the index says 000"):
        axon_client.install("pypi/old-net")


def test_an_index_without_digests_is_not_trusted_with_source_archives(home, index, onnx):
    index.sdist("old-net", {"old/m.onnx": onnx()})
    page = index.root / "simple" / "old-net" / "index.html"
    page.write_text(page.read_text().replace("#sha256=", "#other="))
    with pytest.raises(IntegrityError, match="states no sha256"):
        axon_client.install("pypi/old-net")


@pytest.mark.usefixtures("started_pip")
def test_a_pip_module_in_the_current_folder_does_not_run(home, index, files, tmp_path, monkeypatch):
    index.wheel("tiny-net", files)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "pip.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(tmp_path / "here")
    assert axon_client.install("pypi/tiny-net").spec.name == "tiny-net"


def test_progress_covers_unpacking(home, index, files):
    index.wheel("tiny-net", files)
    steps = []
    axon_client.install("pypi/tiny-net", progress=lambda *step: steps.append(step))
    (done, total) = [step[1:] for step in steps if step[0] == "unpack"][-1]
    assert done == total > 0


def test_pips_progress_lines_are_not_output():
    steps = []
    script = "print('Progress 1 of 4'); print('{}'); print('Progress 4 of 4')"
    output = pip.run_python(["-c", script], timeout_s=60, watch=lambda *step: steps.append(step))
    assert output == b"{}\n"
    assert steps == [(1, 4), (4, 4)]


def test_a_pip_that_hangs_is_ended():
    with pytest.raises(DeadlineExceeded):
        pip.run_python(["-c", "import threading; threading.Event().wait()"], timeout_s=0.2)


@pytest.mark.parametrize(
    ("errors", "kind", "words"),
    [
        ("ERROR: No matching distribution found for a==1", Unavailable, "a==1"),
        (
            "ERROR: Could not find a version (from versions: 1.0, 2.0)\nERROR: No match for a",
            NotFound,
            "1.0, 2.0",
        ),
        ("ERROR: Could not find a version (from versions: none)", NotFound, "spelling"),
        (
            "WARNING: Retrying (Retry(total=4)) after connection broken by 'X'\nERROR: No match",
            Unavailable,
            "reached",
        ),
        ("Traceback:\nOSError: boom", Unavailable, "boom"),
        ("", Unavailable, "pip failed"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", IntegrityError, "digest"),
    ],
)
def test_pips_messages_become_typed_errors(errors, kind, words):
    error = pip.explain(errors)
    assert type(error) is kind
    assert words in str(error)


def test_companions_of_a_model_in_the_top_folder_are_only_those_beside_it():
    names = ["m.onnx", "labels.txt", "pkg/data.json", "a-1.dist-info/top_level.txt"]
    assert list(choose_files(names, "")) == ["m.onnx", "labels.txt"]
