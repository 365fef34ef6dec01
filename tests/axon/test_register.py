# SPDX-License-Identifier: BUSL-1.1
import io
import sys
import types
import zipfile

import msgspec
import pytest

import axon_client
from axon_client.installer import InstallOptions
from axon_client.obtain import obtain
from axon_client.register import connect_to, register
from axon_client.serving import describe_swaps, served, successor, swap
from axon_client.spec import PackageSpec
from mlos_core.errors import InvalidInput, LoadFailed, NotFound, Unavailable

from .test_introspect_tensorflow import SERVING, saved_model


def keras():
    """A Keras archive without layers."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("config.json", "{}")
    return out.getvalue()


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
    (tmp_path / "m.keras").write_bytes(keras())
    register(axon_client.install(str(tmp_path / "m.keras")), lambda: daemon)
    asked = daemon.calls[0][1]
    assert asked["plugin"] == ""
    register(axon_client.install(str(tmp_path / "m.keras")), lambda: daemon, plugin="mine")
    assert daemon.calls[1][1]["plugin"] == "mine"
    assert asked["manifest"]["spec"]["format"]["execution_format"] == "keras"


def test_two_plugins_are_called_like_tensorflow_and_axon_names_the_right_one(
    home, tmp_path, daemon
):
    (tmp_path / "m.tflite").write_bytes(b"TFL3")
    register(axon_client.install(str(tmp_path / "m.tflite")), lambda: daemon)
    assert daemon.calls[0][1]["plugin"] == "tflite"


def test_a_saved_model_is_registered_as_a_folder(home, tmp_path, daemon):
    (tmp_path / "saved" / "variables").mkdir(parents=True)
    (tmp_path / "saved" / "saved_model.pb").write_bytes(saved_model(SERVING))
    model = axon_client.install(str(tmp_path / "saved"))
    register(model, lambda: daemon)
    assert daemon.calls[0][1]["path"] == str(model.path)


def test_options_are_the_plugins_own_and_nothing_allows_a_pickle_by_itself(home, tmp_path, daemon):
    (tmp_path / "state.pt").write_bytes(b"\x80\x02.")
    allowed = InstallOptions(allow_pickle=True)
    model = axon_client.install(str(tmp_path / "state.pt"), options=allowed)
    register(model, lambda: daemon)
    register(model, lambda: daemon, options={"weights_only": True})
    (_, asked), (_, told) = daemon.calls
    assert "options" not in asked
    assert asked["manifest"]["spec"]["format"]["pickled"]
    assert told["options"] == {"weights_only": True}


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


# --- what is served, and its swap --------------------------------------------------------------


class Serving(FakeDaemon):
    """Serves models by path, and swaps them as the daemon does."""

    def __init__(self, *paths, manifest=None, refuses=()):
        super().__init__()
        self.infos = [
            {
                "name": f"m{number}",
                "manifest": manifest,
                "versions": [{"version": "1.0", "path": str(path)}],
            }
            for number, path in enumerate(paths)
        ]
        self.refuses = refuses

    def call(self, method, **parameters):
        if method == "models":
            return self.infos
        self.calls.append((method, parameters))
        if parameters["name"] in self.refuses:
            raise LoadFailed("its inputs are others", hint="allow them")
        return {}


@pytest.fixture
def version(tmp_path, onnx):
    """`version("1.0", "a.onnx", ...)` installs `lab/pair` with these files."""

    def install(number, *files):
        folder = tmp_path / f"pair-{number}"
        folder.mkdir()
        for name in files:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(onnx())
        (folder / "axon.yaml").write_text(
            "{apiVersion: axon.mlos.io/v1, kind: Model, "
            f'metadata: {{name: pair, namespace: lab, version: "{number}"}}}}'
        )
        return axon_client.install(str(folder))

    return install


def test_what_is_served_is_known_by_the_folder_it_lies_in(home, version, tmp_path):
    model = version("1.0", "a.onnx")
    daemon = Serving(model.path / "a.onnx", tmp_path / "elsewhere.onnx", model.path)
    found = served(lambda: daemon)
    assert [(one.name, str(one.package), one.file) for one in found] == [
        ("m0", "lab/pair@1.0", "a.onnx"),
        ("m2", "lab/pair@1.0", ""),
    ]


def test_what_was_uninstalled_meanwhile_is_known_by_its_manifest(home):
    about = {"metadata": {"namespace": "lab", "name": "pair", "version": "1.0"}}
    daemon = Serving("/gone/models/lab/pair/1.0/sub/a.onnx", manifest=about)
    (one,) = served(lambda: daemon)
    assert (one.package, one.file) == (PackageSpec("lab", "pair", "1.0"), "sub/a.onnx")
    assert served(lambda: Serving("/gone/x.onnx", manifest={"metadata": {"name": 3}})) == []


def test_each_model_is_swapped_for_its_successor_and_a_refusal_ends_nothing(home, version):
    old = version("1.0", "a.onnx", "b.onnx")
    new = version("2.0", "a.onnx", "b.onnx")
    daemon = Serving(old.path / "a.onnx", old.path / "b.onnx", refuses=("m0",))
    first, second = swap(new, lambda: daemon)
    assert isinstance(first.problem, LoadFailed)
    assert second.problem is None
    assert [asked["path"] for _, asked in daemon.calls] == [
        str(new.path / "a.onnx"),
        str(new.path / "b.onnx"),
    ]
    asked = daemon.calls[1][1]
    assert (asked["version"], asked["new_version"]) == ("1.0", "2.0")
    assert asked["manifest"]["metadata"]["version"] == "2.0"
    assert not asked["allow_new_signature"]
    assert describe_swaps([first, second]) == [
        "m0: still 1.0: its inputs are others",
        "m1: 1.0 -> 2.0, live",
    ]
    assert first.as_dict()["error"]["code"] == "load_failed"
    assert second.as_dict() == {
        "name": "m1", "from": "lab/pair@1.0", "version": "2.0", "swapped": True,
    }  # fmt: skip


def test_the_same_version_and_other_packages_are_not_swapped(home, version, folder):
    model = version("1.0", "a.onnx")
    other = axon_client.install(str(folder))
    daemon = Serving(model.path / "a.onnx", other.path / "model.onnx")
    assert swap(model, lambda: daemon) == []
    assert daemon.calls == []


def test_a_successor_lies_at_the_same_place_or_has_the_same_name_or_is_the_main_one(home, version):
    two = version("1.0", "x/a.onnx", "b.onnx")
    assert successor(two, "x/a.onnx").path == "x/a.onnx"
    assert successor(two, "y/a.onnx").path == "x/a.onnx"
    with pytest.raises(NotFound, match="nothing in the place"):
        successor(two, "c.onnx")
    one = version("2.0", "only.onnx")
    assert successor(one, "c.onnx").path == "only.onnx"
    assert successor(one, "").path == "only.onnx"


# --- the installed model that is meant -----------------------------------------------------------


def test_what_is_installed_is_found_without_asking_anybody(home, version):
    model = version("1.0", "a.onnx")
    for text in ("pair", "lab/pair", "lab/pair@1.0", "lab/pair@^1", "lab/pair@>=0.5,<2"):
        assert obtain(text, install=False).spec == model.spec


def test_what_is_missing_is_installed_where_that_is_wanted(home, folder):
    with pytest.raises(NotFound, match="not installed") as caught:
        obtain(str(folder), install=False)
    assert "axon install" in caught.value.hint
    assert str(obtain(str(folder), install=True).spec) == "local/digits@0.0.0"


def test_a_name_that_nothing_has_is_not_found(home, version):
    version("1.0", "a.onnx")
    for text, install in (("pear", True), ("lab/pear", False), ("lab/pair@^2", False)):
        with pytest.raises(NotFound, match="not installed"):
            obtain(text, install=install)


def test_of_several_versions_the_highest_is_meant(home, version):
    version("2.0", "a.onnx")
    version("10.0", "a.onnx")
    version("1.0", "a.onnx")
    assert obtain("pair", install=False).spec.version == "10.0"
    assert obtain("lab/pair", install=True).spec.version == "10.0"
    assert obtain("lab/pair@^1", install=False).spec.version == "1.0"
