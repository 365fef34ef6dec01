# SPDX-License-Identifier: BUSL-1.1
import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import axon_client
from axon_client.catalog import find, find_newest
from axon_client.lock import locked
from axon_client.models import InstalledModel
from axon_client.spec import PackageSpec
from axon_client.store import Store, default_home
from mlos_core.errors import AlreadyExists, DeadlineExceeded, InvalidInput, NotFound


@pytest.fixture
def put(tmp_path, home, onnx):
    """Install a package of the given files."""

    def put(name="a", version="1", files=None, **options):
        folder = tmp_path / "made"
        for path, data in {"model.onnx": onnx(), **(files or {})}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
        rename = PackageSpec("local", name, version)
        try:
            return axon_client.install(f"{folder}", rename=rename, **options)
        finally:
            subprocess.run(["rm", "-r", folder], check=True)

    return put


def blobs(store):
    return sorted(path.name for path in store.blobs.iterdir())


def test_a_model_is_links_to_blobs_and_a_manifest(put, store, files_of):
    model = put(files={"sub/config.json": b"{}"})
    assert model.path == store.home / "models" / "local" / "a" / "1"
    assert files_of(model.path) == ["manifest.yaml", "model.onnx", "sub/config.json"]
    for file in model.manifest.spec.format.files:
        assert (model.path / file.path).samefile(store.blobs / file.sha256)
        assert not (model.path / file.path).is_symlink()
    assert list((store.home / "staging").iterdir()) == []


def test_blobs_are_read_only(put, store):
    model = put()
    for path in (*store.blobs.iterdir(), model.path / "manifest.yaml"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_equal_files_are_kept_once(put, store):
    put("a", files={"b.json": b"{}", "c.json": b"{}"})
    put("b", files={"d.json": b"{}"})
    assert len(blobs(store)) == 2


def test_uninstalling_frees_what_no_other_model_uses(put, store, onnx):
    first = put("a", files={"own.json": b"mine"})
    second = put("b")
    freed = store.uninstall(first)
    assert (freed.blobs, freed.bytes) == (1, 4)
    assert (second.path / "model.onnx").read_bytes() == onnx()
    assert store.verify(second) == []
    store.uninstall(second)
    assert blobs(store) == []
    assert list(store.models.iterdir()) == []


def test_uninstalling_twice_says_so(put, store):
    model = put()
    store.uninstall(model)
    with pytest.raises(NotFound, match="not installed"):
        store.uninstall(model)


def test_a_model_can_be_removed_from_a_disk_that_is_full(put, store, monkeypatch):
    model = put()

    def mkdir(path, mode=0o777):
        raise OSError(errno.EEXIST if Path(path).exists() else errno.ENOSPC, "no", str(path))

    monkeypatch.setattr(os, "mkdir", mkdir)
    store.uninstall(model)
    assert blobs(store) == []


def test_a_model_with_a_damaged_manifest_keeps_its_files(put, store):
    damaged, other = put("a", files={"own.json": b"mine"}), put("b")
    (damaged.path / "manifest.yaml").unlink()
    (damaged.path / "manifest.yaml").write_text("?")
    store.uninstall(other)
    assert (damaged.path / "own.json").read_bytes() == b"mine"
    assert len(blobs(store)) == 2
    store.uninstall(find("a", store.installed()))
    assert blobs(store) == []


def test_a_file_that_is_gone_keeps_its_blob_for_the_repair(put, store):
    model, other = put("a", files={"own.json": b"mine"}), put("b")
    (model.path / "own.json").unlink()
    store.uninstall(other)
    assert len(blobs(store)) == 2


def test_installing_the_same_again_changes_nothing(put):
    first = put()
    before = (first.path / "manifest.yaml").stat()
    assert (put().path / "manifest.yaml").stat().st_ino == before.st_ino


def test_other_files_under_the_same_version_are_refused(put, store):
    model = put()
    with pytest.raises(AlreadyExists, match="local/a@1") as caught:
        put(files={"new.json": b"{}"})
    assert "--replace" in caught.value.hint
    assert store.verify(model) == []
    assert len(blobs(store)) == 1


def test_replacing_swaps_the_files_and_frees_the_old(put, store, files_of):
    put(files={"old.json": b"old"})
    model = put(files={"new.json": b"new"}, replace=True)
    assert files_of(model.path) == ["manifest.yaml", "model.onnx", "new.json"]
    assert len(blobs(store)) == 2


def damage(model, how):
    file = model.path / "model.onnx"
    if how == "scribbled":
        file.chmod(0o644)
        file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    elif how == "gone":
        file.unlink()
    elif how == "manifest":
        (model.path / "manifest.yaml").unlink()
    elif how == "blob":
        for blob in (model.path.parents[3] / "blobs" / "sha256").iterdir():
            blob.unlink()


@pytest.mark.parametrize("how", ["scribbled", "gone", "manifest", "blob"])
def test_installing_again_heals_a_damaged_model(put, store, how):
    damage(put(), how)
    assert store.verify(find("a", store.installed())) != []
    healed = put()
    assert store.verify(healed) == []


def test_no_model_lies_inside_another(put):
    put("a/b", "1")
    with pytest.raises(AlreadyExists, match="mix"):
        put("a", "b")
    with pytest.raises(AlreadyExists, match="mix"):
        put("a/b/1", "2")
    assert put("a/b", "2").path.name == "2"


def test_where_hard_links_fail_symbolic_ones_are_made(put, store, monkeypatch):
    def refuse(self, target):
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    first, second = put("a", files={"own.json": b"mine"}), put("b")
    assert (first.path / "model.onnx").is_symlink()
    assert store.verify(first) == []
    (first.path / "manifest.yaml").unlink()
    store.uninstall(second)
    assert len(blobs(store)) == 2
    store.uninstall(find("a", store.installed()))
    assert blobs(store) == []


def test_threads_that_install_the_same_agree(put, store, folder):
    found, errors = [], []

    def work():
        try:
            found.append(axon_client.install(str(folder)).path)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(set(found)) == 1
    assert store.verify(find("digits", store.installed())) == []
    assert list((store.home / "staging").iterdir()) == []


WORK = """
import sys, axon_client
from axon_client.spec import PackageSpec
folder, mine = sys.argv[1], PackageSpec("local", "p" + sys.argv[2], "1")
for _ in range(5):
    model = axon_client.install(folder, rename=mine)
    assert model.path.joinpath("model.onnx").is_file()
    axon_client.Store().uninstall(model)
axon_client.install(folder, rename=mine)
"""


def test_what_another_process_removes_at_once_was_installed(put, store, monkeypatch):
    commit = Store.commit

    def commit_and_lose(self, *arguments, **named):
        model = commit(self, *arguments, **named)
        Store().uninstall(model)
        return model

    monkeypatch.setattr(Store, "commit", commit_and_lose)
    assert put().manifest.title == "local/a@1"
    assert store.installed() == []


def test_processes_that_install_and_remove_at_once_lose_nothing(store, folder):
    workers = [
        subprocess.Popen([sys.executable, "-c", WORK, str(folder), str(n)]) for n in range(4)
    ]
    assert [worker.wait(timeout=100) for worker in workers] == [0] * 4
    installed = store.installed()
    assert [model.spec.name for model in installed] == ["p0", "p1", "p2", "p3"]
    assert all(store.verify(model) == [] for model in installed)
    assert len(blobs(store)) == 3


STAGE = """
import sys, axon_client
with axon_client.Store().stage() as stage:
    (stage.files / "half").write_bytes(b"x")
    print(stage.path, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_installation_leaves_goes_with_the_next(put, store):
    with subprocess.Popen(
        [sys.executable, "-c", STAGE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        left = Path(process.stdout.readline().strip())
        put("a")
        assert left.is_dir(), "it still runs"
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
    assert left.is_dir()
    put("b")
    assert not left.exists()


def test_an_installation_that_fails_leaves_nothing(store, tmp_path, files_of):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match="no model"):
        axon_client.install(str(tmp_path / "empty"))
    assert files_of(store.home) == ["lock"]


def test_a_lock_that_is_held_too_long_is_an_error(home):
    store = Store(home, lock_timeout_s=0)
    home.mkdir(parents=True)
    with (
        locked(home / "lock", 0),
        pytest.raises(DeadlineExceeded, match="another axon"),
        store.stage(),
    ):
        pass


def test_the_home_is_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("AXON_HOME", "~/elsewhere")
    monkeypatch.setenv("HOME", "/home/ada")
    assert default_home() == Path("/home/ada/elsewhere")
    monkeypatch.delenv("AXON_HOME")
    assert default_home() == Path("/home/ada/.axon")


def test_a_store_that_cannot_be_written_is_named(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput) as caught:
        axon_client.install(str(folder), home=tmp_path / "file" / "axon")
    assert str(tmp_path / "file") in caught.value.message
    assert "AXON_HOME" in caught.value.hint


def test_verify_names_each_damaged_missing_and_extra_file(put, store):
    model = put(files={"a.json": b"aa", "b.json": b"bb", "c.json": b"cc", "d.json": b"dd"})
    for name in ("a.json", "b.json", "c.json"):
        (model.path / name).unlink()
    (model.path / "a.json").write_bytes(b"AA")
    (model.path / "b.json").write_bytes(b"longer")
    (model.path / "new.txt").write_bytes(b"")
    (model.path / "link").symlink_to("/")
    found = {(problem.path, problem.kind) for problem in store.verify(model)}
    assert found == {
        ("a.json", "damaged"),
        ("b.json", "damaged"),
        ("c.json", "missing"),
        ("new.txt", "extra"),
        ("link", "extra"),
    }


def test_verify_finds_one_changed_bit_in_a_shared_file_in_every_model(put, store):
    first, second = put("a"), put("b")
    damage(first, "scribbled")
    assert [p.path for p in store.verify(second) if p.kind == "damaged"] == ["model.onnx"]


def test_verify_does_not_wait_for_a_pipe_in_a_files_place(put, store):
    model = put()
    (model.path / "model.onnx").unlink()
    os.mkfifo(model.path / "model.onnx")
    (problem,) = store.verify(model)
    assert (problem.path, problem.kind) == ("model.onnx", "damaged")


def test_verify_finds_a_manifest_of_another_model(put, store):
    first, second = put("a"), put("b")
    (first.path / "manifest.yaml").unlink()
    (first.path / "manifest.yaml").write_bytes((second.path / "manifest.yaml").read_bytes())
    (problem,) = store.verify(find("a", store.installed()))
    assert problem.kind == "manifest"
    assert "local/b@1" in problem.detail


def test_a_model_is_found_by_any_part_of_its_name_that_is_enough(put, store):
    put("a", "1")
    put("a", "2")
    put("org/deep", "1")
    installed = store.installed()
    for text in ("local/a@2", "a@2"):
        assert str(find(text, installed).spec) == "local/a@2"
    for text in ("org/deep", "local/org/deep", "org/deep@1", "local/org/deep@1"):
        assert str(find(text, installed).spec) == "local/org/deep@1"
    with pytest.raises(InvalidInput) as caught:
        find("a", installed)
    assert "local/a@1, local/a@2" in caught.value.hint


def test_a_near_miss_is_suggested(put, store):
    put("magika", "1.0.3")
    for text in ("magica", "local/magica", "local/magika@1.0.4", "pypi/magika"):
        with pytest.raises(NotFound) as caught:
            find(text, store.installed())
        assert "local/magika@1.0.3" in caught.value.hint


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        (["1.9.0", "1.10.0"], "1.10.0"),
        (["1.9.0", "2.0.0-rc.1"], "1.9.0"),
        (["2.0.0-rc.1", "2.0.0-rc.2"], "2.0.0-rc.2"),
        (["0.0.0+aaaa", "1.0.0"], "1.0.0"),
        (["main", "1.0.0"], "1.0.0"),
        (["main"], "main"),
    ],
)
def test_a_package_without_a_version_is_its_highest_one(tmp_path, versions, expected):
    models = [InstalledModel(PackageSpec("a", "m", v), tmp_path) for v in versions]
    assert find_newest("m", models).spec.version == expected
    assert find_newest(f"a/m@{versions[0]}", models).spec.version == versions[0]


@pytest.mark.parametrize(
    "specs", [[("a", "1.0"), ("b", "2.0")], [("a", "0.0.0+aaaa"), ("a", "0.0.0+bbbb")]]
)
def test_what_no_order_tells_apart_has_to_be_named(tmp_path, specs):
    models = [InstalledModel(PackageSpec(ns, "m", version), tmp_path) for ns, version in specs]
    with pytest.raises(InvalidInput, match="several"):
        find_newest("m", models)
