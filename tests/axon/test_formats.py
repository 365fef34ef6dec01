# SPDX-License-Identifier: BUSL-1.1
import zipfile

import pytest

from axon_client.formats import choose_main, format_of, is_companion, is_pickle
from axon_client.manifest import ExecutionFile


@pytest.mark.parametrize(
    ("path", "format"),
    [
        ("a/model.onnx", "onnx"),
        ("M.ONNX", "onnx"),
        ("m.Q4_1.gguf", "gguf"),
        ("m-00001-of-00003.safetensors", "safetensors"),
        ("m-00002-of-00003.safetensors", ""),
        ("m.jit", "torchscript"),
        ("m.bin", ""),
        ("onnx", ""),
    ],
)
def test_a_suffix_tells_the_format(path, format):
    assert format_of(path) == format


@pytest.mark.parametrize(
    ("package", "paths", "main"),
    [
        ("nudenet", ["320n.onnx"], "320n.onnx"),
        (
            "silero-vad",
            ["silero_vad.jit", "silero_vad.onnx", "silero_vad_half.onnx"],
            "silero_vad.onnx",
        ),
        ("bert", ["onnx/model.onnx", "model.safetensors"], "onnx/model.onnx"),
        ("org/bert", ["a/bert.gguf", "b/other.gguf"], "a/bert.gguf"),
        ("ocr", ["det.onnx", "rec.onnx", "cls.onnx"], ""),
        ("x", ["a/model.onnx", "b/model.onnx"], ""),
        ("x", ["model.onnx", "model.gguf"], "model.onnx"),
        ("x", [], ""),
    ],
)
def test_the_main_model_is_the_only_one_or_the_one_with_the_packages_name(package, paths, main):
    models = [ExecutionFile(path, format_of(path)) for path in paths]
    assert choose_main(package, models) == main


def test_configuration_and_tokenizers_belong_to_a_model_and_code_does_not():
    assert all(map(is_companion, ["a/config.json", "vocab.txt", "c.yaml", "sp.model"]))
    assert not any(map(is_companion, ["model.py", "lib.so", "README.md", "x.exe"]))


def test_torchscript_is_told_from_a_pickled_checkpoint_without_opening_either(tmp_path):
    for name, member in (("script.pt", "m/code/__torch__.py"), ("pickle.pt", "m/data.pkl")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(member, "")
    (tmp_path / "old.pt").write_bytes(b"\x80\x02")
    assert not is_pickle(tmp_path / "script.pt")
    assert is_pickle(tmp_path / "pickle.pt")
    assert is_pickle(tmp_path / "old.pt")
