# SPDX-License-Identifier: BUSL-1.1
"""Blobs: how they come in, who keeps them, and what goes."""

import errno
import hashlib
import os
import stat
import threading
import time
from pathlib import Path

import pytest

from axon_client import net
from axon_client.adapters.base import RemoteFile
from axon_client.errors import IntegrityError
from axon_client.net import Downloaded
from axon_client.seals import is_sealed, seal
from axon_client.spec import PackageSpec
from axon_client.store import Store, disk
from axon_client.store import partial as partials
from axon_client.store.waiting import Wait
from mlos_core.errors import DeadlineExceeded, InvalidInput

DATA = b"weights" * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()
SIZE = len(DATA)
GIT = hashlib.sha1(b"blob %d\0" % len(DATA) + DATA).hexdigest()


@pytest.fixture
def origin(monkeypatch):
    """Takes the place of the network; notes what was fetched."""
    fetched = []

    def download(target, file, progress, options=None):
        fetched.append(file.path)
        target.write_bytes(DATA)
        return Downloaded(len(DATA), DIGEST)

    monkeypatch.setattr(net, "download", download)
    return fetched


def remote(path="model.bin", size=SIZE, sha256=DIGEST, git_sha1=""):
    return RemoteFile(path, ("http://origin/model.bin",), size, sha256, git_sha1)


def digests(store):
    return sorted(path.name for path in store.blobs.iterdir())


def age(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_a_file_is_fetched_once_and_is_a_sealed_blob_at_once(store, origin):
    with store.stage() as stage:
        made = stage.obtain(remote("a/one.bin"))
        assert (made.path, made.size, made.sha256) == ("a/one.bin", len(DATA), DIGEST)
        blob = store.blob(DIGEST)
        assert (stage.files / "a" / "one.bin").samefile(blob)
        assert stat.S_IMODE(blob.stat().st_mode) == 0o444
        assert is_sealed(blob.stat(), DIGEST)
        stage.obtain(remote("two.bin"))
        assert stage.known.keys() == {"a/one.bin", "two.bin"}
    assert origin == ["a/one.bin"]
    assert list((store.home / "partial").iterdir()) == []


def test_a_file_known_by_its_git_name_is_fetched_once(store, origin):
    with store.stage() as stage:
        stage.obtain(remote(sha256="", git_sha1=GIT))
    with store.stage() as stage:
        assert stage.obtain(remote(sha256="", git_sha1=GIT)).sha256 == DIGEST
    assert len(origin) == 1


def test_a_file_that_nobody_names_is_fetched_every_time(store, origin):
    for _ in range(2):
        with store.stage() as stage:
            assert stage.obtain(remote(sha256="", size=-1)).sha256 == DIGEST
    assert len(origin) == 2


def test_what_comes_must_have_the_digest_that_was_promised(store, origin):
    with store.stage() as stage, pytest.raises(IntegrityError, match="not 0000"):
        stage.obtain(remote(sha256="0" * 64))
    assert digests(store) == []


def test_a_source_that_lies_about_the_size_of_what_is_here_is_refused(store, origin, leave):
    leave(store, path_of(store))
    with store.stage() as stage, pytest.raises(IntegrityError, match="said to have 1 bytes"):
        stage.obtain(remote(size=1))
    assert origin == []


def path_of(store):
    path = store.home.parent / "source.bin"
    path.write_bytes(DATA)
    return path


@pytest.mark.parametrize("path", ["../up", "/etc/passwd", "a/../b", "", "a\\b"])
def test_a_path_that_leads_out_of_the_package_is_refused(store, origin, path):
    with store.stage() as stage, pytest.raises(IntegrityError):
        stage.obtain(remote(path))
    assert origin == []


def test_a_path_that_comes_twice_is_refused(store, origin):
    with store.stage() as stage:
        stage.obtain(remote())
        with pytest.raises(InvalidInput, match="twice"):
            stage.obtain(remote())


def test_threads_of_one_installation_share_its_stage(store, origin):
    with store.stage() as stage:
        threads = [
            threading.Thread(target=stage.obtain, args=(remote(f"{n}.bin"),)) for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(stage.known) == 8
    assert len(origin) == 1


def test_of_two_that_bring_the_same_both_link_to_the_blob(store, home, tmp_path, monkeypatch):
    (tmp_path / "weights").write_bytes(DATA)
    made, refused = [], []

    with store.stage() as first, Store(home, lock_timeout_s=0).stage() as second:

        def meanwhile(path, digest):
            """The other one comes just before the first has moved its file to the blobs."""
            seal(path, digest)
            if not made:
                made.append(path)
                try:
                    second.adopt("b", tmp_path / "weights")
                except DeadlineExceeded:
                    refused.append(path)

        monkeypatch.setattr("axon_client.store.blobs.seal", meanwhile)
        first.adopt("a", tmp_path / "weights")
        if refused:
            second.adopt("b", tmp_path / "weights")
        for link in (first.files / "a", second.files / "b"):
            assert link.samefile(store.blobs / DIGEST)


def test_what_was_fetched_for_an_installation_that_failed_is_there_for_the_next(store, origin):
    def fail():
        with store.stage() as stage:
            stage.obtain(remote())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    store.gc()
    with store.stage() as stage:
        stage.obtain(remote())
    assert len(origin) == 1


def test_what_was_fetched_in_vain_goes_after_a_day(store, origin):
    with store.stage() as stage:
        stage.obtain(remote())
    age(store.home / "leases" / DIGEST, 86399)
    assert store.gc().blobs == 0
    age(store.home / "leases" / DIGEST, 86401)
    assert store.gc(dry_run=True).blobs == 1
    assert digests(store) == [DIGEST]
    assert store.gc().bytes == len(DATA)
    assert digests(store) == []
    assert list((store.home / "leases").iterdir()) == []


def test_what_is_from_the_future_does_not_last_until_then(store, origin):
    with store.stage() as stage:
        stage.obtain(remote())
    unfinished = store.home / "partial" / "url-x"
    unfinished.write_bytes(b"half")
    age(store.home / "leases" / DIGEST, -30 * 86400)
    age(unfinished, -30 * 86400)
    freed = store.gc()
    assert (freed.blobs, freed.partials) == (1, 1)


def test_an_unfinished_download_from_a_moment_ahead_goes_when_everything_does(store):
    with store.stage():
        pass
    unfinished = store.home / "partial" / "url-x"
    unfinished.write_bytes(b"half")
    age(unfinished, -60)
    assert store.gc().partials == 0
    assert store.gc(everything=True).partials == 1


def test_cleaning_does_not_wait_but_takes_nothing_that_is_staged(store, origin):
    with store.stage() as stage:
        stage.obtain(remote())
        store.gc(everything=True)
        assert (stage.files / "model.bin").read_bytes() == DATA
        assert digests(store) == [DIGEST]
    store.gc(everything=True)
    assert digests(store) == []


def test_a_git_name_goes_with_its_blob(store, origin):
    with store.stage() as stage:
        stage.obtain(remote(sha256="", git_sha1=GIT))
    store.gc(everything=True)
    assert list((store.home / "names").iterdir()) == []


def test_a_blob_that_somebody_wrote_to_is_fetched_again(store, origin):
    with store.stage() as stage:
        stage.obtain(remote())
    blob = store.blob(DIGEST)
    blob.chmod(0o600)
    blob.write_bytes(b"x" * len(DATA))
    with store.stage() as stage:
        stage.obtain(remote())
        assert (stage.files / "model.bin").read_bytes() == DATA
    assert len(origin) == 2


def test_bits_that_rot_are_found_by_who_does_not_trust(store, origin):
    with store.stage() as stage:
        stage.obtain(remote())
    blob = store.blob(DIGEST)
    times = blob.stat()
    blob.chmod(0o600)
    blob.write_bytes(b"x" * len(DATA))
    os.utime(blob, ns=(times.st_atime_ns, times.st_mtime_ns))
    with store.stage(distrust=True) as stage:
        stage.obtain(remote())
        assert (stage.files / "model.bin").read_bytes() == DATA
    assert len(origin) == 2


def test_a_touched_blob_is_read_and_sealed_again(store, origin):
    with store.stage() as stage:
        stage.obtain(remote())
    os.utime(store.blob(DIGEST), (0, 0))
    with store.stage() as stage:
        stage.obtain(remote())
    assert is_sealed(store.blob(DIGEST).stat(), DIGEST)
    assert len(origin) == 1


def test_a_users_file_is_copied_and_never_linked(store):
    source = path_of(store)
    with store.stage() as stage:
        made = stage.adopt("mine.bin", source)
        assert made.sha256 == DIGEST
        assert not source.samefile(stage.files / "mine.bin")
        source.write_bytes(b"changed")
        assert (stage.files / "mine.bin").read_bytes() == DATA


def test_a_users_file_is_cloned_where_the_file_system_can(store, monkeypatch):
    source, calls = path_of(store), []

    def clone(original, target):
        calls.append(original.name)
        target.write(original.read())
        target.flush()
        return True

    monkeypatch.setattr(disk, "clone", clone)
    with store.stage() as stage:
        assert stage.adopt("mine.bin", source).sha256 == DIGEST
    assert calls == [str(source)]


def test_cloning_is_tried_and_copying_follows(store):
    with path_of(store).open("rb") as source, (store.home.parent / "t").open("xb") as target:
        assert disk.clone(source, target) in (True, False)
    with (store.home.parent / "t").open("rb") as closed, Path(os.devnull).open("wb") as target:
        assert not disk.clone(closed, target)


def test_adopting_compares_with_a_digest_that_is_given(store):
    source = path_of(store)
    with store.stage() as stage:
        with pytest.raises(IntegrityError, match=DIGEST):
            stage.adopt("mine.bin", source, sha256="0" * 64)
        with pytest.raises(InvalidInput, match="regular"):
            stage.adopt("folder", source.parent)


@pytest.mark.parametrize("digest", ["", "x" * 64, "A" * 64, "../" + "a" * 61, "a" * 65])
def test_what_is_no_digest_names_no_blob(store, digest):
    with pytest.raises(InvalidInput):
        store.blob(digest)


def test_an_archive_is_no_part_of_the_package_and_goes_when_it_is_committed(store, origin):
    with store.stage() as stage:
        path = stage.fetch(remote("archive.whl"))
        assert path == stage.scratch / "archive.whl"
        assert path.read_bytes() == DATA
        assert stage.known == {}
    assert digests(store) == [DIGEST], "kept for another attempt"
    assert origin == ["archive.whl"]


def test_old_unfinished_downloads_go_unless_somebody_works_on_them(store, origin):
    with store.stage():
        pass
    key = partials.key_of(remote())
    folder = store.home / "partial"
    for name in (key, key + ".state"):
        (folder / name).write_bytes(b"half")
        age(folder / name, partials.OLD_S - 60)
    assert store.gc().partials == 0
    for name in (key, key + ".state"):
        age(folder / name, partials.OLD_S + 60)
    with store.content.partials.claim(key, lambda *_: None):
        assert store.gc().partials == 0
        assert store.gc(everything=True).partials == 0
    assert store.gc(dry_run=True).partials == 1
    assert store.gc().partials == 1
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("names", [{"sha256": DIGEST}, {"sha256": "", "git_sha1": GIT}])
def test_a_download_that_ended_with_its_process_is_not_fetched_again(store, origin, names):
    file = remote(**names)
    with store.stage():
        pass
    (store.home / "partial" / partials.key_of(file)).write_bytes(DATA)
    with store.stage() as stage:
        stage.obtain(file)
    assert origin == []


@pytest.mark.parametrize("names", [{"sha256": DIGEST}, {"sha256": "", "git_sha1": GIT}])
def test_what_is_left_and_is_not_the_file_is_fetched(store, origin, names):
    file = remote(**names)
    with store.stage():
        pass
    (store.home / "partial" / partials.key_of(file)).write_bytes(b"x" * SIZE)
    with store.stage() as stage:
        assert stage.obtain(file).sha256 == DIGEST
    assert origin == ["model.bin"]


def test_claims_of_the_dead_go_and_those_of_the_living_stay(store):
    with store.stage(), store.installing(PackageSpec("t", "alive", "1")):
        (store.home / "claims" / "dead").touch()
        store.gc()
        assert [path.name for path in (store.home / "claims").iterdir()] != ["dead"]
        assert len(list((store.home / "claims").iterdir())) == 1
    assert list((store.home / "claims").iterdir()) == []


def test_who_waits_for_a_download_that_stands_still_is_told(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("axon_client.store.waiting.time.monotonic", lambda: now[0])
    seen = iter([1, 1, 2, 2, 2])
    wait = Wait("x", lambda: next(seen), 10)
    for moment in (0, 9, 18, 27):
        now[0] = moment
        wait.step()
    now[0] = 28
    with pytest.raises(DeadlineExceeded, match="x"):
        wait.step()


def test_a_folder_that_cannot_be_exchanged_steps_aside(store, put_back_model, monkeypatch):
    monkeypatch.setattr(disk, "exchange", lambda one, other: False)
    model = put_back_model(b"new", replace=True)
    assert (model.path / "m.bin").read_bytes() == b"new"
    assert list((store.home / "staging").iterdir()) == []


def test_a_replacement_that_was_cut_off_is_undone(store, put_back_model):
    model = put_back_model(b"old")
    dead = store.home / "staging" / "dead"
    dead.mkdir()
    (dead / "place").write_text(str(model.path.relative_to(store.models)))
    model.path.rename(dead / "replaced")
    store.gc()
    assert [str(found.spec) for found in store.installed()] == ["t/m@1"]
    assert store.verify(model) == []
    assert not dead.exists()


@pytest.fixture
def put_back_model(store):
    """Install a model of one file with the given bytes."""
    from axon_client import manifest as manifests
    from axon_client.manifest import Format, Metadata, Spec

    def put(data, replace=False, target=None):
        with (target or store).stage() as stage:
            (stage.scratch / "m").write_bytes(data)
            file = stage.adopt("m.bin", stage.scratch / "m")
            manifest = manifests.new(Metadata("m", "t", "1"), Spec(format=Format(files=[file])))
            return (target or store).commit(stage, manifest, replace=replace)

    return put


def test_a_staged_link_to_a_file_outside_is_refused(store, tmp_path, put_back_model):
    from axon_client import manifest as manifests
    from axon_client.manifest import Format, Metadata, ModelFile, Spec

    (tmp_path / "mine").write_bytes(DATA)
    with store.stage() as stage:
        (stage.files / "m.bin").symlink_to(tmp_path / "mine")
        files = [ModelFile("m.bin", len(DATA), DIGEST)]
        manifest = manifests.new(Metadata("m", "t", "1"), Spec(format=Format(files=files)))
        with pytest.raises(IntegrityError, match="link"):
            store.commit(stage, manifest, replace=False)
    assert (tmp_path / "mine").stat().st_mode & 0o200


def test_a_stray_file_among_the_models_hides_none(store, put_back_model):
    put_back_model(b"x")
    for folder in (store.models, store.models / "t"):
        (folder / ".DS_Store").write_text("")
    assert [str(model.spec) for model in store.installed()] == ["t/m@1"]


# Layers


@pytest.fixture
def layered(store, tmp_path, put_back_model):
    """One's own store over a shared one that has the model t/m@1."""
    shared = Store(tmp_path / "shared", layers=())
    put_back_model(b"shared", target=shared)
    return Store(store.home, layers=[shared.home]), shared


def test_a_layers_models_are_listed_and_ones_own_hide_them(layered, put_back_model):
    own, shared = layered
    (model,) = own.installed()
    assert own.layer_of(model) == shared.home
    assert own.at(model.spec).path == model.path
    assert own.verify(model) == []
    mine = put_back_model(b"mine", target=own)
    (model,) = own.installed()
    assert (model.path, own.layer_of(model)) == (mine.path, own.home)


def test_a_layer_is_never_written_to(layered, origin):
    own, shared = layered
    (model,) = own.installed()
    with pytest.raises(InvalidInput, match="not your own"):
        own.uninstall(model)
    own.gc(everything=True)
    assert shared.verify(model) == []


@pytest.mark.parametrize("links", [True, False])
def test_a_layers_blob_becomes_ones_own(layered, origin, monkeypatch, links, leave):
    own, shared = layered
    leave(shared, path_of(own))
    if not links:

        def refuse(self, target):
            if "shared" in str(target):
                raise OSError(errno.EPERM, "protected")
            os.link(target, self)

        monkeypatch.setattr("pathlib.Path.hardlink_to", refuse)
    with own.stage() as stage:
        stage.obtain(remote())
        mine = own.blobs / DIGEST
        assert mine.samefile(shared.blobs / DIGEST) == links
        assert is_sealed(mine.stat(), DIGEST)
    assert origin == []


def test_a_file_that_a_layer_has_costs_its_bytes_once(layered, leave):
    own, shared = layered
    leave(shared, path_of(own))
    with own.stage() as stage:
        stage.adopt("mine.bin", path_of(own))
        assert (stage.files / "mine.bin").samefile(shared.blobs / DIGEST)


def test_a_damaged_blob_of_a_layer_is_not_taken(layered, origin, leave):
    own, shared = layered
    leave(shared, path_of(own))
    blob = shared.blobs / DIGEST
    blob.chmod(0o600)
    blob.write_bytes(b"damaged")
    with own.stage() as stage:
        stage.obtain(remote())
        assert (stage.files / "model.bin").read_bytes() == DATA
    assert origin == ["model.bin"]


def test_layers_come_from_the_environment(home, tmp_path, monkeypatch):
    chosen = [tmp_path / "one", home, tmp_path / "two", tmp_path / "one"]
    monkeypatch.setenv("AXON_STORES", os.pathsep.join(map(str, chosen)))
    assert [layer.home for layer in Store().layers] == [tmp_path / "one", tmp_path / "two"]
    assert Store().installed() == []
    monkeypatch.delenv("AXON_STORES")
    assert Store().layers == ()
    home.mkdir()
    (home / "config.yaml").write_text(f"stores: ['{tmp_path}/three']\n")
    assert [layer.home for layer in Store().layers] == [tmp_path / "three"]


def test_a_store_that_may_only_be_read_is_read_without_a_write(store, put_back_model):
    model = put_back_model(b"x")
    before = sorted((str(p), p.stat().st_mtime_ns) for p in store.home.rglob("*"))
    again = Store(store.home, layers=())
    assert again.verify(again.installed()[0]) == []
    assert again.at(model.spec) is not None
    assert again.statistics().models == 1
    assert sorted((str(p), p.stat().st_mtime_ns) for p in store.home.rglob("*")) == before


def test_statistics_add_up(store, origin, put_back_model):
    put_back_model(b"x" * 10)
    with store.stage() as stage:
        stage.obtain(remote())
        usage = store.statistics()
        assert (usage.blobs, usage.stages) == (2, 1)
    usage = store.statistics()
    assert (usage.models, usage.model_bytes) == (1, 10)
    assert (usage.kept, usage.kept_bytes, usage.unused) == (1, len(DATA), 0)
    (store.home / "leases" / DIGEST).unlink()
    assert store.statistics().unused == 1
    assert {held.state for held in store.held()} == {"installed", "unused"}
