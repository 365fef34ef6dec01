# SPDX-License-Identifier: BUSL-1.1
"""What may run code when it is opened is refused, and everything else is not."""

import io
import pickle
import tarfile
import warnings
import zipfile

import numpy as np
import pytest

import axon_client
from axon_client import manifest as manifests
from axon_client import safety
from axon_client.describe import complete
from axon_client.installer import InstallOptions
from axon_client.manifest import ExecutionFile, Format, Framework, Metadata, Spec
from mlos_core.errors import InvalidInput

CHECKPOINT = pickle.dumps({"w": [1.0, 2.0]}, protocol=2)


def archive(*names, **files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name in names:
            zipped.writestr(name, b"")
        for name, data in files.items():
            zipped.writestr(name, data)
    return out.getvalue()


def script(code):
    pickled = b"\x80\x02c__torch__\nNet\n)\x81."
    members = {"m/code/__torch__.py": code, "m/data.pkl": pickled, "m/constants.pkl": b""}
    return archive(**members)


def twice(*pairs):
    """An archive whose members need not have names of their own."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as zipped, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, data in pairs:
            zipped.writestr(name, data)
    return out.getvalue()


def shadowed(folder):
    """TorchScript with two texts of one class, of which PyTorch takes the first."""
    harmless = b"class Net(Module):\n  pass\n"
    return twice(
        ("m/data.pkl", b"\x80\x02c__torch__\nNet\n)\x81."),
        ("m/constants.pkl", b""),
        (f"m/{folder}/__torch__.py", harmless + b"    torch.save(x, '/etc/x')\n"),
        ("m/code/__torch__.py", harmless),
    )


def array(value):
    out = io.BytesIO()
    np.save(out, value, allow_pickle=True)
    return out.getvalue()


class Calling:
    def __reduce__(self):
        return print, ("called",)


CALLS = [pickle.dumps(Calling(), protocol) for protocol in range(6)]
MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=0)
"""What PyTorch's files began with before they were archives."""


def header(descr, data=CALLS[2]):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': (1,), }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def tar(**files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


SAFE = {
    "m.onnx": b"\x80\x02}q\x00.",
    "m.gguf": b"GGUF",
    "m.safetensors": b"",
    "script.pt": script(
        b"class Net(Module):\n  def save(self: __torch__.Net) -> int:\n    return 1\n"
    ),
    "program.pt2": archive("m/models/model.json", "m/data/sample_inputs/model.pt"),
    "program.pt": archive("m/models/model.json"),
    "weights.bin": bytes(1000),
    "version.bin": b"\x80\x02\xff\xfe not opcodes",
    "a.npy": array(np.ones(3)),
    "a.npz": archive(**{"a.npy": array(np.ones(3))}),
    "m.keras": archive(**{"config.json": b'{"class_name": "Sequential"}'}),
    "parts.keras": archive(**{"config.json": b'{"a": [{"module": "keras.layers"}]}'}),
    "own.keras": archive(
        **{
            "config.json": b'[{"module": "keras", "class_name": "Sequential"},'
            b'{"module": "keras.src.models.functional", "class_name": "Functional"},'
            b'{"module": "keras.src.layers.core.dense", "class_name": "Dense"},'
            b'{"module": "keras.layers", "config": {"vocabulary": null}}]'.join(
                (b'{"layers": ', b"}")
            )
        }
    ),
    "own.h5": b'\x89HDF\r\n\x1a\n{"module": "keras"} {"module": "keras.src.layers.core"}',
    "vocab.txt": CHECKPOINT,
    "spiece.model": b"\n\x05\n\x03<s>",
    "NOTICE": b"copyright\nsomebody\nand others\n",
    "LICENSE": b"(c) 2024\nIt may be used.\n",
    "words.dat": b"In the beginning\n",
    "names.lst": b"cat\ndog\nbird\n",
    "number.dat": pickle.dumps(1, protocol=0),
    "weights.raw": b"X\xff\xff\xff\x00" + bytes(100),
    "plain.tar": tar(a=b"text"),
    "structured.npy": array(np.zeros(2, dtype=[("Other", "<f4", (2,)), ("b", "S3")])),
    "times.npy": array(np.zeros(2, dtype="datetime64[ns]")),
    "python2.npy": header("'<f4'").replace(b"(1,)", b"(1L,)"),
}
UNSAFE = {
    "writes.pt": script(b"class Net(Module):\n    torch.save(x, '/etc/x')\n"),
    "method.pt": script(b"class Net(Module):\n    (x) . save ('/etc/x')\n"),
    "maps.jit": script(b"    _0 = torch.from_file('/dev/mem', True, 4)\n"),
    "calls.pt": script(b"    rpc.rpc_sync('worker', f, ())\n"),
    "twice.pt": shadowed("code"),
    "upper.pt": shadowed("CODE"),
    "twice.keras": twice(("config.json", b'{"class_name": "Lambda"}'), ("config.json", b"{}")),
    "large.pt": script(b"#" * ((16 << 20) + 1)),
    "broken.keras": b"PK\x03\x04 cut off",
    "large.keras": archive(**{"config.json": b"[" + b" " * (8 << 20) + b"]"}),
    "other.keras": archive(**{"config.json": b'{"a": {"module": "builtins"}}'}),
    "other.h5": b'\x89HDF\r\n\x1a\n{"module": "builtins", "class_name": "eval"}',
    "saved_model.pb": b"\xff\xff",
    "saved_model.pbtxt": b"",
    "model.py": b"",
    "many.npz": archive(*(f"{n}.npy" for n in range(10_001))),
    "bare.pt2": archive("models/model.json", "data/aotinductor/model/x.cpp"),
    "saved_model.cpb": b"",
    "m.pkl": b"",
    "m.PICKLE": b"cos\nsystem\n",
    "m.joblib": b"x",
    "m.dill": b"x",
    "m.pkl.gz": b"x",
    "first.bin": CALLS[0],
    "second.ckpt": CALLS[1],
    "row.bin": MAGIC + CALLS[0],
    "padded.bin": b"V" + bytes(200_000) + b"\n0" + CALLS[0],
    "hex.bin": b"I0x1\n0" + CALLS[0],
    "many.bin": b"N0" * 10_000 + CALLS[0],
    "cut.bin": CALLS[0].removesuffix(b"."),
    "upper.bin": archive("archive/DATA.PKL"),
    "old.ckpt": tar(storages=CALLS[2], tensors=CALLS[2], pickle=CALLS[2]),
    "unknown.weights": CALLS[4],
    "shard.ckpt-1000": archive("archive/data.pkl"),
    "program.with.pt2": archive("m/models/model.json", "m/data.pkl"),
    "program.with.pt": archive("m/models/model.json", "m/Data.pkl"),
    "raw.npy": CALLS[4],
    "archive.npy": archive(**{"a.npy": header("'|O'")}),
    "letter.npy": header("'O'"),
    "hidden.npy": header(r"'\x7c\x4f'"),
    "word.npy": header("'object'"),
    "field.npy": header("[('a', '<f4'), ('b', [('c', 'O')])]"),
    "shaped.npy": header("('O', (2,))"),
    "nonsense.npy": header("[[["),
    "state.pt": archive("m/data.pkl"),
    "state.pth": CHECKPOINT,
    "old.pt": b"anything else",
    "pytorch_model.bin": archive("archive/data.pkl"),
    "optimizer.bin": CHECKPOINT,
    "m.ckpt": pickle.dumps([1], protocol=4),
    "README": CHECKPOINT,
    "compiled.pt2": archive("m/archive_format", "m/data/aotinductor/model/x.so"),
    "objects.npy": array(np.array([{}], dtype=object)),
    "objects.npz": archive(**{"a.npy": array(np.ones(3)), "b.npy": array(np.array([{}]))}),
    "lambda.keras": archive(**{"config.json": b'{"a": [{"class_name": "Lambda"}]}'}),
    "loader.keras": archive(
        **{"config.json": b'{"a": {"module": "keras.models", "class_name": "function"}}'}
    ),
    "unsafe.keras": archive(**{"config.json": b'{"module": "keras.config", "config": "x"}'}),
    "inner.keras": archive(**{"config.json": b'{"module": "keras.src.utils.file_utils"}'}),
    "like.keras": archive(**{"config.json": b'{"module": "layers"}'}),
    "torch.keras": archive(**{"config.json": b'{"class_name": "TorchModuleWrapper"}'}),
    "reads.keras": archive(**{"config.json": b'{"config": {"vocabulary": "/etc/passwd"}}'}),
    "spaced.h5": b'\x89HDF\r\n\x1a\n{"class_name" : "Lambda"}',
    "escaped.h5": b'\x89HDF\r\n\x1a\n{"\\u0063lass_name": "Lambda"}',
    "module.h5": b'\x89HDF\r\n\x1a\n{"modul\\u0065": "os", "class_name": "system"}',
    "unsafe.h5": b'\x89HDF\r\n\x1a\n{"module": "keras.config", "class_name": "function"}',
    "reads.h5": b'\x89HDF\r\n\x1a\n{"vocabulary": "/etc/passwd"}',
    "lambda.h5": b'\x89HDF\r\n\x1a\n{"class_name": "Lambda"}',
}


@pytest.mark.parametrize("name", SAFE)
def test_data_is_safe(tmp_path, name):
    (tmp_path / name).write_bytes(SAFE[name])
    assert safety.why_unsafe(tmp_path / name) == ""


@pytest.mark.parametrize("name", UNSAFE)
def test_what_may_run_code_is_named_with_the_reason(tmp_path, name):
    (tmp_path / name).write_bytes(UNSAFE[name])
    assert safety.why_unsafe(tmp_path / name)


def test_a_folder_tells_all_of_its_files(tmp_path):
    for name, data in (SAFE | UNSAFE).items():
        (tmp_path / name).write_bytes(data)
    assert set(safety.unsafe_files(tmp_path, SAFE | UNSAFE)) == set(UNSAFE)


def test_a_refusal_shows_a_few_and_counts_the_rest():
    with pytest.raises(InvalidInput) as caught:
        safety.refuse("local/x@1", {f"{n}.pkl": "a pickle" for n in range(9)})
    assert "4.pkl is a pickle; and 4 more" in caught.value.message
    assert "--allow-pickle" in caught.value.hint
    safety.refuse("local/x@1", {})


@pytest.mark.parametrize(
    "spec",
    [
        Spec(format=Format(type="Python")),
        Spec(format=Format(execution_format="python")),
        Spec(framework=Framework("python", "3.11")),
        Spec(format=Format(execution_files=[ExecutionFile("a/main.py", "onnx")])),
        Spec(format=Format(execution_files=[ExecutionFile("m.onnx", "python")])),
    ],
)
def test_a_manifest_cannot_have_the_runtime_run_the_packages_code(tmp_path, onnx, spec):
    assert safety.code_named_by(spec)
    (tmp_path / "m.onnx").write_bytes(onnx())
    manifest = manifests.new(Metadata("m", "local", "1"), spec) if _lists_nothing(spec) else None
    if manifest:
        with pytest.raises(InvalidInput, match="runtime would run"):
            complete(manifest, tmp_path)
        assert complete(manifest, tmp_path, allow_pickle=True).spec.format.pickled


def _lists_nothing(spec):
    return not spec.format.execution_files


def test_other_words_ask_for_no_code():
    assert not safety.code_named_by(Spec(framework=Framework("pytorch")))


@pytest.fixture
def mixed(tmp_path, onnx):
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(onnx())
    (folder / "state.pt").write_bytes(UNSAFE["state.pt"])
    return folder


def test_a_package_with_a_pickle_is_refused_and_nothing_is_left(home, store, mixed):
    with pytest.raises(InvalidInput, match="is a pickle"):
        axon_client.install(str(mixed))
    assert store.installed() == []


def test_a_package_with_a_pickle_that_is_allowed_is_marked(home, mixed):
    model = axon_client.install(str(mixed), options=InstallOptions(allow_pickle=True))
    format = model.manifest.spec.format
    assert format.pickled
    assert {file.path: file.format for file in format.execution_files} == {
        "model.onnx": "onnx",
        "state.pt": "pickle",
    }
    assert model.choose().path == "model.onnx"
    assert model.manifest_for("state")["spec"]["format"]["pickled"]


def test_a_package_without_is_not_marked(home, folder):
    assert not axon_client.install(str(folder)).manifest.spec.format.pickled


def test_a_checkpoint_alone_is_a_model_once_it_is_allowed(home, tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "pytorch_model.bin").write_bytes(UNSAFE["pytorch_model.bin"])
    with pytest.raises(InvalidInput, match="runs the code"):
        axon_client.install(str(tmp_path / "own"))
    options = InstallOptions(allow_pickle=True)
    model = axon_client.install(str(tmp_path / "own"), options=options)
    assert model.choose().format == "pickle"
    assert model.manifest.spec.framework.name == "pytorch"
