# SPDX-License-Identifier: BUSL-1.1
"""Archives of PyTorch: what the readers say, held against torch itself."""

import io
import pickle
import struct
import warnings
import zipfile

import pytest

from axon_client.introspect import notation, pickles, read, torchscript
from axon_client.manifest import IOSpec
from mlos_core.errors import LoadFailed

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch")


class Net(torch.nn.Module):
    """Two inputs, tied weights, a buffer, half precision."""

    def __init__(self):
        super().__init__()
        self.a = torch.nn.Linear(3, 4)
        self.b = torch.nn.Linear(3, 4)
        self.b.weight = self.a.weight
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.short = torch.nn.Parameter(torch.ones(5, dtype=torch.float16))

    def forward(self, x, rate: int, mask: torch.Tensor | None = None):
        y = self.a(x) + self.b(x) * rate
        return (y, y.sum()) if mask is None else (y * mask, y.sum())


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("torch") / "net.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Net()).save(str(path))
    return path


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("torch") / "net.pt2"

    class Sum(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 2)
            self.register_buffer("shift", torch.zeros(2, dtype=torch.float64))

        def forward(self, image, ids):
            return self.layer(image) + self.shift, ids + 1

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        batch = torch.export.Dim("batch", min=2, max=64)
        made = torch.export.export(
            Sum(),
            (torch.ones(4, 3), torch.ones(4, dtype=torch.int64)),
            dynamic_shapes={"image": {0: batch}, "ids": {0: batch}},
        )
        torch.export.save(made, path)
    return path


def test_torchscript_tells_arguments_and_counts_what_torch_counts(script):
    header = read(script, "torchscript")
    x, rate, mask = header.io.inputs
    assert x == IOSpec("x", "unknown", None)
    assert rate == IOSpec("rate", "int64", [])
    assert (mask.name, mask.description) == ("mask", "optional")
    assert [spec.name for spec in header.io.outputs] == ["output_0", "output_1"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.load(str(script))
    storages = {
        value.untyped_storage().data_ptr(): value.numel()
        for value in module.state_dict().values()
        if value.dtype != torch.int64
    }
    assert header.parameters == sum(storages.values())
    assert header.dtypes == {"float32": 20, "float16": 5, "int64": 1}
    assert header.weight_bytes == 20 * 4 + 5 * 2 + 8
    assert header.architecture == "Net"
    assert "no dtypes and shapes" in header.unknown[0]


def test_the_extra_file_signature_says_what_the_text_does_not(script, tmp_path):
    told = tmp_path / "told.pt"
    told.write_bytes(script.read_bytes())
    with zipfile.ZipFile(told, "a") as archive:
        line = "x:float32[?,3], rate:int64[] -> y:float32[?,4], sum:float32[]"
        archive.writestr("net/extra/signature", line)
    header = read(told, "torchscript")
    assert header.io.inputs[0] == IOSpec("x", "float32", [-1, 3])
    assert [spec.name for spec in header.io.outputs] == ["y", "sum"]
    assert header.unknown == ()


def test_an_exported_program_has_its_whole_signature(program):
    header = read(program, "pt2")
    assert header.io.inputs == [
        IOSpec("image", "float32", [-1, 3]),
        IOSpec("ids", "int64", [-1]),
    ]
    assert [(spec.dtype, spec.shape) for spec in header.io.outputs] == [
        ("float64", [-1, 2]),
        ("int64", [-1]),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state = torch.export.load(program).state_dict
    assert header.parameters == sum(value.numel() for value in state.values())
    assert header.weight_bytes == sum(value.nbytes for value in state.values())
    assert header.producer.startswith("torch 2.")


def test_a_checkpoint_is_counted_and_not_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "opened"), "w"))

    state = {"w": torch.ones(7, 3), "h": torch.ones(5, dtype=torch.bfloat16), "trap": Trap()}
    torch.save(state, tmp_path / "state.pt")
    header = read(tmp_path / "state.pt", "pickle")
    assert header.dtypes == {"float32": 21, "bfloat16": 5}
    assert not (tmp_path / "opened").exists()


# --- without torch -----------------------------------------------------------------------------

CODE = """\
class Inner(Module):
  def forward(self: __torch__.Inner,
    z: Tensor) -> Tensor:
    return z
class Outer(Module):
  __parameters__ = []
  inner : __torch__.Inner
  def helper(self: __torch__.Outer, q: int) -> int:
    return q
  def forward(self: __torch__.Outer,
    x: Tensor,
    sizes: List[Tuple[int, int]],
    scale: float=1.5,
    name: Optional[str]=None) -> Tuple[Tensor, Dict[str, Tensor]]:
    return x
"""


def test_the_text_of_the_right_class_is_read():
    inputs = torchscript.io_of(CODE, "Outer").inputs
    assert [spec.name for spec in inputs] == ["x", "sizes", "scale", "name"]
    assert [spec.dtype for spec in inputs] == ["unknown", "unknown", "float64", "bytes"]
    assert inputs[1].description == "List[Tuple[int, int]]"
    assert [spec.description for spec in inputs[2:]] == ["optional", "optional"]
    outputs = torchscript.io_of(CODE, "Outer").outputs
    assert [spec.description for spec in outputs] == ["", "Dict[str, Tensor]"]
    assert [spec.name for spec in torchscript.io_of(CODE, "Inner").inputs] == ["z"]


def test_a_class_without_forward_has_no_schema():
    assert torchscript.io_of("class A(Module):\n  pass\n", "A").inputs == []


def test_code_that_is_cut_off_is_refused():
    with pytest.raises(LoadFailed, match="cut off"):
        torchscript.io_of(CODE[: CODE.index("sizes")], "Outer")


def archive(path, members):
    with zipfile.ZipFile(path, "w") as out:
        for name, data in members.items():
            out.writestr(name, data)
    return path


@pytest.mark.parametrize(
    ("members", "format", "reason"),
    [
        ({"a/x": b""}, "torchscript", "no TorchScript"),
        ({"a/constants.pkl": b"", "a/data.pkl": b"\x80\x02"}, "torchscript", "data.pkl"),
        ({"a/x": b""}, "pt2", "no exported program"),
        ({"a/archive_format": b"pt2"}, "pt2", "machine code"),
        ({"a/models/model.json": b"{"}, "pt2", "cannot be read"),
        ({"a/models/model.json": b"[" * 100_000}, "pt2", "cannot be read"),
        (
            {
                "a/models/model.json": b'{"graph_module":{"graph":{"tensor_values":{}},"signature":'
                b'{"input_specs":[{"parameter":{"arg":{"name":"p"}}}],"output_specs":[]}}}'
            },
            "pt2",
            "not whole",
        ),
        ({"a/x": b""}, "pickle", "no data.pkl"),
    ],
)
def test_an_archive_of_something_else_is_named_for_what_it_is(tmp_path, members, format, reason):
    with pytest.raises(LoadFailed, match=reason):
        read(archive(tmp_path / "m.pt", members), format)


def test_an_archive_that_claims_a_huge_list_is_refused_unread(tmp_path):
    path = archive(tmp_path / "m.pt", {"a/constants.pkl": b""})
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    struct.pack_into("<I", data, end + 12, 1 << 30)
    path.write_bytes(data)
    with pytest.raises(LoadFailed, match="more members"):
        read(path, "torchscript")


def test_a_member_that_unpacks_to_too_much_is_refused(tmp_path):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("a/constants.pkl", b"")
        out.writestr("a/data.pkl", bytes((16 << 20) + 1))
    with pytest.raises(LoadFailed, match="larger than 16 MiB"):
        read(path, "torchscript")


# --- pickles, followed without being opened ----------------------------------------------------


def storage(key, kind, elements):
    return ("storage", kind, key, "cpu", elements)


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return value if isinstance(value, tuple) and value[:1] == ("storage",) else None


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_storages_are_found_in_every_protocol(protocol):
    out = io.BytesIO()
    shared = storage("0", torch.FloatStorage, 10)
    Pickler(out, protocol).dump({"a": [shared, shared], "b": (storage("1", torch.LongStorage, 3),)})
    found = pickles.look(out.getvalue())
    assert found.storages == {"0": ("float32", 10), "1": ("int64", 3)}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x02",
        b"\x80\x02t.",
        b"\x80\x04\x8c\x01a)\x93.",
        b"\x80\x02h\x05.",
        b"not a pickle",
        b"\x80\x02" + b"(" * 50 + b"l.",
    ],
)
def test_what_is_no_sound_pickle_is_refused(data):
    try:
        assert pickles.look(data).storages == {}
    except ValueError as error:
        assert str(error)  # noqa: PT017


def test_nested_tuples_cost_no_more_than_their_opcodes():
    # Each tuple holds the one before twice: written out, the last has 2^200 elements.
    doubled = b"".join(b"q" + bytes([n]) + b"h" + bytes([n]) + b"\x86" for n in range(200))
    bomb = b"\x80\x02)" + doubled + b"h\x05h\x05h\x05\x93."
    with pytest.raises(ValueError, match="no text"):
        pickles.look(bomb)


def test_tensors_larger_than_any_memory_are_refused(tmp_path):
    out = io.BytesIO()
    Pickler(out, 2).dump([storage(str(n), torch.FloatStorage, 1 << 61) for n in range(9)])
    with pytest.raises(LoadFailed, match="larger than any memory"):
        read(archive(tmp_path / "m.pt", {"a/data.pkl": out.getvalue()}), "pickle")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("x:float32[?,3]", 1),
        ("x:float32[?,3], y:int64[]", 2),
        ("x:float32[?,3]=1, y:int64[]", 2),
        ("x:float32[a]", 0),
        ("x", 0),
        ("", 0),
        ("x:float32[" + "9" * 40 + "]", 0),
    ],
)
def test_tensors_on_one_line_are_read_or_nothing_is(text, count):
    assert len(notation.parse(text)) == count
