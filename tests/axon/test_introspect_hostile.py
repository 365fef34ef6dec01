# SPDX-License-Identifier: BUSL-1.1
"""Every reader over files that are damaged at random: they are read or refused, and quickly."""

import json
import random
import resource
import subprocess
import sys
import zipfile

import gguf_writer as gg
import pytest
import safetensors_writer as st

from axon_client.introspect import read
from mlos_core.errors import LoadFailed

from .test_introspect_tensorflow import FUNCTIONAL, SERVING, index, saved_model
from .test_introspect_weights import KEYS, TENSORS

ROUNDS = 150


def zipped(path, members):
    with zipfile.ZipFile(path, "w") as out:  # stored: what is changed is what is read
        for name, data in members.items():
            out.writestr(name, data)
    return path.read_bytes()


PICKLE = (
    b"\x80\x02c__torch__\nNet\nq\x00)\x81q\x01(X\x01\x00\x00\x00wq\x02ctorch._utils\n"
    b"_rebuild_tensor_v2\nq\x03((X\x07\x00\x00\x00storageq\x04ctorch\nFloatStorage\nq\x05"
    b"X\x01\x00\x00\x000q\x06X\x03\x00\x00\x00cpuq\x07K\x04tq\x08QK\x00K\x04\x85q\x09"
    b"K\x01\x85q\x0a\x89}q\x0btq\x0cRq\x0du}q\x0eb."
)
CODE = b"class Net(Module):\n  def forward(self: __torch__.Net,\n    x: Tensor) -> Tensor:\n"
PROGRAM = {
    "graph_module": {
        "graph": {"tensor_values": {"x": {"dtype": 7, "sizes": [{"as_int": 3}]}}},
        "signature": {
            "input_specs": [{"user_input": {"arg": {"as_tensor": {"name": "x"}}}}],
            "output_specs": [{"user_output": {"arg": {"as_tensor": {"name": "x"}}}}],
        },
    }
}


@pytest.fixture
def samples(tmp_path, onnx):
    path = tmp_path / "made.zip"
    script = {"m/data.pkl": PICKLE, "m/constants.pkl": b"", "m/code/__torch__.py": CODE}
    return {
        "onnx": onnx(weights=["w"], external={"e": "w.bin"}),
        "gguf": gg.write(KEYS, TENSORS),
        "safetensors": st.write({"a": ("F32", [2, 3], bytes(24)), "b": ("I64", [1], bytes(8))}),
        "torchscript": zipped(path, script),
        "pickle": zipped(path, {"m/data.pkl": PICKLE}),
        "pt2": zipped(path, {"m/models/model.json": json.dumps(PROGRAM).encode()}),
        "keras": zipped(path, {"config.json": json.dumps(FUNCTIONAL).encode()}),
        "savedmodel": saved_model(SERVING, nodes=["MatMul"]),
    }


FORMATS = (
    "onnx", "gguf", "safetensors", "torchscript", "pickle", "pt2", "keras", "savedmodel",
)  # fmt: skip


@pytest.mark.parametrize("format", FORMATS)
def test_a_sound_sample_is_read(samples, tmp_path, format):
    path = tmp_path / f"m.{format}"
    path.write_bytes(samples[format])
    header = read(path, format)
    assert header.io.inputs or header.parameters


@pytest.mark.parametrize("format", FORMATS)
def test_a_damaged_file_is_read_or_refused_and_nothing_else(samples, tmp_path, format):
    chance = random.Random(format)
    path = tmp_path / f"m.{format}"
    for _ in range(ROUNDS):
        data = bytearray(samples[format])
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, 0x28))
        if chance.random() < 0.3:
            del data[chance.randrange(len(data)) :]
        path.write_bytes(data)
        try:
            read(path, format)
        except LoadFailed as error:
            assert error.message  # noqa: PT017


def test_an_index_of_variables_may_be_damaged_too(samples, tmp_path):
    good = index({f"v{n}": (1, [2, 2], 16) for n in range(9)})
    chance = random.Random(0)
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(samples["savedmodel"])
    for _ in range(ROUNDS):
        data = bytearray(good)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        (tmp_path / "variables" / "variables.index").write_bytes(data)
        try:
            read(tmp_path, "savedmodel")
        except LoadFailed as error:
            assert error.message  # noqa: PT017


EMPTY = b'{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
BOMBS = {
    "safetensors": lambda: st.raw(
        b"{" + b",".join(b'"%d":%b' % (n, EMPTY) for n in range(200_000)) + b"}"
    ),
    "gguf": lambda: gg.start(0, 1 << 16) + (gg.text("k") + b"\0\0\0\0\0") * (1 << 16),
    "onnx": lambda: b"\x3a\x80\xc8\xd0\x07" + b"\x78\x00" * 8_000_000,
    "savedmodel": lambda: b"\x12\x80\xc8\xd0\x07\x12" + b"\x78\x00" * 8_000_000,
}


@pytest.mark.parametrize("format", BOMBS)
def test_a_file_of_nothing_but_small_parts_takes_bounded_memory(tmp_path, format):
    """In a process of its own, which may have half a GB of addresses beyond the file."""
    path = tmp_path / f"m.{format}"
    path.write_bytes(BOMBS[format]())
    code = (
        "import sys\nfrom pathlib import Path\nfrom axon_client.introspect import read\n"
        "from mlos_core.errors import LoadFailed\n"
        "try:\n    read(Path(sys.argv[1]), sys.argv[2])\n"
        "except LoadFailed:\n    print('refused')\nelse:\n    print('read')\n"
    )
    limit = (512 << 20) + path.stat().st_size
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(path), format],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert done.stdout.strip() in ("refused", "read"), done.stderr[-500:]
