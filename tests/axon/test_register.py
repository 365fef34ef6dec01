# SPDX-License-Identifier: BUSL-1.1
import sys
import types

import msgspec
import pytest

import axon_client
from axon_client.register import connect_to, register
from mlos_core.errors import InvalidInput, Unavailable


class FakeDaemon:
    """Stands where the client's connection would: keeps what it was asked."""

    def __init__(self):
        self.calls = []
        self.open = 0

    def __enter__(self):
        self.open += 1
        return self

    def __exit__(self, *exc):
        self.open -= 1

    def call(self, method, **parameters):
        assert self.open == 1
        msgspec.msgpack.encode(parameters)
        self.calls.append((method, parameters))
        return {"name": parameters["name"], "state": "ready"}


@pytest.fixture
def daemon():
    return FakeDaemon()


def test_the_daemon_gets_path_plugin_version_and_manifest(home, folder, daemon):
    model = axon_client.install(str(folder))
    answer = register(model, lambda: daemon, instances=2)
    assert answer == {"name": "digits", "state": "ready"}
    ((method, asked),) = daemon.calls
    assert method == "register"
    manifest = asked.pop("manifest")
    assert asked == {
        "name": "digits",
        "path": str(model.path / "model.onnx"),
        "plugin": "onnx",
        "version": "0.0.0",
        "instances": 2,
        "replace": False,
    }
    assert manifest["metadata"]["name"] == "digits"
    assert manifest["spec"]["io"]["inputs"] == [{"name": "x", "dtype": "float32", "shape": [-1, 4]}]
    assert daemon.open == 0


def test_a_chosen_file_brings_its_own_schema(home, folder, onnx, daemon):
    (folder / "other.onnx").write_bytes(onnx(inputs={"image": (1, [1, 3])}))
    model = axon_client.install(str(folder))
    register(model, lambda: daemon, name="eyes", file="other", device="cuda:0")
    asked = daemon.calls[0][1]
    assert asked["name"] == "eyes"
    assert asked["device"] == "cuda:0"
    assert asked["path"].endswith("/other.onnx")
    assert [spec["name"] for spec in asked["manifest"]["spec"]["io"]["inputs"]] == ["image"]


def test_without_a_main_model_the_file_has_to_be_named(home, folder, onnx, daemon):
    (folder / "model.onnx").rename(folder / "det.onnx")
    (folder / "rec.onnx").write_bytes(onnx())
    model = axon_client.install(str(folder))
    with pytest.raises(InvalidInput, match="2 models"):
        register(model, lambda: daemon)
    assert daemon.calls == []


def test_the_daemon_chooses_the_plugin_for_formats_axon_knows_none_for(home, tmp_path, daemon):
    (tmp_path / "m.tflite").write_bytes(b"TFL3")
    register(axon_client.install(str(tmp_path / "m.tflite")), lambda: daemon)
    asked = daemon.calls[0][1]
    assert asked["plugin"] == ""
    register(axon_client.install(str(tmp_path / "m.tflite")), lambda: daemon, plugin="mine")
    assert daemon.calls[1][1]["plugin"] == "mine"
    assert asked["manifest"]["spec"]["format"]["execution_format"] == "tflite"


def test_a_gguf_file_is_for_synapse(home, tmp_path, daemon):
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    register(axon_client.install(str(tmp_path / "m.gguf")), lambda: daemon)
    assert daemon.calls[0][1]["plugin"] == "synapse"
    assert daemon.calls[0][1]["path"].endswith("/m.gguf")


def test_safetensors_with_their_configuration_are_registered_as_a_folder(home, tmp_path, daemon):
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "model.safetensors").write_bytes(b"x")
    register(axon_client.install(str(tmp_path / "bert")), lambda: daemon)
    config = b'{"model_type": "bert", "transformers_version": "4.8.2"}'
    (tmp_path / "bert" / "config.json").write_bytes(config)
    whole = axon_client.install(str(tmp_path / "bert"), replace=True)
    register(whole, lambda: daemon)
    (_, alone), (_, asked) = daemon.calls
    assert alone["path"].endswith("/model.safetensors")
    assert asked["path"] == str(whole.path)
    assert alone["manifest"]["spec"]["framework"] == {"name": "pytorch"}
    framework = {"name": "transformers", "version": "4.8.2"}
    assert asked["manifest"]["spec"]["framework"] == framework
    assert asked["plugin"] == ""


def test_the_manifest_of_a_chosen_file_names_no_other_format(home, folder, daemon):
    (folder / "weights.gguf").write_bytes(b"GGUF")
    register(axon_client.install(str(folder)), lambda: daemon, file="weights")
    spec = daemon.calls[0][1]["manifest"]["spec"]
    assert spec["framework"] == {"name": "gguf"}
    assert (spec["format"]["type"], spec["format"]["execution_format"]) == ("gguf", "gguf")
    assert [file["path"] for file in spec["format"]["execution_files"]] == ["weights.gguf"]
    assert spec["io"] == {}


def test_the_client_is_asked_for_the_socket_that_was_given(monkeypatch):
    asked = []
    fake = types.ModuleType("mlos_core.client")
    fake.connect = asked.append
    monkeypatch.setitem(sys.modules, "mlos_core.client", fake)
    connect_to("/run/x.sock")
    connect_to(None)
    assert asked == ["/run/x.sock", None]


def test_a_client_that_does_not_import_is_unavailable(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlos_core.client", None)
    with pytest.raises(Unavailable) as caught:
        connect_to(None)
    assert "mlos-core" in caught.value.hint
