# SPDX-License-Identifier: BUSL-1.1
"""Operators that write their result where the client reads it: the same bits, no copy."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
last = pytest.importorskip("mlos_plugin_pytorch.last")

nn = torch.nn
ROWS = ({0: torch.export.Dim("rows")},)


class Ending(nn.Module):
    def __init__(self, end):
        super().__init__()
        self.body = nn.Linear(16, 8)
        self.end = end

    def forward(self, x):
        return self.end(self.body(x))


class Two(nn.Module):
    """Two outputs with a last operator each, and one that another operator needs."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(16, 8)

    def forward(self, x):
        y = self.body(x)
        z = torch.tanh(y)
        return {"p": torch.sigmoid(y), "q": torch.softmax(y, 1), "z": z, "w": z * 2}


class Gaps(nn.Module):
    """An output that is none and one that is a number stand before the one that counts."""

    def forward(self, x):
        return {"none": None, "number": 3, "last": torch.sigmoid(x), "first": x + 1}


class Later(nn.Module):
    """The input of the sigmoid is overwritten behind it."""

    def forward(self, x):
        y = x + 1
        z = torch.sigmoid(y)
        y.zero_()
        return z, y


class Twice(nn.Module):
    def forward(self, x):
        y = torch.sigmoid(x)
        return y, y


ENDS = {
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
    "softmax": nn.Softmax(1),
    "log softmax": nn.LogSoftmax(-1),
    "linear": nn.Linear(8, 5),
}
OTHERS = {"linear without bias": nn.Linear(8, 5, bias=False), "relu": nn.ReLU()}


def program(export, module):
    return torch.export.load(export(module, torch.zeros(2, 16), dynamic_shapes=ROWS))


def check(module, path, load, arena):
    model = load(path)
    for rows in (1, 3, 64):
        x = np.random.default_rng(rows).standard_normal((rows, 16)).astype(np.float32)
        with torch.inference_mode():
            want = module(torch.from_numpy(x))
        named = want if isinstance(want, dict) else {"output": want}
        if isinstance(want, tuple):
            named = {f"output_{place}": one for place, one in enumerate(want)}
        got = model.infer({"x": x}, arena)
        assert {name: array.tobytes() for name, array in got.items()} == {
            name: one.numpy().tobytes() for name, one in named.items()
        }
        assert all(arena.holds(array) for array in got.values())


@pytest.mark.parametrize("end", [*ENDS, *OTHERS])
def test_every_end_has_the_bits_of_torch(end, export, load, arena):
    module = Ending({**ENDS, **OTHERS}[end])
    check(module, export(module, torch.zeros(2, 16), dynamic_shapes=ROWS), load, arena)


@pytest.mark.parametrize("end", ENDS)
def test_the_usual_ends_are_cut_off(end, export):
    assert set(last.cut(program(export, Ending(ENDS[end])).module())) == {0}


def test_each_output_has_its_own_last_operator(export, load, arena):
    module = Two()
    assert set(last.cut(program(export, module).module())) == {0, 1}
    check(module, export(module, torch.zeros(2, 16), dynamic_shapes=ROWS), load, arena)


@pytest.mark.parametrize("kind", [Later, Twice])
def test_what_must_not_be_moved_stays(kind, export, load, arena):
    assert not last.cut(program(export, kind()).module())
    check(kind(), export(kind(), torch.zeros(2, 16), dynamic_shapes=ROWS), load, arena)


def test_outputs_before_it_that_are_no_tensors_do_not_shift_the_names(export, load, arena):
    path = export(Gaps(), torch.zeros(2, 16), dynamic_shapes=ROWS)
    x = {"x": np.zeros((1, 16), np.float32)}
    got = load(path).infer(x, arena)
    assert {name: array.flat[0] for name, array in got.items()} == {
        "number": 3,
        "last": 0.5,
        "first": 1,
    }
    said = "n:int64[], half:float32[?,16], one:float32[?,16]"
    renamed = load(path, outputs=said).infer(x, arena)
    assert {name: array.flat[0] for name, array in renamed.items()} == {
        "n": 3,
        "half": 0.5,
        "one": 1,
    }
