# SPDX-License-Identifier: BUSL-1.1
"""Models from packages: through the channel the same bits as onnxruntime in process.

What "the same" means where requests are joined: onnxruntime itself gives other last bits
for a row that is computed with others (its kernels sum in another order), so a joined
request equals the row of the same batch in process, not always the row computed alone.
magika and the text recogniser are such models; the text detector and the direction
classifier give the same bits either way.
"""

import asyncio
import itertools
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

import axon_client
from mlos_core.client import connect, connect_async
from tests.conftest import Daemon

from .transports import at_once

ort = pytest.importorskip("onnxruntime")
pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]

THREADS = {"intra_op_num_threads": 1}
BATCH = {"max_batch_size": 4, "max_queue_delay_us": 200_000}


def image(*shape):
    return lambda random: {"x": random.standard_normal(shape, np.float32)}


def voice(random):
    return {
        "input": random.standard_normal((1, 576), np.float32),
        "state": random.standard_normal((2, 1, 128), np.float32),
        "sr": np.array(16000, np.int64),
    }


def file_bytes(random):
    return {"bytes": random.integers(0, 257, (1, 2048), np.int32)}


CASES = {
    "voice": ("pypi/silero-vad@6.2.1", "silero_vad.onnx", voice),
    "files": ("pypi/magika@1.0.3", "model.onnx", file_bytes),
    "detection": ("pypi/rapidocr@3.10.0", "_det_", image(1, 3, 64, 96)),
    "direction": ("pypi/rapidocr@3.10.0", "_cls_", image(1, 3, 48, 192)),
    "recognition": ("pypi/rapidocr@3.10.0", "_rec_", image(1, 3, 48, 160)),
}
BATCHED = ["files", "direction", "recognition"]


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Each case's model file, installed with axon into a store of this session."""
    home = tmp_path_factory.mktemp("axon")
    found = {}
    for case, (package, word, _) in CASES.items():
        model = axon_client.install(package, home=home)
        (name,) = [m.path for m in model.models if word in Path(m.path).name]
        found[case] = (model.model_file(name), model.manifest_for(name))
    return found


@pytest.fixture(scope="module")
def daemon(files):
    with tempfile.TemporaryDirectory(prefix="mlos-test-") as name:
        running = Daemon(Path(name), {}).start()
        try:
            for case, (file, manifest) in files.items():
                known = {"path": str(file), "plugin": "onnx", "manifest": manifest}
                running.call("register", name=case, options=THREADS, **known)
                if case in BATCHED:
                    options = {**THREADS, "batched": True}
                    joined = {"name": f"{case}-joined", "batch": BATCH, "options": options}
                    running.call("register", **joined, **known)
            yield running
        finally:
            clean = running.clean_up()
        assert clean


@pytest.fixture
def in_process(files):
    """`in_process(case)` gives a function that runs the model with onnxruntime alone."""

    def open_session(case):
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(
            os.fspath(files[case][0]), options, providers=["CPUExecutionProvider"]
        )
        names = [output.name for output in session.get_outputs()]
        return lambda inputs: dict(zip(names, session.run(None, inputs), strict=True))

    return open_session


def questions(case, count):
    make = CASES[case][2]
    return [make(np.random.default_rng(seed)) for seed in range(count)]


def bits(answer):
    return {name: (a.dtype, a.shape, a.tobytes()) for name, a in answer.items()}


@pytest.mark.parametrize("case", CASES)
def test_every_client_gives_the_bits_of_onnxruntime(case, daemon, in_process):
    run, asked = in_process(case), questions(case, 4)
    expected = [bits(run(inputs)) for inputs in asked]

    async def ask_async():
        async with await connect_async(daemon.socket) as client:
            model = await client.model(case)
            return [bits(await model.infer(inputs)) for inputs in asked]

    with connect(daemon.socket) as client:
        model = client.model(case)
        for _ in range(3):
            assert [bits(model.infer(inputs)) for inputs in asked] == expected
        call = model.prepare(asked[0])
        for inputs, right in [*zip(asked, expected, strict=True)] * 2:
            for name, array in inputs.items():
                call.inputs[name][...] = array
            assert bits(call()) == right
    assert asyncio.run(ask_async()) == expected


@pytest.mark.parametrize("rows", [2, 5])
@pytest.mark.parametrize("case", [*BATCHED, "detection"])
def test_a_batch_made_by_the_caller_is_the_batch_in_process(case, rows, daemon, in_process):
    (name,) = questions(case, 1)[0]
    whole = {name: np.concatenate([inputs[name] for inputs in questions(case, rows)])}
    with connect(daemon.socket) as client:
        assert bits(client.model(case).infer(whole)) == bits(in_process(case)(whole))


@pytest.mark.parametrize("case", BATCHED)
def test_requests_that_are_joined_are_the_rows_of_that_batch(case, daemon, in_process):
    """Four requests of one client fill a batch, in the order in which they were sent."""
    asked = questions(case, 4)
    (name,) = asked[0]
    (expected,) = in_process(case)({name: np.concatenate([q[name] for q in asked])}).values()
    before = stats(daemon, case)
    with connect(daemon.socket) as client:
        model = client.model(f"{case}-joined", reply_bytes=16 << 20)
        futures = [model.submit(inputs) for inputs in asked]
        answers = [next(iter(future.result().values())).copy() for future in futures]
    after = stats(daemon, case)
    assert after["executions"] == before["executions"] + 1
    assert np.concatenate(answers).tobytes() == expected.tobytes()


@pytest.mark.parametrize("case", BATCHED)
def test_requests_of_several_clients_are_joined_in_some_order(case, daemon, in_process):
    asked = questions(case, 3)
    (name,) = asked[0]
    run, right = in_process(case), [set() for _ in asked]
    for size in (1, 2, 3):
        for order in itertools.permutations(range(3), size):
            (rows,) = run({name: np.concatenate([asked[i][name] for i in order])}).values()
            for place, index in enumerate(order):
                right[index].add(rows[place].tobytes())

    def ask(index):
        with connect(daemon.socket) as client:
            model = client.model(f"{case}-joined")
            return [next(iter(model.infer(asked[index]).values())).tobytes() for _ in range(4)]

    for index, answers in enumerate(at_once([lambda i=i: ask(i) for i in range(3)])):
        assert set(answers) <= right[index]


def stats(daemon, case):
    return daemon.call("stats", name=f"{case}-joined")[f"{case}-joined"]


def test_a_recurrent_model_keeps_step_with_its_state(daemon, in_process):
    run, random = in_process("voice"), np.random.default_rng(7)
    inputs = {**voice(random), "state": np.zeros((2, 1, 128), np.float32)}
    alone = dict(inputs)
    with connect(daemon.socket) as client:
        model = client.model("voice")
        call = model.prepare(inputs)
        remembered = inputs["state"]
        for _ in range(50):
            sound = random.standard_normal((1, 576), np.float32)
            alone["input"] = sound
            expected = run(alone)
            alone["state"] = expected["stateN"]
            got = model.infer({"input": sound, "state": remembered, "sr": inputs["sr"]})
            call.inputs["input"][...] = sound
            again = call()
            assert bits(got) == bits(again) == bits(expected)
            remembered = got["stateN"].copy()
            call.inputs["state"][...] = again["stateN"]
