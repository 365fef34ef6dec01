# SPDX-License-Identifier: BUSL-1.1
import json
import zipfile

import numpy as np
import pytest

from mlos_core.errors import InvalidInput, LoadFailed

torch = pytest.importorskip("torch", reason="torch is not installed")

Module = torch.nn.Module
DYNAMIC = torch.export.Dim.DYNAMIC


class Rows(Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)

    def forward(self, x):
        return torch.softmax(self.linear(x), 1)


class Centred(Module):
    def forward(self, x):
        return x - x.mean(0)


class Recurrent(Module):
    """The last row knows of all before it."""

    def forward(self, x):
        return x.cumsum(0)


class Counter(Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x):
        self.count.add_(1)
        return x + self.count


class Writing(Module):
    """Writes into x through a dropout, which does nothing, and into nothing of y."""

    def forward(self, x, y):
        torch.nn.functional.dropout(x, training=False).view(-1).add_(1)
        return x * (y + 1).relu_()


class Nested(Module):
    def forward(self, pair, *, options):
        return {"sum": pair[0] + pair[1], "rest": (options["k"] * 2, None)}


def rows(*fixed, **options):
    return {"dynamic_shapes": ({0: DYNAMIC},), **options}


def test_the_file_states_everything(export, load):
    model = load(export(Rows(), torch.zeros(2, 3), **rows()))
    assert model.signature.describe() == "x: float32[?, 3] -> output: float32[?, 2]"
    assert model.signature.batched
    fixed = load(export(Rows(), torch.zeros(2, 3)))
    assert fixed.signature.describe() == "x: float32[2, 3] -> output: float32[2, 2]"
    assert not fixed.signature.batched
    with pytest.raises(LoadFailed, match="states its inputs itself"):
        load(export(Rows(), torch.zeros(2, 3)), inputs="x:float32[2,3]")


@pytest.mark.parametrize("option", [{"reset": "x"}, {"module": "a:b"}, {"weights_only": True}])
def test_an_option_without_use_is_refused(option, export, load):
    with pytest.raises(LoadFailed, match=r"no use here: model\.pt2 is an exported program"):
        load(export(Rows(), torch.zeros(2, 3)), **option)


def test_the_answer_has_the_bits_of_torch(export, load, arena, read_only):
    module = Rows()
    model = load(export(module, torch.zeros(2, 3), **rows()))
    for count in (1, 2, 7):
        x = np.random.default_rng(count).standard_normal((count, 3)).astype(np.float32)
        with torch.inference_mode():
            want = module(torch.from_numpy(x)).numpy()
        got = model.infer({"x": read_only(x)}, arena)["output"]
        assert got.tobytes() == want.tobytes()
        assert arena.holds(got)


@pytest.mark.parametrize("module", [Centred, Recurrent])
def test_rows_that_know_of_each_other_are_no_batch(module, export, load):
    model = load(export(module(), torch.zeros(4, 3), **rows()))
    assert model.signature.inputs[0].shape[0] == -1
    assert not model.signature.batched


def test_two_dynamic_dimensions_of_their_own_are_no_batch(export, load):
    class Outer(Module):
        def forward(self, x, y):
            return torch.outer(x, y)

    shapes = {"dynamic_shapes": ({0: DYNAMIC}, {0: DYNAMIC})}
    model = load(export(Outer(), torch.zeros(4), torch.zeros(5), **shapes))
    assert model.signature.outputs[0].shape == (-1, -1)
    assert not model.signature.batched


def test_batched_can_be_said_and_denied(export, load):
    path = export(Centred(), torch.zeros(4, 3), **rows())
    assert load(path, batched=True).signature.batched
    path = export(Rows(), torch.zeros(4, 3), **rows())
    assert not load(path, batched="false").signature.batched
    with pytest.raises(LoadFailed, match="dimension 0 of 'x' is fixed"):
        load(export(Rows(), torch.zeros(4, 3)), batched=True)


def test_a_state_begins_anew_with_every_request_unless_it_shall_be_kept(export, load, arena):
    path = export(Counter(), torch.zeros(2))
    x = {"x": np.zeros(2, np.float32)}
    model = load(path)
    assert [model.infer(x, arena)["output"][0] for _ in range(3)] == [1, 1, 1]
    keeping = load(path, keep_state=True)
    assert [keeping.infer(x, arena)["output"][0] for _ in range(3)] == [1, 2, 3]


def test_an_input_that_the_graph_changes_is_copied(export, load, arena, read_only):
    model = load(export(Writing(), torch.zeros(2), torch.zeros(2)))
    x, y = read_only([1, 2]), read_only([3, 3])
    for _ in range(2):
        assert model.infer({"x": x, "y": y}, arena)["output"].tolist() == [8, 12]
    assert x.tolist() == [1, 2]


def test_an_input_beside_operators_in_place_is_not_copied(export):
    mutation = pytest.importorskip("mlos_plugin_pytorch.mutation")
    program = torch.export.load(export(Writing(), torch.zeros(2), torch.zeros(2)))
    assert mutation.written(program) == {"x"}
    program = torch.export.load(export(Counter(), torch.zeros(2)))
    assert mutation.written(program) == {"b_count"}
    program = torch.export.load(export(Rows(), torch.zeros(2, 3)))
    assert mutation.written(program) == set()


def test_arguments_in_tuples_and_dicts_and_constants_are_put_in_their_places(export, load, arena):
    pair = (torch.zeros(2), 3)
    model = load(export(Nested(), pair, kwargs={"options": {"k": torch.zeros(1)}}))
    names = [spec.name for spec in model.signature.inputs]
    assert names == ["pair_0", "k"] or len(names) == 2
    batch = {names[0]: np.ones(2, np.float32), names[1]: np.full(1, 5, np.float32)}
    got = {name: array.tolist() for name, array in model.infer(batch, arena).items()}
    assert got == {"sum": [4, 4], "rest_0": [10]}


def test_outputs_can_be_renamed(export, load, arena):
    path = export(Rows(), torch.zeros(2, 3))
    model = load(path, outputs="p:float32[2,2]")
    assert list(model.infer({"x": np.ones((2, 3), np.float32)}, arena)) == ["p"]
    with pytest.raises(LoadFailed, match="it has output:float32"):
        load(path, outputs="p:int64[2,2]")


def test_a_size_that_the_program_excludes_is_the_callers_mistake(export, load, arena):
    shapes = {"x": {0: torch.export.Dim("rows", min=3, max=6)}}
    model = load(export(Rows(), torch.zeros(4, 3), dynamic_shapes=shapes))
    assert not model.signature.batched
    with pytest.raises(InvalidInput, match=r"model\.pt2 refuses the input"):
        model.infer({"x": np.ones((9, 3), np.float32)}, arena)


def test_a_dtype_that_no_channel_carries_is_refused(export, load):
    for dtype in (torch.bfloat16, torch.complex64):
        with pytest.raises(LoadFailed, match=r"'x' of model\.pt2 is (bfloat16|complex64)"):
            load(export(Centred(), torch.zeros(2, 3, dtype=dtype)))


def test_a_program_with_pickled_objects_is_refused(export, load, tmp_path):
    path = export(Rows(), torch.zeros(2, 3))
    bomb = tmp_path / "bomb.pt2"
    exploded = tmp_path / "exploded"
    code = b"cbuiltins\nopen\n(V" + str(exploded).encode() + b"\nVw\ntR."
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(bomb, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("model_weights_config.json"):
                config = json.loads(data)
                for weight in config["config"].values():
                    weight["use_pickle"] = True
                data = json.dumps(config).encode()
            elif "/weights/weight_" in name:
                data = code
            new.writestr(name, data)
    with pytest.raises(LoadFailed, match=r"torch cannot load bomb\.pt2"):
        load(bomb)
    assert not exploded.exists()
