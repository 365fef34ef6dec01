# SPDX-License-Identifier: BUSL-1.1
"""A project's models on a hub: branches that move on, commits and variants that stay."""

import os

import fake_hub
import pytest

from axon_client import cli
from axon_client.project import load_lock
from axon_client.store import Store


@pytest.fixture(scope="module", autouse=True)
def session():
    """huggingface_hub's connections, of which making the first takes a while."""
    import huggingface_hub

    yield
    huggingface_hub.close_session()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    for name in [n for n in os.environ if n.startswith(("HF_", "HUGGING")) or "proxy" in n.lower()]:
        monkeypatch.delenv(name)
    with fake_hub.running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf home"))
        yield hub


@pytest.fixture
def root(tmp_path, home, monkeypatch):
    path = tmp_path / "project"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


def axon(*arguments):
    return cli.run([str(one) for one in arguments])


def test_a_branch_is_locked_to_its_commit_until_an_update(hub, root, onnx, tmp_path, monkeypatch):
    first = {"model.onnx": onnx(), "config.json": b"{}"}
    repo = hub.add("org/digits", first)
    old = repo.branches["main"]
    (root / "axon.toml").write_text('[models]\n"hf/org/digits" = "main"\n')
    assert axon("lock") == 0
    locked = load_lock(root).get("hf/org/digits")
    assert (locked.revision, locked.version) == (old, f"0.0.0+{old[:12]}")
    before = (root / "axon.lock").read_bytes()

    new = repo.commit(first | {"config.json": b'{"labels": 10}'})
    assert axon("lock") == 0
    assert (root / "axon.lock").read_bytes() == before

    monkeypatch.setenv("AXON_HOME", str(tmp_path / "another home"))
    assert axon("sync", "--frozen") == 0
    (model,) = Store(tmp_path / "another home").installed()
    assert (model.path / "config.json").read_bytes() == b"{}", "the locked commit, not the newest"

    assert axon("update") == 0
    assert load_lock(root).get("hf/org/digits").revision == new
    assert axon("sync", "--frozen") == 0


def test_a_tagged_version_fits_a_range(hub, root, onnx):
    repo = hub.add("org/digits", {"model.onnx": onnx(), "config.json": b"1"}, tag="v1.2.0")
    repo.commit({"model.onnx": onnx(), "config.json": b"2"}, tag="v1.10.0")
    repo.commit({"model.onnx": onnx(), "config.json": b"3"}, tag="v2.0.0")
    (root / "axon.toml").write_text('[models]\n"hf/org/digits" = "^1"\n')
    assert axon("sync") == 0
    assert load_lock(root).get("hf/org/digits").version == "1.10.0"


def test_a_tag_that_moved_changes_no_lock_until_an_update(hub, root, onnx, tmp_path, monkeypatch):
    repo = hub.add("org/digits", {"model.onnx": onnx(), "config.json": b"1"}, tag="v1.0.0")
    (root / "axon.toml").write_text('[models]\n"hf/org/digits" = "^1"\n')
    assert axon("sync") == 0
    before = (root / "axon.lock").read_bytes()
    repo.commit({"model.onnx": onnx(), "config.json": b"2"}, tag="v1.0.0")
    assert axon("lock") == 0
    assert (root / "axon.lock").read_bytes() == before
    monkeypatch.setenv("AXON_HOME", str(tmp_path / "another home"))
    assert axon("sync", "--frozen") == 0
    (model,) = Store(tmp_path / "another home").installed()
    assert (model.path / "config.json").read_bytes() == b"1"
    assert axon("update") == 0
    (model,) = Store(tmp_path / "another home").installed()
    assert (model.path / "config.json").read_bytes() == b"2"


def test_the_variant_that_was_chosen_is_locked(hub, root, onnx, tmp_path, monkeypatch):
    files = {"model.onnx": onnx(), "model_int8.onnx": onnx(weights=["w"]), "config.json": b"{}"}
    repo = hub.add("org/digits", {f"onnx/{name}": data for name, data in files.items()})
    assert axon("init") == 0
    assert axon("install", "--save", "hf/org/digits", "--include", "onnx/model_int8.onnx") == 0
    locked = load_lock(root).get("hf/org/digits")
    assert locked.include == ["onnx/model_int8.onnx"]
    paths = [file.path for file in locked.files]
    assert "onnx/model_int8.onnx" in paths
    assert "onnx/model.onnx" not in paths
    repo.commit({f"onnx/{name}": data for name, data in (files | {"new.json": b"{}"}).items()})
    monkeypatch.setenv("AXON_HOME", str(tmp_path / "another home"))
    assert axon("sync", "--frozen") == 0
    (model,) = Store(tmp_path / "another home").installed()
    assert [file.path for file in model.manifest.spec.format.files] == paths
