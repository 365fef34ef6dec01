# SPDX-License-Identifier: BUSL-1.1
import hashlib
import pickle

import pytest

import axon_client
from axon_client.errors import IntegrityError
from axon_client.spec import PackageSpec
from mlos_core.errors import InvalidInput, NotFound

IDENTITY = """
apiVersion: axon.mlos.io/v1
kind: Model
metadata: {name: digits, namespace: ada, version: "2.1"}
"""


def test_a_folder_is_installed_with_all_that_is_not_hidden(home, folder):
    model = axon_client.install(str(folder))
    assert str(model.spec) == "local/digits@0.0.0"
    assert [file.path for file in model.manifest.spec.format.files] == [
        "config.json",
        "labels/en.txt",
        "model.onnx",
    ]
    assert model.model_file() == model.path / "model.onnx"
    assert [spec.name for spec in model.manifest.spec.io.inputs] == ["x"]
    assert model.manifest.spec.framework.name == "onnx"


def test_the_store_can_be_chosen_by_the_caller(home, folder, tmp_path):
    for chosen in (tmp_path / "one", str(tmp_path / "two")):
        model = axon_client.install(str(folder), home=chosen)
        assert str(model.path).startswith(f"{chosen}/models/")
    assert not home.exists()


def test_the_original_may_change_afterwards(home, folder, onnx):
    model = axon_client.install(str(folder))
    (folder / "model.onnx").write_bytes(b"changed")
    assert model.model_file().read_bytes() == onnx()


def test_a_single_file_is_a_package(home, folder):
    model = axon_client.install(str(folder / "model.onnx"))
    assert str(model.spec) == "local/model@0.0.0"
    assert [file.path for file in model.manifest.spec.format.files] == ["model.onnx"]


def test_a_single_file_brings_its_external_weights(home, tmp_path, onnx):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "weights.bin").write_bytes(b"123")
    (tmp_path / "big.onnx").write_bytes(onnx(external={"a": "w/weights.bin"}))
    model = axon_client.install(str(tmp_path / "big.onnx"))
    assert (model.path / "w" / "weights.bin").read_bytes() == b"123"


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../b"])
def test_external_weights_may_not_lie_outside_the_package(home, tmp_path, onnx, location):
    (tmp_path / "dir").mkdir()
    (tmp_path / "secret").write_bytes(b"")
    (tmp_path / "dir" / "m.onnx").write_bytes(onnx(external={"a": location}))
    for path in ("dir", "dir/m.onnx"):
        with pytest.raises((IntegrityError, InvalidInput)) as caught:
            axon_client.install(str(tmp_path / path))
        assert location in caught.value.message


def test_missing_external_weights_are_named(home, tmp_path, onnx):
    (tmp_path / "m.onnx").write_bytes(onnx(external={"a": "gone.bin"}))
    with pytest.raises(InvalidInput, match=r"gone\.bin"):
        axon_client.install(str(tmp_path / "m.onnx"))


@pytest.mark.parametrize("name", ["manifest.yaml", "axon.yaml"])
def test_a_manifest_with_identity_only_is_completed(home, folder, name):
    (folder / name).write_text(IDENTITY)
    model = axon_client.install(str(folder))
    assert str(model.spec) == "ada/digits@2.1"
    assert len(model.manifest.spec.format.files) == 3
    assert model.choose().type == "main"


def manifest_for(folder, data, io=""):
    digest = hashlib.sha256(data).hexdigest()
    listed = f"{{path: model.onnx, size: {len(data)}, sha256: {digest}}}"
    spec = f"spec: {{format: {{type: onnx, files: [{listed}]}}{io}}}\n"
    (folder / "manifest.yaml").write_text(IDENTITY + spec)


def test_a_complete_manifest_chooses_the_files(home, folder, onnx, files_of):
    io = ", io: {inputs: [{name: renamed, dtype: float32}]}"
    manifest_for(folder, onnx(), io)
    model = axon_client.install(str(folder))
    assert files_of(model.path) == ["manifest.yaml", "model.onnx"]
    assert [spec.name for spec in model.io().inputs] == ["renamed"]
    assert model.choose().format == "onnx"


def test_a_file_that_is_not_the_listed_one_is_refused(home, folder):
    manifest_for(folder, b"something else")
    with pytest.raises(IntegrityError, match=r"model\.onnx"):
        axon_client.install(str(folder))


def test_a_listed_file_that_is_missing_is_named(home, folder, onnx):
    manifest_for(folder, onnx())
    (folder / "model.onnx").unlink()
    with pytest.raises(InvalidInput, match=r"model\.onnx"):
        axon_client.install(str(folder))


def test_two_manifests_are_one_too_many(home, folder):
    for name in ("manifest.yaml", "axon.yaml"):
        (folder / name).write_text(IDENTITY)
    with pytest.raises(InvalidInput, match="both"):
        axon_client.install(str(folder))


def test_a_link_to_a_file_is_followed_and_one_to_a_folder_is_refused(home, folder, tmp_path):
    (tmp_path / "blob").write_text("{}")
    (folder / "tokenizer.json").symlink_to(tmp_path / "blob")
    model = axon_client.install(str(folder))
    assert not (model.path / "tokenizer.json").is_symlink()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(InvalidInput, match="link to a folder"):
        axon_client.install(str(folder), replace=True)


def test_a_path_that_does_not_exist_is_not_found(home, tmp_path):
    with pytest.raises(NotFound, match="nowhere"):
        axon_client.install(str(tmp_path / "nowhere"))


def test_a_file_that_is_no_model_is_refused(home, folder):
    with pytest.raises(InvalidInput, match=r"config\.json"):
        axon_client.install(str(folder / "config.json"))


def test_a_pickle_is_refused_with_the_reason_unless_it_is_allowed(home, tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"weights": [1, 2]}))
    with pytest.raises(InvalidInput, match="pickle") as caught:
        axon_client.install(str(path))
    assert "--allow-pickle" in caught.value.hint


def test_a_broken_onnx_file_is_not_installed(home, store, folder):
    (folder / "model.onnx").write_bytes(b"version https://git-lfs")
    with pytest.raises(Exception, match=r"model\.onnx"):
        axon_client.install(str(folder))
    assert store.installed() == []


def test_a_package_can_be_given_another_name(home, folder):
    model = axon_client.install(str(folder), rename=PackageSpec("me", "org/d", "7"))
    assert str(model.spec) == "me/org/d@7"
    assert model.manifest.title == "me/org/d@7"


def test_an_unknown_namespace_names_the_known_ones(home):
    with pytest.raises(NotFound) as caught:
        axon_client.install("nope/model")
    assert "pypi" in caught.value.hint


def test_one_of_several_models_is_chosen_by_path_name_or_stem(home, folder, onnx):
    (folder / "det").mkdir()
    (folder / "model.onnx").rename(folder / "det" / "v1.onnx")
    (folder / "rec.onnx").write_bytes(onnx(inputs={"image": (1, [1])}))
    model = axon_client.install(str(folder))
    assert model.manifest.spec.io.inputs == []
    for name in ("det/v1.onnx", "v1.onnx", "v1"):
        assert model.model_file(name) == model.path / "det" / "v1.onnx"
    assert [spec.name for spec in model.io("rec").inputs] == ["image"]
    with pytest.raises(InvalidInput) as several:
        model.model_file()
    assert "det/v1.onnx, rec.onnx" in several.value.hint
    with pytest.raises(NotFound) as near:
        model.model_file("recc.onnx")
    assert "rec.onnx" in near.value.hint


def test_progress_ends_at_the_total(home, folder):
    steps = []
    axon_client.install(str(folder), progress=lambda *step: steps.append(step))
    last = {task: (done, total) for task, done, total in steps}
    assert set(last) == {"copy"}
    assert all(done == total > 0 for done, total in last.values())
