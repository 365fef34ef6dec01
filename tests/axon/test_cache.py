# SPDX-License-Identifier: BUSL-1.1
"""The commands around the store: install, list, uninstall and cache."""

import hashlib
import json
import sys
import types

import pytest

from axon_client import adapters, net
from axon_client.spec import PackageSpec
from axon_client.store import Store
from mlos_core.errors import Unavailable
from tests.axon.shop import Shop


@pytest.fixture
def shop(home, onnx, monkeypatch):
    shop = Shop()
    monkeypatch.setattr(adapters, "adapter_for", lambda spec, home=None: shop)
    monkeypatch.setattr(adapters, "source", lambda namespace, home=None: shop)
    monkeypatch.setattr(net, "download", shop.download)
    shop.add("t/part@1.2.0", {"model.onnx": onnx(), "p.json": b"part"})
    shop.add("t/whole@1.0.0", {"model.onnx": onnx(), "w.json": b"w"}, ["t/part@^1.0"])
    return shop


class Daemon:
    """Answers as mlosd would that serves models at `paths`."""

    def __init__(self, paths=()):
        self.paths = paths
        self.registered = []

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass

    def call(self, method, **parameters):
        if method == "register":
            self.registered.append(parameters)
            return {"name": parameters["name"], "state": "ready"}
        versions = [{"version": "1", "path": str(path)} for path in self.paths]
        return [{"name": "served", "versions": versions, "manifest": None}]


@pytest.fixture
def daemon(monkeypatch):
    """No daemon runs, until a test puts one in its place."""
    module = types.ModuleType("mlos_core.client")

    def put(daemon):
        module.connect = lambda socket: daemon
        return daemon

    def none(socket):
        raise Unavailable("no daemon runs")

    module.connect = none
    monkeypatch.setitem(sys.modules, "mlos_core.client", module)
    return put


def installed():
    return [str(model.spec) for model in Store().installed()]


def test_one_package_is_an_object_with_its_dependencies(axon, shop):
    code, out, _ = axon("install", "t/whole", "--json")
    about = json.loads(out)
    assert (code, about["package"], about["fresh"]) == (0, "t/whole@1.0.0", True)
    assert [one["package"] for one in about["dependencies"]] == ["t/part@1.2.0"]


def test_several_packages_are_a_list_of_all(axon, shop):
    _, out, _ = axon("install", "t/whole", "t/part", "t/whole", "--json")
    about = {one["package"]: one["wanted"] for one in json.loads(out)}
    assert about == {"t/whole@1.0.0": True, "t/part@1.2.0": True}


def test_what_was_there_is_said_to_be(axon, shop):
    assert "installed t/part@1.2.0" in axon("install", "t/whole")[1]
    out = axon("install", "t/whole")[1]
    assert "already installed t/whole@1.0.0" in out
    assert not json.loads(axon("install", "t/whole", "--json")[1])["fresh"]


def test_notes_are_warnings_on_standard_error(axon, shop, onnx):
    shop.add("t/bad@1.0.0", {"model.onnx": onnx()}, yanked="it is wrong")
    code, out, err = axon("install", "t/bad@1.0.0")
    assert code == 0
    assert "withdrawn: it is wrong" in err
    assert "withdrawn" not in out


def test_installing_and_registering_is_one_command(axon, shop, daemon):
    running = daemon(Daemon())
    out = axon("install", "t/whole", "--register")[1]
    assert "registered as whole: ready" in out
    about = json.loads(axon("install", "t/whole", "--register", "--json")[1])
    assert about["registered"]["state"] == "ready"
    assert [told["name"] for told in running.registered] == ["whole", "whole"]


def test_saving_adds_to_the_project_here(axon, shop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = axon("install", "t/whole", "--save")
    assert code != 0
    assert "axon init" in err
    assert installed() == [], "nothing is installed that cannot be saved"
    (tmp_path / "axon.toml").write_text("# mine\n[models]\n")
    assert axon("install", "t/whole", "--save")[0] == 0
    text = (tmp_path / "axon.toml").read_text()
    assert text.startswith("# mine")
    assert "t/whole" in text
    assert "t/part" not in text
    assert "t/part" in (tmp_path / "axon.lock").read_text()


def test_offline_refuses_what_is_not_there(axon, shop, monkeypatch):
    monkeypatch.setenv("AXON_OFFLINE", "")
    code, _, err = axon("install", "t/whole", "--offline")
    assert code != 0
    assert "--offline" in err
    assert shop.asked == []


def test_an_unknown_format_is_a_usage_error(axon):
    assert axon("install", "t/x", "-f", "tflite-ish")[0] == 2
    assert axon("install")[0] == 2


def test_what_another_package_needs_is_not_removed(axon, shop, daemon):
    axon("install", "t/whole")
    code, _, err = axon("uninstall", "t/part")
    assert code == 77
    assert "t/whole@1.0.0 depends on t/part@1.2.0" in err
    assert "--force" in err
    assert installed() == ["t/part@1.2.0", "t/whole@1.0.0"]
    assert axon("uninstall", "t/part", "--force")[0] == 0
    assert axon("uninstall", "t/whole")[0] == 0


def test_a_package_and_what_needs_it_go_together(axon, shop, daemon):
    axon("install", "t/whole")
    removed = json.loads(axon("uninstall", "t/part", "t/whole", "--json")[1])
    assert [one["package"] for one in removed] == ["t/part@1.2.0", "t/whole@1.0.0"]
    assert installed() == []


def test_a_version_that_another_one_can_stand_in_for_may_go(axon, shop, daemon, onnx):
    shop.add("t/part@1.3.0", {"model.onnx": onnx()})
    axon("install", "t/part@1.2.0", "t/whole")
    axon("install", "t/part@1.3.0")
    assert axon("uninstall", "t/part@1.2.0")[0] == 0


def test_what_a_daemon_serves_is_not_removed(axon, shop, daemon):
    axon("install", "t/part")
    path = Store().at(PackageSpec("t", "part", "1.2.0")).path
    daemon(Daemon([path / "model.onnx"]))
    code, _, err = axon("uninstall", "t/part")
    assert code == 77
    assert "the daemon serves t/part@1.2.0 as served" in err
    daemon(Daemon([path.with_name("1.2.00") / "model.onnx"]))
    assert axon("uninstall", "t/part")[0] == 0


def test_the_list_says_which_store_a_model_is_in(axon, shop, home, tmp_path, monkeypatch):
    monkeypatch.setenv("AXON_HOME", str(tmp_path / "shared"))
    axon("install", "t/part")
    monkeypatch.setenv("AXON_HOME", str(home))
    monkeypatch.setenv("AXON_STORES", str(tmp_path / "shared"))
    axon("install", "t/whole")
    assert installed() == ["t/part@1.2.0", "t/whole@1.0.0"], "the dependency is below"
    about = {one["package"]: one["store"] for one in json.loads(axon("list", "--json")[1])}
    assert about == {"t/part@1.2.0": str(tmp_path / "shared"), "t/whole@1.0.0": str(home)}
    assert str(tmp_path / "shared") in axon("list")[1]
    assert axon("verify")[0] == 0
    code, _, err = axon("uninstall", "t/part", "--force")
    assert (code, "not your own store" in err) == (65, True)


def test_cache_shows_what_is_stored_and_why(axon, shop, leave):
    assert "empty" in axon("cache", "list")[1]
    axon("install", "t/whole")
    leave(Store(), path_with(shop, b"left over"))
    blobs = json.loads(axon("cache", "list", "--json")[1])["blobs"]
    shared = next(one for one in blobs if len(one["used_by"]) == 2)
    assert shared["used_by"] == ["t/part@1.2.0", "t/whole@1.0.0"]
    assert {one["state"] for one in blobs} == {"installed", "kept"}
    out = axon("cache", "list")[1]
    assert "t/part@1.2.0, t/whole@1.0.0" in out
    assert "another attempt" in out


def path_with(shop, data):
    path = Store().home / "scratch.bin"
    path.write_bytes(data)
    return path


def test_cache_adds_up(axon, shop, onnx, leave):
    axon("install", "t/whole")
    leave(Store(), path_with(shop, b"left over"))
    about = json.loads(axon("cache", "stats", "--json")[1])
    once = len(onnx()) + len(b"part") + len(b"w")
    assert (about["models"], about["model_bytes"]) == (2, once + len(onnx()))
    assert (about["blobs"], about["blob_bytes"]) == (4, once + 9)
    assert (about["kept"], about["kept_bytes"]) == (1, 9)
    assert about["home"] == str(Store().home)
    assert "2, " in axon("cache", "stats")[1]


def test_gc_waits_and_clean_does_not(axon, shop, leave):
    axon("install", "t/whole")
    digest = leave(Store(), path_with(shop, b"left over"))
    for command in (["gc"], ["gc", "--dry-run"], ["clean", "--dry-run"]):
        assert axon("cache", *command)[0] == 0
        assert Store().blob(digest)
    dry = json.loads(axon("cache", "clean", "--dry-run", "--json")[1])
    wet = json.loads(axon("cache", "clean", "--json")[1])
    assert (dry.pop("dry_run"), wet.pop("dry_run")) == (True, False)
    assert dry == wet == {"blobs": 1, "bytes": 9, "partials": 0, "stages": 0}
    assert Store().blob(digest) is None
    assert axon("verify")[0] == 0


def test_cleaning_keeps_a_download_that_is_under_way(axon, shop):
    with Store().stage():
        pass
    name = "sha256-" + hashlib.sha256(b"x").hexdigest()
    for key in (name, name[:-1] + "0"):
        (Store().home / "partial" / key).write_bytes(b"half")
    with Store().content.partials.claim(name, lambda *_: None):
        listed = json.loads(axon("cache", "list", "--json")[1])["partials"]
        assert sorted(one["claimed"] for one in listed) == [False, True]
        assert json.loads(axon("cache", "clean", "--json")[1])["partials"] == 1
        assert "under way" in axon("cache", "list")[1]


def test_clearing_a_store_that_is_not_there_makes_none(axon, home):
    assert json.loads(axon("cache", "gc", "--json")[1])["bytes"] == 0
    assert json.loads(axon("cache", "stats", "--json")[1])["blobs"] == 0
    assert not home.exists()
