# SPDX-License-Identifier: BUSL-1.1
import sys
from pathlib import Path

import pytest

from mlos_core.daemon import plugins
from mlos_core.daemon.plugins import Catalog, Installed
from mlos_core.errors import NotFound, PluginBroken
from mlos_core.ipc.messages import PluginInfo

ECHO = Installed("echo", "mlos-plugin-echo", "1.0", "mlos_echo:Echo")


def info(name="onnx", formats=(".onnx",), framework="onnxruntime 1.20"):
    return PluginInfo(name, "1.0", 1, formats, framework)


def install(folder: Path, distribution: str, name: str, target: str) -> None:
    meta = folder / f"{distribution}-1.0.dist-info"
    meta.mkdir(parents=True)
    (meta / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (meta / "entry_points.txt").write_text(f"[mlos.plugins]\n{name} = {target}\n")


def test_a_plugin_installed_a_moment_ago_is_found_and_not_imported(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.discover()
    install(tmp_path, "fresh_dist", "fresh", "module_that_would_explode:X")
    found = {item.name: item for item in plugins.discover()}
    assert found["fresh"].distribution == "fresh_dist"
    assert "module_that_would_explode" not in sys.modules


def test_two_distributions_with_one_name_are_a_conflict():
    catalog = Catalog()
    catalog.update([ECHO, Installed("echo", "other-echo", "2.0", "x:Y")])
    status = catalog.status("echo")
    assert status.state == "conflict"
    assert "mlos-plugin-echo and other-echo" in status.reason
    with pytest.raises(PluginBroken, match="both claim"):
        catalog.check("echo")


def test_a_broken_plugin_is_listed_with_its_reason_until_it_is_installed_anew():
    catalog = Catalog()
    catalog.update([ECHO])
    assert catalog.status("echo").state == "unprobed"
    catalog.broken("echo", "ImportError: no torch", "Traceback ...")
    status = catalog.status("echo")
    assert (status.state, status.reason) == ("broken", "ImportError: no torch")
    catalog.update([Installed("echo", "mlos-plugin-echo", "1.1", "mlos_echo:Echo")])
    assert catalog.status("echo").state == "unprobed"


def test_a_probed_plugin_shows_what_it_said():
    catalog = Catalog()
    catalog.update([Installed("onnx", "mlos-plugin-onnx", "1.0", "x:Y")])
    catalog.probed("onnx", info())
    status = catalog.status("onnx")
    assert (status.state, status.formats) == ("ready", (".onnx",))


def test_an_unknown_plugin_is_answered_with_the_nearest():
    catalog = Catalog()
    catalog.update([ECHO])
    with pytest.raises(NotFound) as caught:
        catalog.check("ecko")
    assert "echo" in caught.value.hint


def test_a_plugin_that_is_uninstalled_is_forgotten():
    catalog = Catalog()
    catalog.update([ECHO])
    catalog.update([])
    assert catalog.names() == []


def test_the_manifest_tells_the_plugin_before_the_files_do(tmp_path):
    manifest = {"spec": {"format": {"execution_format": "gguf"}, "framework": {"name": "PyTorch"}}}
    words = plugins.wanted(tmp_path / "m.onnx", manifest)
    assert words == ("gguf", "pytorch", ".onnx")


def test_a_folder_is_judged_by_its_files(tmp_path):
    (tmp_path / "model.onnx").touch()
    (tmp_path / "labels.txt").touch()
    assert set(plugins.wanted(tmp_path, None)) == {".onnx", ".txt"}


def test_a_model_py_speaks_for_its_folder_and_other_code_does_not(tmp_path):
    for name in ("model.onnx", "convert.py"):
        (tmp_path / name).touch()
    assert plugins.wanted(tmp_path, None) == (".onnx",)
    assert plugins.wanted(tmp_path / "convert.py", None) == (".py",)
    (tmp_path / "model.py").touch()
    assert plugins.wanted(tmp_path, None) == ("model.py", "python")
    assert plugins.matches(info("python", ("model.py", ".py"), ""), ("model.py",))


@pytest.mark.parametrize("words", [(".onnx",), ("onnx",), ("onnxruntime",)])
def test_a_plugin_is_recognised_by_format_name_or_framework(words):
    assert plugins.matches(info(), words)


def test_a_plugin_for_something_else_is_not_chosen():
    assert not plugins.matches(info(), (".gguf", "pytorch"))


def test_the_plugin_called_like_the_format_is_asked_first():
    assert plugins.probe_order(["echo", "onnx", "torch"], (".onnx",)) == ["onnx", "echo", "torch"]
