# SPDX-License-Identifier: BUSL-1.1
"""What the safetensors parser gives back of files that are right, one or several."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors_writer

from mlos_core.errors import LoadFailed, Unsupported
from mlos_core.synapse import safetensors
from mlos_core.synapse.weights import open_model

DATA = Path(__file__).parent / "data"


def parse(content):
    return safetensors.parse(memoryview(content))


def test_tensors_come_back_as_views():
    first, second = np.arange(6, dtype=np.float32), np.arange(4, dtype=np.uint16)
    content = safetensors_writer.write(
        {"first": ("F32", (2, 3), first.tobytes()), "second": ("BF16", (4,), second.tobytes())}
    )
    found = parse(content)
    assert [(t.name, t.dtype, t.shape) for t in found.values()] == [
        ("first", "F32", (2, 3)),
        ("second", "BF16", (4,)),
    ]
    assert bytes(found["first"].data) == first.tobytes()
    assert bytes(found["second"].data) == second.tobytes()
    assert found["first"].data.obj is content


def test_metadata_and_empty_tensors_are_allowed():
    content = safetensors_writer.write(
        {"none": ("F32", (0, 3), b""), "one": ("I64", (), bytes(8))}, metadata={"format": "pt"}
    )
    assert {name: t.data.nbytes for name, t in parse(content).items()} == {"none": 0, "one": 8}


def test_a_file_without_tensors_is_allowed():
    assert parse(safetensors_writer.write({})) == {}


@pytest.fixture
def parts(tmp_path):
    """A model in three files, and a function that rewrites its index."""
    folder = Path(shutil.copytree(DATA / "mistral", tmp_path / "mistral"))
    index = folder / safetensors.INDEX

    def rewrite(change):
        content = json.loads(index.read_text())
        change(content["weight_map"])
        index.write_text(json.dumps(content))

    return folder, rewrite


def test_parts_are_found_by_their_index(parts):
    folder, _ = parts
    with open_model(folder) as files:
        assert [path.name for path in files.paths] == [
            f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)
        ]


@pytest.mark.parametrize("name", ["../mistral/x", "/etc/passwd", "", ".", "..", "a\0b"])
def test_an_index_names_only_files_of_its_folder(parts, name):
    folder, rewrite = parts
    rewrite(lambda where: where.update({"model.norm.weight": name}))
    with pytest.raises(LoadFailed):
        open_model(folder)


def test_a_part_that_is_missing_is_named(parts):
    folder, _ = parts
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(LoadFailed, match="model-00002-of-00003"):
        open_model(folder)


def test_a_tensor_that_its_part_does_not_have_is_named(parts):
    folder, rewrite = parts
    rewrite(lambda where: where.update({"lm_head.bias": "model-00001-of-00003.safetensors"}))
    with pytest.raises(LoadFailed, match=r"does not have tensor 'lm_head\.bias'"):
        open_model(folder)


def test_a_tensor_missing_from_the_index_is_missing(parts):
    folder, rewrite = parts
    rewrite(lambda where: where.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(LoadFailed, match=r"1 tensors are missing: blk\.1\.ffn_up\.weight"):
        open_model(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": {"a": 1}}', "[" * 100_000])
def test_an_index_that_is_none_is_refused(parts, content):
    folder, _ = parts
    (folder / safetensors.INDEX).write_text(content)
    with pytest.raises(LoadFailed, match=r"model\.safetensors\.index\.json"):
        open_model(folder)


def test_weights_in_another_format_are_told_apart(parts):
    folder, _ = parts
    for path in folder.glob("model*"):
        path.unlink()
    with pytest.raises(LoadFailed, match=r"model\.safetensors"):
        open_model(folder)
    (folder / "pytorch_model.bin").write_bytes(b"PK")
    with pytest.raises(Unsupported, match="PyTorch"):
        open_model(folder)


def test_data_behind_an_odd_header_are_copied_to_where_they_may_lie(tmp_path):
    folder = Path(shutil.copytree(DATA / "llama", tmp_path / "llama"))
    path = folder / safetensors.SINGLE
    path.write_bytes(safetensors_writer.pad_header(path.read_bytes(), 3))
    with open_model(folder) as odd, open_model(DATA / "llama") as even:
        for name, tensor in odd.tensors.items():
            assert np.frombuffer(tensor.data, np.uint8).ctypes.data % 4 == 0
            assert bytes(tensor.data) == bytes(even.tensors[name].data)
