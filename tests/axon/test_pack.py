# SPDX-License-Identifier: BUSL-1.1
import gzip
import hashlib
import io
import json
import tarfile

import pytest

from axon_client import manifest as manifests
from axon_client import pack
from axon_client.cli import run
from axon_client.errors import IntegrityError
from axon_client.installer import install
from axon_client.manifest import Format, Metadata, ModelFile, Spec
from axon_client.spec import PackageSpec, PathSpec
from mlos_core.errors import AlreadyExists, InvalidInput, NotFound

CONTENTS = {
    "model.onnx": b"weights" * 30_000,
    "a/labels.txt": b"",
    "é" * 60 + "/" + "n" * 90: b"long",
    "config.json": b"{}",
}


def listed(contents):
    return [
        ModelFile(path, len(data), hashlib.sha256(data).hexdigest())
        for path, data in contents.items()
    ]


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    for path, data in CONTENTS.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


@pytest.fixture
def manifest():
    return manifests.new(
        Metadata(name="org/digits", namespace="acme", version="1.2"),
        Spec(format=Format(files=listed(CONTENTS))),
    )


@pytest.fixture
def archive(tmp_path, source, manifest):
    pack.pack(manifest, source, tmp_path / "a.axon")
    return tmp_path / "a.axon"


def test_the_same_files_give_the_same_bytes_whatever_their_order_and_times(
    tmp_path, source, manifest, archive
):
    for path in CONTENTS:
        (source / path).touch()
        (source / path).chmod(0o600)
    order = list(reversed(manifest.spec.format.files))
    data = manifests.encode(manifest)
    again = b"".join(pack.packed(data, order, lambda f: (source / f.path).open("rb")))
    assert again == archive.read_bytes()


def test_the_bytes_are_those_of_every_version():
    data = b"x" * 70_000
    made = b"".join(pack.packed(b"m", [ModelFile("f", len(data), "")], lambda f: io.BytesIO(data)))
    digest = "06ffe75b2a3090f8f3b2a46bf2e3d3996248062ee3a72b785ced440cd5c18e96"
    assert hashlib.sha256(made).hexdigest() == digest


def test_the_size_is_known_beforehand(source, manifest, archive):
    data, files = manifests.encode(manifest), manifest.spec.format.files
    assert pack.packed_size(data, files) == archive.stat().st_size


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_the_size_is_right_where_the_last_block_is_just_full(extra):
    room = 0xFFFF * 3 - 1024 - 2 * 512 - 512
    for size in range(room + extra * 512 - 1, room + extra * 512 + 2):
        files = [ModelFile("f", size, "")]
        made = b"".join(pack.packed(b"m", files, lambda f: io.BytesIO(bytes(f.size))))
        assert len(made) == pack.packed_size(b"m", files)
        assert len(gzip.decompress(made)) % 512 == 0


def test_any_tar_reads_it(archive):
    with tarfile.open(archive) as opened:
        members = opened.getmembers()
        assert [m.name for m in members] == ["manifest.yaml", *sorted(CONTENTS)]
        assert {(m.mtime, m.uid, m.gid, m.mode, m.uname) for m in members} == {(0, 0, 0, 0o644, "")}
        assert opened.extractfile("model.onnx").read() == CONTENTS["model.onnx"]


def test_it_unpacks_to_the_same_files(tmp_path, archive, manifest, files_of):
    assert pack.unpack(archive, tmp_path / "out") == manifest
    assert files_of(tmp_path / "out") == sorted([*CONTENTS, "manifest.yaml"])
    for path, data in CONTENTS.items():
        assert (tmp_path / "out" / path).read_bytes() == data


def test_it_unpacks_into_an_empty_folder_only(tmp_path, archive):
    (tmp_path / "empty").mkdir()
    pack.unpack(archive, tmp_path / "empty")
    with pytest.raises(AlreadyExists):
        pack.unpack(archive, tmp_path / "empty")


def write(path, contents, mode="w:gz"):
    with tarfile.open(path, mode) as out:
        for name, data in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"config.json": b"[]"}, "config.json has 2 bytes"),
        ({"more.txt": b""}, "beside what its manifest lists"),
        ({"config.json": None}, "lacks 'config.json'"),
    ],
)
def test_what_differs_from_its_manifest_is_refused_and_leaves_nothing(
    tmp_path, manifest, change, reason, files_of
):
    contents = {"manifest.yaml": manifests.encode(manifest), **CONTENTS, **change}
    path = write(tmp_path / "b.axon", {k: v for k, v in contents.items() if v is not None})
    with pytest.raises(IntegrityError, match=reason):
        pack.unpack(path, tmp_path / "out")
    assert files_of(tmp_path) == ["b.axon"]


def test_archives_of_the_first_axon_are_read(tmp_path):
    text = (
        b"apiVersion: axon.mlos.io/v1\nkind: Model\nmetadata: {name: a, namespace: b, version: v1}"
    )
    path = write(tmp_path / "b.axon", {"./manifest.yaml": text, "./model.onnx": b"1"})
    assert pack.unpack(path, tmp_path / "out").title == "b/a@v1"
    assert (tmp_path / "out" / "model.onnx").read_bytes() == b"1"


def test_an_archive_without_a_manifest_is_no_package(tmp_path):
    with pytest.raises(InvalidInput, match="no axon package"):
        pack.unpack(write(tmp_path / "b.axon", {"a": b""}), tmp_path / "out")


def test_a_file_that_changed_since_its_manifest_was_written_is_not_packed(
    tmp_path, source, manifest
):
    (source / "config.json").write_bytes(b"{ }")
    with pytest.raises(IntegrityError, match=r"config\.json has another size"):
        pack.pack(manifest, source, tmp_path / "out.axon")
    assert not list(tmp_path.glob("*.axon*"))


def test_a_slash_in_a_name_is_written_as_the_first_axon_did():
    package = PackageSpec("hf", "org/model", "1.0")
    assert pack.file_name(package) == "hf-org--model-1.0.axon"


def test_a_folder_is_packed_unpacked_and_packed_to_the_same_bytes(
    folder, home, tmp_path, monkeypatch, capsys, files_of
):
    monkeypatch.chdir(tmp_path)
    assert run(["pack", "digits"]) == 0
    assert run(["unpack", "local-digits-0.0.0.axon", "again", "--json"]) == 0
    assert run(["pack", "again", "-o", "b.axon", "--json"]) == 0
    first, second = (tmp_path / name for name in ("local-digits-0.0.0.axon", "b.axon"))
    assert first.read_bytes() == second.read_bytes()
    assert "model.onnx" in files_of(tmp_path / "again")
    assert ".git/HEAD" not in files_of(tmp_path / "again")
    assert "packed local/digits@0.0.0" in capsys.readouterr().out


def test_an_installed_package_is_packed_by_its_name(folder, home, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    install(PathSpec(folder), home)
    assert run(["pack", "local/digits", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["file"] == "local-digits-0.0.0.axon"


def test_nothing_is_unpacked_over_what_is_there(folder, home, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["pack", "digits", "-o", "digits.axon"]) == 0
    assert run(["unpack", "digits.axon"]) == AlreadyExists.exit_code
    assert "not empty" in capsys.readouterr().err
    assert run(["unpack", "none.axon"]) == NotFound.exit_code


def test_what_was_packed_in_a_folder_is_no_part_of_the_folder(folder, home, monkeypatch):
    monkeypatch.chdir(folder)
    assert run(["pack"]) == 0
    first = (folder / "local-digits-0.0.0.axon").read_bytes()
    assert run(["pack"]) == 0
    assert (folder / "local-digits-0.0.0.axon").read_bytes() == first


def test_a_place_to_pack_or_unpack_to_that_cannot_be_is_named(
    folder, home, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert run(["pack", "digits", "-o", "no/such.axon"]) == NotFound.exit_code
    assert "there is no folder no" in capsys.readouterr().err
    (tmp_path / "notes.txt").write_text("no archive")
    assert run(["unpack", "notes.txt"]) == InvalidInput.exit_code
    assert "not called like an .axon archive" in capsys.readouterr().err
