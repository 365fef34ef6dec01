# SPDX-License-Identifier: BUSL-1.1
import shutil

import numpy as np
import pytest

from mlos_core.errors import InvalidInput, LoadFailed
from mlos_core.types import DTYPES

tf = pytest.importorskip("tensorflow", reason="the extra [tensorflow] is not installed")

F4 = tf.TensorSpec([None, 4], tf.float32, name="x")


@pytest.fixture
def save(tmp_path):
    """`save(function, *specs)` writes a SavedModel that serves the function."""

    def write(function, *specs, name="saved", **more):
        module = tf.Module()
        module.variables_too = [value for value in more.values() if isinstance(value, tf.Variable)]
        module.serve = tf.function(function, input_signature=specs)
        folder = tmp_path / name
        tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
        return folder

    return write


@pytest.fixture
def network(save):
    """Two outputs of matrix products with weights."""
    random = np.random.default_rng(3)
    weight = tf.Variable(random.standard_normal((4, 64), np.float32))
    other = tf.Variable(random.standard_normal((64, 3), np.float32))

    def serve(x):
        hidden = tf.nn.tanh(x @ weight)
        return {"scores": tf.nn.softmax(hidden @ other), "hidden": hidden}

    return save(serve, F4, weight=weight, other=other)


def in_process(folder, **inputs):
    function = tf.saved_model.load(str(folder)).signatures["serving_default"]
    results = function(**{name: tf.constant(value) for name, value in inputs.items()})
    return {name: tensor.numpy() for name, tensor in results.items()}


def test_the_signature_is_the_one_that_was_saved(network, load):
    signature = load(network).signature
    assert signature.batched
    assert {spec.name: spec.describe() for spec in signature.inputs} == {"x": "float32[?, 4]"}
    assert {spec.name: spec.describe() for spec in signature.outputs} == {
        "scores": "float32[?, 3]",
        "hidden": "float32[?, 64]",
    }


def test_answers_are_those_of_tensorflow_and_lie_where_allocate_says(network, load, arena):
    model, random = load(network), np.random.default_rng(0)
    for rows in (1, 2, 33, 1):
        x = random.standard_normal((rows, 4), np.float32)
        got, want = model.infer({"x": x}, arena), in_process(network, x=x)
        assert got.keys() == want.keys()
        for name, array in want.items():
            assert got[name].tobytes() == array.tobytes()
            assert arena.holds(got[name])


def test_an_input_is_read_where_it_lies_if_tensorflow_can(load, place):
    from mlos_plugin_tensorflow.tensors import borrow

    for array, shared in [
        (place([1, 2, 3], "float32"), True),
        (place([1, 2, 3], "float32", skip=4), False),
        (place([[1, 2], [3, 4]], "float32").T, False),
        (place([1, 2, 3, 4], "float32")[::2], False),
    ]:
        locked = array.view()
        locked.flags.writeable = False
        tensor = borrow(locked, tf.float32)
        array += 10
        np.testing.assert_array_equal(tensor.numpy(), array if shared else array - 10)


def test_inputs_that_lie_badly_are_read_right(network, load, arena, place):
    model = load(network)
    values = np.random.default_rng(0).standard_normal((4, 4), np.float32)
    want = in_process(network, x=values)["scores"]
    for array in (place(values, "float32", skip=4), place(values.T, "float32").T):
        assert model.infer({"x": array}, arena)["scores"].tobytes() == want.tobytes()


def test_a_model_that_keeps_its_input_gets_a_copy(save, load, arena, place):
    kept = tf.Variable(tf.zeros([4]))

    def serve(x):
        before = kept.read_value() + 0
        with tf.control_dependencies([before]):
            kept.assign(x)
        return {"before": before}

    model = load(save(serve, tf.TensorSpec([4], tf.float32, name="x"), kept=kept))
    memory = place([1, 2, 3, 4], "float32")
    assert model.infer({"x": memory}, arena)["before"].tolist() == [0, 0, 0, 0]
    memory[:] = 9
    assert model.infer({"x": memory}, arena)["before"].tolist() == [1, 2, 3, 4]


def test_an_output_that_is_an_input_is_no_view_of_it(save, load, place):
    model = load(save(lambda x: {"y": x}, F4))
    memory = place([[1, 2, 3, 4]], "float32")
    y = model.infer({"x": memory}, lambda _, dtype, shape: np.empty(shape, dtype))["y"]
    memory[:] = 9
    assert y.tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_passes(dtype, save, load, arena, place):
    model = load(save(lambda x: {"y": tf.identity(x)}, tf.TensorSpec([None], dtype, name="x")))
    assert model.signature.describe() == f"x: {dtype}[?] -> y: {dtype}[?]"
    for x in (place([0, 1, 1], dtype), place([0, 1, 1], dtype, skip=8), np.empty(0, dtype)):
        y = model.infer({"x": x}, arena)["y"]
        np.testing.assert_array_equal(y, x)
        assert y.dtype == x.dtype


def test_strings_go_in_and_come_out_as_bytes(save, load, arena):
    model = load(save(lambda s: {"t": s + s}, tf.TensorSpec([None], tf.string, name="s")))
    assert model.signature.describe() == "s: bytes[?] -> t: bytes[?]"
    words = np.array([b"a", b"\xff\0", b""], object)
    assert list(model.infer({"s": words}, arena)["t"]) == [b"aa", b"\xff\0\xff\0", b""]
    assert model.infer({"s": words[:0]}, arena)["t"].shape == (0,)


def test_scalars_and_sizes_that_depend_on_the_data_come_out_right(save, load, arena):
    def serve(x, limit):
        return {"at": tf.where(x > limit), "sum": tf.reduce_sum(x)}

    specs = tf.TensorSpec([4], tf.float32, name="x"), tf.TensorSpec([], tf.float32, name="limit")
    model = load(save(serve, *specs))
    assert not model.signature.batched
    for values in ([1, 0, 0, 2], [0, 0, 0, 0]):
        x = np.array(values, np.float32)
        got = model.infer({"x": x, "limit": np.float32(0.5) * np.ones((), np.float32)}, arena)
        np.testing.assert_array_equal(got["at"], np.argwhere(x > 0.5))
        assert got["sum"].shape == ()
        assert got["sum"] == x.sum()


def test_inputs_that_an_operation_refuses_are_the_callers_mistake(save, load, arena):
    model = load(save(lambda x: {"y": tf.reshape(x, [-1, 3])}, tf.TensorSpec([None], tf.float32)))
    for _ in range(2):
        with pytest.raises(InvalidInput, match=r"cannot take these inputs: .*reshape") as caught:
            model.infer({"x": np.ones(4, np.float32)}, arena)
        assert "\n" not in str(caught.value)
        assert "{{" not in str(caught.value)
        assert model.infer({"x": np.ones(3, np.float32)}, arena)["y"].shape == (1, 3)


def test_a_signature_is_chosen_by_name(tmp_path, load, arena):
    module = tf.Module()
    module.double = tf.function(lambda x: {"y": x + x}, input_signature=[F4])
    module.square = tf.function(lambda x: {"y": x * x}, input_signature=[F4])
    folder = str(tmp_path / "two")
    tf.saved_model.save(module, folder, {"double": module.double, "square": module.square})
    x = np.full((1, 4), 3, np.float32)
    y = load(tmp_path / "two", signature="square").infer({"x": x}, arena)["y"]
    assert y.tolist() == [[9] * 4]
    with pytest.raises(LoadFailed, match=r"no signature 'serving_default'; it has .*double"):
        load(tmp_path / "two")


def test_the_only_signature_needs_no_name(tmp_path, load):
    module = tf.Module()
    module.double = tf.function(lambda x: {"y": x + x}, input_signature=[F4])
    tf.saved_model.save(module, str(tmp_path / "one"), {"double": module.double})
    assert load(tmp_path / "one").signature.outputs[0].name == "y"


def test_a_model_without_signatures_says_how_to_save_one(tmp_path, load):
    tf.saved_model.save(tf.Module(), str(tmp_path / "none"))
    with pytest.raises(LoadFailed, match=r"it has none .*signatures="):
        load(tmp_path / "none")


def test_a_broken_folder_is_a_load_failure(network, load):
    shutil.rmtree(network / "variables")
    with pytest.raises(LoadFailed, match="TensorFlow cannot load saved"):
        load(network)
    (network / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(LoadFailed, match="TensorFlow cannot load saved") as caught:
        load(network)
    assert "\n" not in str(caught.value)


def test_what_no_channel_carries_is_refused(save, load):
    for spec, word in [
        (tf.TensorSpec([1], tf.bfloat16), "bfloat16"),
        (tf.TensorSpec(None, tf.float32), "no fixed number of dimensions"),
    ]:
        with pytest.raises(LoadFailed, match=word):
            load(save(lambda x: {"y": tf.zeros([1])}, spec, name=word[:4]))


def test_batched_can_be_said_but_not_of_a_fixed_dimension(save, load):
    folder = save(lambda x: {"y": tf.reduce_sum(x, 1)}, F4)
    assert load(folder).signature.batched
    assert not load(folder, batched="false").signature.batched
    fixed = save(lambda x: {"y": x}, tf.TensorSpec([2, 4], tf.float32), name="fixed")
    assert not load(fixed).signature.batched
    with pytest.raises(LoadFailed, match="dimension 0 of 'x' is fixed"):
        load(fixed, batched=True)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"signatur": "a"}, "did you mean 'signature'"),
        ({"builder": "a:b"}, "builder has no effect on a SavedModel"),
        ({"safe_mode": False}, "safe_mode has no effect"),
        ({"intra_op_threads": -1}, "intra_op_threads"),
        ({"imports": ["no_such_module"]}, "no module named 'no_such_module'"),
        ({"device": "tpu:0"}, "use cpu or cuda:0"),
        ({"device": "cuda:x"}, "use cpu or cuda:0"),
        ({"device": "cuda:77"}, "no 'cuda:77'"),
    ],
)
def test_an_impossible_option_says_why(options, word, network, load):
    with pytest.raises(LoadFailed, match=word):
        load(network, **options)


@pytest.mark.parametrize(
    ("given", "threads", "counts"),
    [
        ({}, 0, (None, None)),
        ({}, 3, (3, 1)),
        ({"intra_op_threads": 2}, 3, (2, 1)),
        ({"inter_op_threads": 2}, 0, (None, 2)),
        ({"intra_op_threads": 0, "inter_op_threads": 0}, 3, (0, 0)),
    ],
)
def test_threads_of_the_package_go_inside_the_operators(given, threads, counts):
    from mlos_plugin_tensorflow.options import Options
    from mlos_plugin_tensorflow.runtime import thread_counts

    assert thread_counts(Options(**given), threads) == counts


def test_operations_that_may_keep_an_input_are_told_from_those_that_read():
    from mlos_plugin_tensorflow.keeping import suspects

    reading = ["MatMul", "ReadVariableOp", "StatefulPartitionedCall", "RandomUniform", "While"]
    keeping = ["AssignVariableOp", "LookupTableInsertV2", "QueueEnqueueV2", "InplaceAdd", "Unheard"]
    assert suspects(reading + keeping) == sorted(keeping)


def test_an_output_of_unknown_rank_is_tried_out(save, load, arena):
    def serve(x):
        wide = tf.expand_dims(x, 0)
        return {
            "y": tf.ensure_shape(tf.raw_ops.PlaceholderWithDefault(input=wide, shape=None), None)
        }

    folder = save(serve, F4)
    signature = load(folder).signature
    assert signature.describe() == "x: float32[?, 4] -> y: float32[?, ?, ?]"
    assert not signature.batched
    x = np.ones((2, 4), np.float32)
    assert load(folder).infer({"x": x}, arena)["y"].shape == (1, 2, 4)
