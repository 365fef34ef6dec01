# SPDX-License-Identifier: BUSL-1.1
"""`axon info`: what a package is and needs, and whether this machine can run it."""

import json

import msgspec
import pytest

import axon_client
from axon_client import info, machine, plugins
from axon_client.adapters.base import RemoteFile, Resolved
from axon_client.fit import fit
from axon_client.machine import Gpu, Machine
from axon_client.manifest import CPU, GPU, Compute, Facts, Requirements, Space
from axon_client.models import InstalledModel
from axon_client.plugins import Loader
from axon_client.requirements import GB, Estimate
from axon_client.spec import PackageSpec
from mlos_core import smi

from .conftest import _bytes, _number

BIG = Machine(64 * GB, 32 * GB, 8, 500 * GB, (Gpu("H100", 80 * GB, 70 * GB),))
SMALL = Machine(2 * GB, 1 * GB, 2, 3 * GB)
HERE = Loader("gguf", "synapse", "mlos-plugin-synapse", True, "mlos-plugin-synapse", "0.1.0")
MISSING = Loader("gguf", "synapse", "mlos-plugin-synapse", False)
NEEDS = Requirements(Compute(CPU(1, 4), Space(2, 8)), Space(5, 5), estimated=True)
ESTIMATE = Estimate(2 * GB, 8 * GB, 3 * GB, 5 * GB, 10**9, "a + b", "a + c", "d")


def answer(needs=NEEDS, here=BIG, loaders=(HERE,), installed=False):
    found = fit(needs, ESTIMATE, here, loaders, installed=installed)
    return found.answer, {check.what: check for check in found.checks}


def test_a_machine_with_room_can_run_it_and_the_arithmetic_is_shown():
    verdict, checks = answer()
    assert verdict == "yes"
    assert checks["memory"].arithmetic == "a + b"
    assert checks["memory"].available == "32.0 GB available of 64.0 GB"
    assert checks["memory in full"].ok
    assert checks["cores"].needed == "1 at least, 4 recommended"
    assert checks["gpu"].ok is None


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"here": SMALL}, "memory"),
        ({"here": SMALL}, "disk"),
        ({"loaders": (MISSING,)}, "plugin"),
        ({"needs": Requirements(Compute(CPU(16, 16), Space(1, 1)))}, "cores"),
        ({"needs": Requirements(Compute(gpu=GPU(required=True, min_vram_gb=75)))}, "gpu"),
        ({"needs": Requirements(Compute(gpu=GPU(required=True))), "here": SMALL}, "gpu"),
    ],
)
def test_one_thing_that_is_lacking_is_enough_for_a_no(change, what):
    verdict, checks = answer(**change)
    assert verdict == "no"
    assert checks[what].ok is False


def test_a_gpu_that_is_only_recommended_does_not_decide():
    needs = Requirements(Compute(memory=Space(1, 1), gpu=GPU(recommended=True, min_vram_gb=99)))
    verdict, checks = answer(needs)
    assert verdict == "yes"
    assert checks["gpu"].needed == "recommended, 99 GB of video memory"
    assert checks["gpu"].available == "H100 with 70.0 GB free"


def test_room_for_a_part_of_the_context_is_room():
    middle = Machine(8 * GB, 4 * GB, 2, 500 * GB)
    verdict, checks = answer(here=middle)
    assert verdict == "yes"
    assert checks["memory in full"].ok is None
    assert checks["memory in full"].available.startswith("not enough")


def test_what_is_installed_needs_no_more_disk():
    verdict, checks = answer(
        Requirements(Compute(memory=Space(0.5, 0.5)), Space(99, 99)), SMALL, installed=True
    )
    assert verdict == "yes"
    assert checks["disk"].available == "installed"


def test_needs_that_nobody_knows_give_no_answer():
    verdict, checks = answer(Requirements())
    assert verdict == "unknown"
    assert checks["memory"].needed == "not known"


def weighty():
    """An ONNX file with a tensor of 16 numbers."""
    tensor = _bytes(8, "w") + _number(1, 16) + _number(2, 1)
    value = _bytes(1, "x") + _bytes(2, _bytes(1, _number(1, 1)))
    return _number(1, 8) + _bytes(7, _bytes(5, tensor) + _bytes(11, value))


# --- the machine ---------------------------------------------------------------------------------


def test_this_machine_has_memory_cores_and_disk(tmp_path):
    found = machine.this_machine(tmp_path / "not" / "there" / "yet")
    assert 0 < found.memory_available <= found.memory_total
    assert found.cores > 0
    assert found.disk_free > 0


def test_the_limit_of_a_control_group_holds(tmp_path, monkeypatch):
    for name, text in {
        "memory.max": "1000000",
        "memory.current": "700000",
        "memory.stat": "anon 100\ninactive_file 200000\n",
    }.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    found = machine.this_machine(tmp_path)
    assert (found.memory_total, found.memory_available) == (1_000_000, 500_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.this_machine(tmp_path).memory_total > 1_000_000


class FakeNvml:
    NVMLError = RuntimeError

    def __init__(self, broken=False):
        self.broken = broken
        self.open = 0

    def nvmlInit(self):
        if self.broken:
            raise self.NVMLError("no driver")
        self.open += 1

    def nvmlShutdown(self):
        self.open -= 1

    def nvmlDeviceGetCount(self):
        return 1

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetName(self, handle):
        return b"A GPU"

    def nvmlDeviceGetMemoryInfo(self, handle):
        return type("Memory", (), {"total": 80, "free": 70})


@pytest.mark.parametrize(("broken", "gpus"), [(False, (Gpu("A GPU", 80, 70),)), (True, ())])
def test_gpus_are_those_that_the_driver_names(tmp_path, monkeypatch, broken, gpus):
    nvml = FakeNvml(broken)
    monkeypatch.setitem(__import__("sys").modules, "pynvml", nvml)
    assert machine.this_machine(tmp_path).gpus == gpus
    assert nvml.open == 0


# --- plugins -------------------------------------------------------------------------------------


def test_plugins_are_looked_up_where_the_runtime_does():
    assert plugins.GROUP == smi.ENTRY_POINT_GROUP


def test_a_format_names_its_plugin_and_what_brings_it():
    assert plugins.loader_of("nothing") is None
    assert plugins.loader_of("safetensors").name == "pytorch"
    assert plugins.loader_of("safetensors", "BertModel").name == "synapse"


def test_every_format_has_a_plugin():
    from axon_client.formats import FRAMEWORKS

    assert all(plugins.loader_of(format) for format in FRAMEWORKS)


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def axon(home, capfdbinary):
    from axon_client.cli import run

    def axon(*arguments):
        code = run([str(argument) for argument in arguments])
        out, err = capfdbinary.readouterr()
        return code, out.decode(), err.decode()

    return axon


def test_an_installed_model_is_shown_with_its_needs_and_the_answer(axon, folder, onnx):
    (folder / "model.onnx").write_bytes(onnx(weights=["w"]))
    axon("install", folder)
    code, out, _ = axon("info", "digits")
    assert code == 0
    assert "(needs are estimated)" in out
    assert "64.0 MB runtime" in out
    about = json.loads(axon("info", "digits", "--json")[1])
    assert about["installed"]
    assert about["requirements"]["estimated"]
    assert about["runs_here"]["answer"] in ("yes", "no")
    assert about["models"][0]["plugin"]["name"] == "onnx"
    assert {"estimate", "machine", "manifest", "dependencies", "warnings"} <= set(about)


def test_a_path_is_shown_as_it_lies_there(axon, folder):
    code, out, _ = axon("info", folder)
    assert code == 0
    assert "input      x: float32[?, 4]" in out
    about = json.loads(axon("info", folder / "model.onnx", "--json")[1])
    assert (about["installed"], about["models"][0]["path"]) == (False, "model.onnx")
    assert axon("info", folder / "labels")[0] == 65
    assert axon("info", folder / "nothing")[0] == 66


def test_a_pickle_on_this_machine_is_warned_of(axon, folder):
    (folder / "state.pt").write_bytes(b"\x80\x02.")
    code, out, _ = axon("info", folder)
    assert code == 0
    assert "warning: state.pt is a pickle" in out


@pytest.fixture
def source(monkeypatch):
    """A source with one package, which can be resolved and never fetched."""

    class Source:
        found = Resolved(
            PackageSpec("far", "away", "1.0"),
            url="https://far.test/away",
            files=(RemoteFile("m.gguf", ("https://far.test/m",), 5_000_000_000),),
            dependencies=("far/other@^1",),
            notes=("chosen: m.gguf",),
            yanked="broken",
        )

        def resolve(self, spec):
            return self.found

    monkeypatch.setattr("axon_client.adapters.adapter_for", lambda spec, *rest: Source())
    return Source


def test_what_is_not_installed_is_looked_up_and_not_fetched(axon, source, home):
    code, out, _ = axon("info", "far/away")
    assert code == 0
    for text in (
        "(not installed)",
        "far/other@^1",
        "warning: chosen",
        "broken",
        "5.0 GB in 1 files",
    ):
        assert text in out
    assert not (home / "models").exists() or not list((home / "models").rglob("*.gguf"))


def test_a_published_manifest_is_enough_to_tell_whether_it_runs(axon, source, home):
    source.found = Resolved(
        PackageSpec("far", "away", "1.0"),
        manifest=b"""
apiVersion: axon.mlos.io/v1
kind: Model
metadata: {name: away, namespace: far, version: "1.0", license: MIT}
spec:
  format:
    execution_format: gguf
    files: [{path: m.gguf, size: 5000000000, sha256: "%s"}]
    execution_files: [{path: m.gguf, format: gguf, type: main}]
  model: {parameters: 7000000000, context_length: 4096, architecture: llama}
  requirements:
    estimated: true
    compute: {memory: {min_gb: 999999, recommended_gb: 999999}}
"""
        % (b"0" * 64),
    )
    about = json.loads(axon("info", "far/away", "--json")[1])
    assert about["runs_here"]["answer"] == "no"
    assert about["parameters"] == 7_000_000_000
    out = axon("info", "far/away")[1]
    assert "this machine cannot run it as it is" in out
    assert "NO  memory          999999 GB at least" in out
    assert "7 billion" in out


def test_without_a_manifest_names_and_sizes_tell_what_is_needed_about(axon, source):
    parts = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    source.found = Resolved(
        PackageSpec("far", "away", "1.0"),
        files=tuple(RemoteFile(path, (), 3 * GB) for path in (*parts, "other.txt")),
    )
    about = json.loads(axon("info", "far/away", "--json")[1])
    assert [model["path"] for model in about["models"]] == parts[:1]
    assert about["estimate"]["least"] == 60_000_000 + 6 * GB
    assert about["requirements"]["storage"]["min_gb"] == 9
    assert about["runs_here"]["answer"] in ("yes", "no")
    source.found = Resolved(PackageSpec("far", "away", "1.0"), url="https://far.test/away")
    assert "more is known once it is installed" in axon("info", "far/away")[1]


def test_a_name_that_nothing_has_is_not_found(axon):
    code, _, err = axon("info", "nothing")
    assert code == 66
    assert "not installed" in err


def test_facts_come_from_the_header_where_an_older_manifest_has_none(home, folder):
    (folder / "model.onnx").write_bytes(weighty())
    model = axon_client.install(str(folder))
    replace = msgspec.structs.replace
    bare = replace(model.manifest.spec, model=Facts(), requirements=Requirements())
    old = InstalledModel(model.spec, model.path)
    old.__dict__["manifest"] = replace(model.manifest, spec=bare)
    about = info.about_installed(old, BIG)
    assert about["parameters"] == 16
    assert about["requirements"]["estimated"]
    assert about["runs_here"]["checks"][0]["arithmetic"].startswith("64.0 MB runtime")
