# SPDX-License-Identifier: BUSL-1.1
import warnings
from typing import Dict, List, NamedTuple, Optional, Tuple  # noqa: UP035 (TorchScript's words)

import numpy as np
import pytest

from mlos_core.errors import InvalidInput, LoadFailed, ModelFailed

torch = pytest.importorskip("torch", reason="torch is not installed")
plugin = pytest.importorskip("mlos_plugin_pytorch.plugin")
options = pytest.importorskip("mlos_plugin_pytorch.options")

Module = torch.nn.Module
Tensor = torch.Tensor


class Pair(NamedTuple):
    best: Tensor
    score: Tensor


class Scaled(Module):
    def forward(self, x: Tensor, factor: float, times: int = 1, negate: bool = False):
        y = x * (factor * times)
        return -y if negate else y


class Tail(Module):
    """A convolution, as image models have it: a batch norm, and a ReLU in place."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(3)
        self.relu = torch.nn.ReLU(inplace=True)

    def forward(self, x: Tensor, mask: Optional[Tensor] = None):  # noqa: UP045
        y = self.relu(self.norm(x))
        return y if mask is None else y * mask


class Counting(Module):
    def __init__(self):
        super().__init__()
        self.count = 0
        self.register_buffer("sum", torch.zeros(1))

    def forward(self, x: Tensor):
        self.count += 1
        self.sum += x.sum()
        return x + self.count

    @torch.jit.export
    def forget(self):
        self.count = 0
        self.sum.zero_()

    @torch.jit.export
    def reset_count(self):
        self.forget()


class Writing(Module):
    def forward(self, x: Tensor, y: Tensor):
        first = x.view(-1)
        first += 1
        return first + y.view(-1)


class Strict(Module):
    def forward(self, x: Tensor, k: int):
        if k < 0:
            raise ValueError("k must not be negative")
        assert k < 10, "k is too large"
        return x.view(k, -1)


class Several(Module):
    def forward(self, x: Tensor) -> Tuple[Tensor, List[Tensor], Optional[Tensor]]:  # noqa: UP006, UP045
        return x, [x + 1, x + 2], None


class Keyed(Module):
    def forward(self, x: Tensor) -> Dict[str, Tensor]:  # noqa: UP006
        return {"low": x - 1, "high": x + 1}


class Named(Module):
    def forward(self, x: Tensor):
        return Pair(x.argmax(1), x.amax(1))


def test_the_file_gives_names_and_the_user_shapes(script, load):
    path = script(Tail())
    with pytest.raises(LoadFailed, match=r'shapes of x .*inputs="x:float32\[\?,\?\]"'):
        load(path)
    model = load(path, inputs="x:float32[?,3]")
    assert model.signature.describe() == "x: float32[?, 3] -> output: float32[?, 3]"
    assert model.signature.batched


def test_the_manifest_may_give_the_shapes(script, load):
    io = {
        "inputs": [{"name": "x", "dtype": "float32", "shape": [-1, 3]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": [-1, 3]}],
    }
    path = script(Tail())
    model = load(path, manifest={"spec": {"io": io}})
    assert model.signature.describe() == "x: float32[?, 3] -> y: float32[?, 3]"
    other = load(path, manifest={"spec": {"io": io}}, inputs="x:float32[2,3]")
    assert other.signature.inputs[0].shape == (2, 3)
    io["inputs"][0]["shape"] = None
    with pytest.raises(LoadFailed, match="does not say"):
        load(path, manifest={"spec": {"io": io}})
    io["inputs"][0] = {"name": "z", "dtype": "float32", "shape": [1]}
    with pytest.raises(LoadFailed, match=r"the manifest names 'z'.*it takes x, mask"):
        load(path, manifest={"spec": {"io": io}})
    io["inputs"][0] = {"name": "x", "shape": [1]}
    with pytest.raises(LoadFailed, match=r"spec\.io\.inputs cannot be read: KeyError\('dtype'\)"):
        load(path, manifest={"spec": {"io": io}})


def test_numbers_are_scalar_tensors_and_defaults_make_them_optional(script, load, arena):
    path = script(Scaled())
    model = load(path, inputs="x:float32[?], times:int64[1]")
    said = "x: float32[?], factor: float64[], times: int64[1] -> output: float32[?]"
    assert model.signature.describe() == said
    assert [spec.optional for spec in model.signature.inputs] == [False, False, True]
    batch = {"x": np.ones(2, np.float32), "factor": np.array(1.5)}
    assert model.infer(batch, arena)["output"].tolist() == [1.5, 1.5]
    batch["times"] = np.array([3])
    assert model.infer(batch, arena)["output"].tolist() == [4.5, 4.5]
    assert not model.signature.batched
    given = load(path, inputs="x:float32[?], factor:float32[]=2, negate:bool[]=true")
    assert given.infer({"x": np.ones(1, np.float32)}, arena)["output"].tolist() == [-2]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ("y:float32[?]", "'y', which is no argument"),
        ("x:float32[?], factor:int64[]", "'factor' is a Python float, not int64"),
        ("x:float32[?], factor:float32[3]", "'factor' is a Python float, not float32.3"),
        ("x:float32[?], times:int64[]=1.5", "1.5 is no default for 'times'"),
        ("x:float32[?]=3", "'x' cannot have a default"),
        ("x:bytes[?]", "'x' is a tensor, which holds no texts"),
    ],
)
def test_inputs_that_are_not_the_arguments_are_refused(inputs, words, script, load):
    with pytest.raises(LoadFailed, match=words):
        load(script(Scaled()), inputs=inputs)


def test_a_missing_optional_tensor_is_none(script, load, arena):
    model = load(script(Tail()), inputs="x:float32[?,3], mask:float32[3]")
    x = np.ones((1, 3), np.float32)
    assert model.infer({"x": x}, arena)["output"].any()
    assert not model.infer({"x": x, "mask": np.zeros(3, np.float32)}, arena)["output"].any()


def test_a_module_with_a_memory_is_refused_unless_it_can_forget(script, load, arena):
    path = script(Counting())
    with pytest.raises(LoadFailed, match=r"it sets count, sum\).*reset=reset_count.*keep_state"):
        load(path, inputs="x:float32[?]")
    x = {"x": np.zeros(1, np.float32)}
    model = load(path, inputs="x:float32[?]", reset="forget")
    assert [model.infer(x, arena)["output"].item() for _ in range(3)] == [1, 1, 1]
    with pytest.raises(LoadFailed, match=r"no method 'erase' \(it has forward, forget"):
        load(path, inputs="x:float32[?]", reset="erase")


def test_a_memory_may_be_kept_on_purpose(script, load, arena):
    said = {"inputs": "x:float32[?]", "outputs": "y:float32[?]"}
    model = load(script(Counting()), keep_state=True, **said)
    x = {"x": np.zeros(1, np.float32)}
    assert [model.infer(x, arena)["y"].item() for _ in range(3)] == [1, 2, 3]
    assert not model.signature.batched


def test_the_batch_norm_of_an_image_model_is_no_memory_and_its_input_is_not_copied(script):
    program = plugin.open_program(script(Tail()), options.Options(), torch.device("cpu"))
    assert program.argument("x").shared
    assert (
        not plugin.open_program(script(Writing()), options.Options(), torch.device("cpu"))
        .argument("x")
        .shared
    )


def test_a_model_that_writes_into_an_input_gets_copies(script, load, arena):
    said = {"inputs": "x:float32[2], y:float32[2]", "copy_inputs": False}
    model = load(script(Writing()), **said)
    x = np.zeros(2, np.float32)
    x.flags.writeable = False
    for _ in range(2):
        assert model.infer({"x": x, "y": x}, arena)["output"].tolist() == [1, 1]
    assert x.tolist() == [0, 0]


def test_another_method_can_answer(script, load, arena):
    class Two(Module):
        def forward(self, x: Tensor):
            return x

        @torch.jit.export
        def twice(self, z: Tensor):
            return z * 2

    model = load(script(Two()), method="twice", inputs="z:float32[1]")
    assert model.infer({"z": np.ones(1, np.float32)}, arena)["output"].tolist() == [2]
    with pytest.raises(LoadFailed, match=r"no method 'thrice' \(it has forward, twice\)"):
        load(script(Two()), method="thrice")


@pytest.mark.parametrize(
    ("module", "names"),
    [(Several, "output_0 output_1_0 output_1_1"), (Keyed, "low high"), (Named, "best score")],
)
def test_outputs_have_the_names_that_the_model_gives(module, names, script, load, arena):
    model = load(script(module()), inputs="x:float32[?,2]")
    assert " ".join(spec.name for spec in model.signature.outputs) == names
    assert model.signature.batched
    x = torch.arange(4.0).reshape(2, 2)
    outputs = model.infer({"x": x.numpy()}, arena)
    assert list(outputs) == names.split()
    last = {"Several": x + 2, "Keyed": x + 1, "Named": x.amax(1)}[module.__name__]
    np.testing.assert_array_equal(list(outputs.values())[-1], last.numpy())


def test_outputs_can_be_renamed_by_place_and_chosen_by_name(script, load, arena):
    x = {"x": np.ones((1, 2), np.float32)}
    inputs = "x:float32[?,2]"
    renamed = "a:float32[?,2], b:float32[?,2], c:float32[?,2]"
    model = load(script(Several()), inputs=inputs, outputs=renamed)
    assert [array[0, 0] for array in model.infer(x, arena).values()] == [1, 2, 3]
    chosen = load(script(Keyed()), inputs=inputs, outputs="high:float32[?,2]")
    assert chosen.infer(x, arena)["high"].tolist() == [[2, 2]]
    wrong = load(script(Keyed()), inputs=inputs, outputs="a:float32[?,2], b:float32[?,2]")
    with pytest.raises(ModelFailed, match="returned low, high, not a, b"):
        wrong.infer(x, arena)


def test_a_refusal_by_the_model_is_the_callers_mistake_in_one_sentence(script, load, arena, caplog):
    model = load(script(Strict()), inputs="x:float32[?]", outputs="y:float32[?,?]")
    assert not caplog.records, "trials that fail are nobody's business"
    x = np.ones(6, np.float32)
    cases = {
        -1: (InvalidInput, "model.pt refuses the input: k must not be negative"),
        11: (InvalidInput, "model.pt refuses the input: k is too large"),
        4: (ModelFailed, "model.pt failed: shape '[4, -1]' is invalid for input of size 6"),
    }
    for k, (kind, message) in cases.items():
        with pytest.raises(kind) as caught:
            model.infer({"x": x, "k": np.array(k)}, arena)
        assert caught.value.message == message
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "TorchScript interpreter" in caplog.text
    assert model.infer({"x": x, "k": np.array(2)}, arena)["y"].shape == (2, 3)


def test_an_argument_that_no_request_can_carry_is_refused(script, load):
    class Listed(Module):
        def forward(self, x: List[Tensor]):  # noqa: UP006
            return x[0]

    with pytest.raises(LoadFailed, match=r"'x' as List\[Tensor\]"):
        load(script(Listed()))


def test_a_text_goes_in_as_bytes(script, load, arena):
    class Mode(Module):
        def forward(self, x: Tensor, mode: str):
            return x.sum() if mode == "sum" else x.mean()

    model = load(script(Mode()), inputs="x:float32[?]", outputs="y:float32[]")
    assert model.signature.inputs[1].describe() == "bytes[]"
    x = np.ones(2, np.float32)
    word = np.array(b"sum", object)
    assert model.infer({"x": x, "mode": word}, arena)["y"] == 2
    with pytest.raises(InvalidInput, match="UTF-8"):
        model.infer({"x": x, "mode": np.array(b"\xff", object)}, arena)


def test_the_file_may_say_its_shapes_itself(tmp_path, load):
    path = tmp_path / "m.pt"

    def save(text):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            script = torch.jit.script(Tail().eval())
            torch.jit.save(script, str(path), _extra_files={"signature": text})
        return path

    said = "x: float32[?, 3] -> y: float32[?, 3]"
    assert load(save(said)).signature.describe() == said
    assert load(path, inputs="x:float32[2,3]").signature.inputs[0].shape == (2, 3)
    with pytest.raises(LoadFailed, match=r"the signature in m\.pt gives 'x' the unknown dtype"):
        load(save("x:real[3] -> y:float32[3]"))
    with pytest.raises(LoadFailed, match=r"the signature in m\.pt is none: 'nonsense'"):
        load(save("nonsense"))
