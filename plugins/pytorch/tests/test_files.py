# SPDX-License-Identifier: BUSL-1.1
import os
import pickle
import zipfile

import pytest

from mlos_core.errors import LoadFailed

torch = pytest.importorskip("torch", reason="torch is not installed")

files = pytest.importorskip("mlos_plugin_pytorch.files")
safetensors = pytest.importorskip("safetensors.torch")


@pytest.fixture
def linear():
    return torch.nn.Linear(3, 2)


@pytest.mark.parametrize("suffix", ["jit", "pt", "ts", "bin"])
def test_torchscript_is_known_by_its_content(suffix, script, linear):
    assert files.kind_of(script(linear, f"model.{suffix}")) == "torchscript"


@pytest.mark.parametrize("suffix", ["pt2", "pt"])
def test_an_exported_program_is_known_by_its_content(suffix, export, linear):
    file = export(linear, torch.zeros(1, 3))
    assert files.kind_of(file.rename(file.with_suffix(f".{suffix}"))) == "exported"


@pytest.mark.parametrize("zipped", [True, False])
def test_a_checkpoint_is_known_to_be_a_pickle(zipped, tmp_path, linear):
    for thing in (linear, linear.state_dict()):
        torch.save(thing, tmp_path / "m.pt", _use_new_zipfile_serialization=zipped)
        assert files.kind_of(tmp_path / "m.pt") == "pickle"


def test_safetensors_are_known_by_their_header(tmp_path, linear):
    safetensors.save_file(linear.state_dict(), tmp_path / "weights")
    assert files.kind_of(tmp_path / "weights") == "safetensors"


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["m/archive_format", "m/data/aotinductor/model/a.so"], "compiled"),
        (["m/archive_format", "m/models/model.json"], "exported"),
        (["serialized_exported_program.json", "version"], "exported"),
        (["m/data.pkl", "m/constants.pkl", "m/code/a.py"], "torchscript"),
        (["m/data.pkl", "m/version"], "pickle"),
        (["readme.txt"], None),
    ],
)
def test_an_archive_is_what_its_members_are(names, kind):
    assert files.kind_of_archive(names) == kind


def test_rubbish_and_broken_files_are_load_failures(tmp_path, load):
    rubbish = tmp_path / "rubbish.pt"
    rubbish.write_bytes(b"no model at all")
    with pytest.raises(LoadFailed, match=r"rubbish\.pt is no TorchScript, no exported"):
        load(rubbish)
    rubbish.write_bytes(b"")
    with pytest.raises(LoadFailed, match="is no TorchScript"):
        load(rubbish)
    rubbish.write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(LoadFailed, match="cannot be read"):
        load(rubbish)
    with zipfile.ZipFile(rubbish, "w") as archive:
        for name in ("m/constants.pkl", "m/data.pkl", "m/code/a.py"):
            archive.writestr(name, "no")
    with pytest.raises(LoadFailed, match=r"torch cannot load rubbish\.pt: "):
        load(rubbish)
    with pytest.raises(LoadFailed, match="does not exist"):
        load(tmp_path / "none.pt")


def test_a_pickle_is_refused_with_the_reason_and_never_loaded(tmp_path, load):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    (tmp_path / "bomb.pt").write_bytes(pickle.dumps(Bomb(), protocol=2))
    with pytest.raises(LoadFailed, match=r"run whatever code it holds .*safetensors"):
        load(tmp_path / "bomb.pt")
    with pytest.raises(LoadFailed):
        load(tmp_path / "bomb.pt", weights_only=True, module="torch.nn:Identity")
    assert not (tmp_path / "exploded").exists()


def test_a_folder_with_one_model_needs_no_option(script, linear, load):
    path = script(linear, "only.jit")
    assert load(path.parent, inputs="input:float32[?,3]").signature.batched


def test_of_several_files_one_must_be_named(tmp_path):
    for name in ("a.pt", "b.safetensors"):
        (tmp_path / name).touch()
    with pytest.raises(LoadFailed, match=r"option file: a\.pt, b\.safetensors"):
        files.model_file(tmp_path, None)
    assert files.model_file(tmp_path, "a.pt") == tmp_path / "a.pt"
    with pytest.raises(LoadFailed, match=r"no file 'c\.pt'"):
        files.model_file(tmp_path, "c.pt")


def test_a_pipe_on_which_loading_would_hang_is_no_model(tmp_path):
    os.mkfifo(tmp_path / "pipe.pt")
    for path in (tmp_path, tmp_path / "pipe.pt"):
        with pytest.raises(LoadFailed):
            files.model_file(path, None)


def test_no_file_outside_the_folder_can_be_named(tmp_path):
    folder = tmp_path / "package"
    folder.mkdir()
    (tmp_path / "a.pt").touch()
    (folder / "link.pt").symlink_to(tmp_path / "a.pt")
    for name in ("../a.pt", "link.pt", str(tmp_path / "a.pt")):
        with pytest.raises(LoadFailed, match="has no file"):
            files.model_file(folder, name)
