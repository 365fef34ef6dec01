# SPDX-License-Identifier: BUSL-1.1
import numpy as np
import pytest

from mlos_core.errors import InvalidInput, LoadFailed

torch = pytest.importorskip("torch", reason="torch is not installed")
safetensors = pytest.importorskip("safetensors.torch")

INPUTS = "x:float32[?,3]"
CODE = """
import torch
from beside import FACTOR

class Net(torch.nn.Module):
    def __init__(self, width=2):
        super().__init__()
        self.linear = torch.nn.Linear(3, width)
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, x: torch.Tensor, *, times: int = 1):
        assert times < 5, "times is too large"
        x *= FACTOR
        return self.drop(self.linear(x)) * times

    def features(self, **named):
        return torch.cat(list(named.values()), 1)

def number():
    return 3
"""


@pytest.fixture
def package(tmp_path):
    """A folder with code and the weights of a linear layer of ones."""
    (tmp_path / "net.py").write_text(CODE)
    (tmp_path / "beside.py").write_text("FACTOR = 2\n")
    state = {"linear.weight": torch.ones(2, 3), "linear.bias": torch.zeros(2)}
    safetensors.save_file(state, tmp_path / "weights.safetensors")
    torch.save({"epoch": 3, "model": state}, tmp_path / "checkpoint.pth")
    torch.save(state, tmp_path / "state.pth")
    return tmp_path


def test_weights_need_code_that_takes_them(package, load):
    with pytest.raises(LoadFailed, match=r"holds weights but no program .*module="):
        load(package / "weights.safetensors")


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("weights.safetensors", {}),
        ("state.pth", {"weights_only": "true"}),
        ("checkpoint.pth", {"weights_only": True, "key": "model"}),
    ],
)
def test_a_file_beside_the_weights_builds_the_module(file, options, package, load, arena):
    model = load(package, file=file, module="net.py:Net", inputs=INPUTS, **options)
    assert model.signature.describe() == "x: float32[?, 3] -> output: float32[?, 2]"
    assert model.signature.batched
    x = np.ones((4, 3), np.float32)
    x.flags.writeable = False
    for _ in range(3):
        assert (model.infer({"x": x}, arena)["output"] == 6).all()
    assert (x == 1).all()


def test_keyword_arguments_are_found_too(package, load, arena):
    said = {"module": "net.py:Net", "file": "weights.safetensors"}
    model = load(package, inputs=INPUTS + ", times:int64[]", **said)
    batch = {"x": np.ones((1, 3), np.float32), "times": np.array(3)}
    assert model.infer(batch, arena)["output"].tolist() == [[18, 18]]
    batch["times"] = np.array(7)
    with pytest.raises(InvalidInput, match="times is too large"):
        model.infer(batch, arena)


def test_a_method_that_takes_any_names_gets_those_that_are_stated(package, load, arena):
    said = {"module": "net.py:Net", "file": "weights.safetensors", "method": "features"}
    model = load(package, inputs="b:float32[?,1], a:float32[?,1]", **said)
    batch = {"a": np.zeros((1, 1), np.float32), "b": np.ones((1, 1), np.float32)}
    assert model.infer(batch, arena)["output"].tolist() == [[1, 0]]
    with pytest.raises(LoadFailed, match="takes any arguments"):
        load(package, **said)


def test_a_class_of_an_installed_package_can_be_named(tmp_path, load, arena):
    safetensors.save_file({"weight": torch.ones(1, 3)}, tmp_path / "w.safetensors")
    model = load(
        tmp_path,
        module="torch.nn:Linear",
        arguments={"in_features": 3, "out_features": 1, "bias": False},
        inputs="input:float32[?,3]",
        copy_inputs=False,
    )
    x = np.ones((1, 3), np.float32)
    x.flags.writeable = False
    assert model.infer({"input": x}, arena)["output"].tolist() == [[3]]


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("net.py", "names no class or function"),
        ("net.py:Nut", "cannot be built: AttributeError: .*Nut"),
        ("nut.py:Net", r"has no file 'nut\.py'"),
        ("../net.py:Net", r"has no file '\.\./net\.py'"),
        ("no.such.package:Net", "cannot be built: ModuleNotFoundError"),
        ("net.py:number", "made a int, not a torch.nn.Module"),
        ("torch.nn:ReLU", "do not fit torch.nn:ReLU: .*linear.weight"),
        ("torch.nn:Linear", "cannot be built: TypeError"),
    ],
)
def test_code_that_does_not_do_says_why(module, words, package, load):
    with pytest.raises(LoadFailed, match=words):
        load(package, file="weights.safetensors", module=module, inputs=INPUTS)


def test_a_checkpoint_without_its_key_says_what_it_holds(package, load):
    said = {"weights_only": True, "module": "net.py:Net", "file": "checkpoint.pth"}
    with pytest.raises(LoadFailed, match=r"option key: epoch, model"):
        load(package, **said)
    with pytest.raises(LoadFailed, match=r"no part 'state' \(it has epoch, model"):
        load(package, key="state", **said)


def test_a_pickled_module_is_refused_even_with_weights_only(package, load):
    torch.save(torch.nn.Linear(3, 2), package / "whole.pth")
    with pytest.raises(LoadFailed, match=r"whole\.pth holds more than tensors"):
        load(package, file="whole.pth", weights_only=True, module="net.py:Net")
