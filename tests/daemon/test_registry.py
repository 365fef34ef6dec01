# SPDX-License-Identifier: BUSL-1.1
import random

import msgspec
import pytest

from mlos_core.daemon.entry import ModelEntry, Route, version_key
from mlos_core.daemon.registry import Registry, RegistryFile, decode
from mlos_core.errors import AlreadyExists, ConfigError, InvalidInput, NotFound
from mlos_core.ipc.messages import BatchPolicy


def entry(name="echo", **fields):
    return ModelEntry(name, "/models/x", "echo", **fields)


def test_what_was_saved_comes_back(tmp_path):
    file = RegistryFile(tmp_path / "registry.json")
    batch = BatchPolicy(8, 500)
    registry = Registry([entry("b", batch=batch, options={"threads": 2}), entry("a")])
    file.save(registry)
    loaded = file.load()
    assert list(loaded) == list(registry)
    assert loaded.get("b").batch == batch
    assert [path.name for path in tmp_path.iterdir()] == ["registry.json"]


def test_no_file_is_an_empty_registry(tmp_path):
    assert len(RegistryFile(tmp_path / "registry.json").load()) == 0


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"format": 1, "models": [{}]}', b"\xff"])
def test_a_damaged_file_is_an_error_once_and_is_kept_aside(tmp_path, content):
    path = tmp_path / "registry.json"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"registry\.json") as caught:
        RegistryFile(path).load()
    assert "corrupt-0" in caught.value.hint
    assert (tmp_path / "registry.json.corrupt-0").read_bytes() == content
    assert len(RegistryFile(path).load()) == 0


def test_a_format_of_the_future_is_refused():
    with pytest.raises(ValueError, match="format 3"):
        decode(b'{"format": 3, "models": {}}')


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(NotFound) as caught:
        Registry([entry("magika")]).get("majika")
    assert "magika" in caught.value.hint


def test_a_name_is_not_taken_twice_unless_asked():
    registry = Registry([entry()])
    registry.put(entry(registered_at=5.0))
    with pytest.raises(AlreadyExists):
        registry.put(entry(device="cuda:0"))
    registry.put(entry(device="cuda:0"), replace=True)
    assert registry.get("echo").device == "cuda:0"


@pytest.mark.parametrize(
    "bad",
    [
        entry(""),
        entry("../x"),
        entry("a b"),
        entry("x" * 200),
        entry(instances=0),
        entry(instances=99),
        entry(batch=BatchPolicy(0, 0)),
        entry(batch=BatchPolicy(1, -1)),
    ],
)
def test_impossible_entries_are_refused(bad):
    with pytest.raises(InvalidInput):
        Registry().put(bad)


def test_a_removed_model_is_gone():
    registry = Registry([entry()])
    registry.remove("echo")
    assert "echo" not in registry
    with pytest.raises(NotFound):
        registry.remove("echo")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    file = RegistryFile(tmp_path / "registry.json")
    file.save(Registry([entry()]))

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mlos_core.daemon.files.os.fsync", full)
    with pytest.raises(Exception, match="No space left"):
        file.save(Registry())
    assert [e.name for e in file.load()] == ["echo"]
    assert len(list(tmp_path.iterdir())) == 1


def test_the_document_names_its_format():
    assert msgspec.json.decode(Registry().encode()) == {"format": 2, "models": {}}


def test_a_file_of_the_first_format_is_read():
    old = {"format": 1, "models": [{"name": "a", "path": "/m", "plugin": "echo"}]}
    assert decode(msgspec.json.encode(old)).get("a").path == "/m"


def test_versions_stand_beside_each_other_and_the_latest_is_favoured():
    registry = Registry([entry(version="1.9"), entry(version="1.10"), entry(version="1.10-rc1")])
    assert registry.get("echo").version == "1.10"
    assert [e.version for e in registry] == ["1.9", "1.10-rc1", "1.10"]
    registry.set_route("echo", Route("pinned", "1.9"))
    assert registry.get("echo").version == "1.9"
    registry.remove("echo", "1.9")
    assert registry.get("echo").version == "1.10"
    with pytest.raises(NotFound, match="no version") as caught:
        registry.get("echo", "7")
    assert "1.10-rc1, 1.10" in caught.value.hint


def test_what_was_swapped_can_be_rolled_back_also_after_a_restart(tmp_path):
    file = RegistryFile(tmp_path / "registry.json")
    registry = Registry([entry(version="1")])
    registry.set_route("echo", Route("pinned", "1"))
    registry.swap("1", entry(version="2"))
    file.save(registry)
    loaded = file.load()
    assert loaded.get("echo").version == "2"
    before = loaded.previous("echo", "2")
    assert before == entry(version="1")
    loaded.roll_back("echo", "2", before)
    assert loaded.get("echo").version == "1"
    assert loaded.route("echo").version == "1"
    assert loaded.previous("echo", "1") is None


def test_a_route_whose_versions_are_gone_falls_back_to_the_latest():
    assert Route("weighted", weights={"1": 1.0}).shares(["2", "3"]) == {"3": 1.0}
    assert Route("weighted", weights={"1": 1.0, "2": 3.0}).shares(["1", "2"]) == {"1": 1, "2": 3}
    assert Route("pinned", "9").shares(["2"]) == {"2": 1.0}


def test_versions_sort_as_semantic_versions_do():
    ordered = ["", "nightly", "0.9", "v1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta"]
    ordered += ["1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.10", "2"]
    shuffled = random.Random(1).sample(ordered, len(ordered))
    assert sorted(shuffled, key=version_key) == ordered
