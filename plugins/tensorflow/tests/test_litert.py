# SPDX-License-Identifier: BUSL-1.1
import numpy as np
import pytest

from mlos_core.errors import InvalidInput, LoadFailed, ModelFailed

litert = pytest.importorskip(
    "ai_edge_litert.interpreter", reason="the extra [tflite] is not installed"
)


@pytest.fixture
def scaling(tmp_path):
    """y = 3 x - 1 for x: float32[?, 4]."""
    from mlos_plugin_tensorflow.litert.example import scale_and_shift

    file = tmp_path / "scale.tflite"
    file.write_bytes(scale_and_shift(3.0, -1.0))
    return file


@pytest.fixture
def convert(tmp_path):
    """`convert(function, *specs)` is the `.tflite` file that TensorFlow's converter makes."""
    tf = pytest.importorskip("tensorflow", reason="TensorFlow's converter is not installed")

    def make(function, *specs, name="converted.tflite"):
        traced = tf.function(function).get_concrete_function(*specs)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], tf.Module())
        file = tmp_path / name
        file.write_bytes(converter.convert())
        return file

    return make


@pytest.fixture
def summing(tmp_path):
    """A recurrent model: y is the sum of all x since its state was empty."""
    from mlos_plugin_tensorflow.litert.writer import Operator, Tensor, to_bytes

    one = np.ones((1, 1), np.float32)
    tensors = {
        "x": Tensor((1, 1, 1)),
        "weight": Tensor((1, 1), one),
        "again": Tensor((1, 1), one),
        "bias": Tensor((1,), one[0] * 0),
        "state": Tensor((1, 1), variable=True),
        "y": Tensor((1, 1, 1)),
    }
    cell = Operator(
        "UNIDIRECTIONAL_SEQUENCE_RNN",
        "SequenceRNNOptions",
        ("x", "weight", "again", "bias", "state"),
        ("y",),
    )
    file = tmp_path / "summing.tflite"
    file.write_bytes(to_bytes(tensors, [cell], ["x"], ["y"]))
    return file


def in_process(file, **inputs):
    """What LiteRT's own signature runner answers."""
    interpreter = litert.Interpreter(str(file))
    return interpreter.get_signature_runner()(**inputs)


def test_the_signature_comes_from_the_file(scaling, load_lite):
    signature = load_lite(scaling).signature
    assert signature.describe() == "x: float32[?, 4] -> y: float32[?, 4]"
    assert signature.batched


def test_answers_are_those_of_litert_and_lie_where_allocate_says(scaling, load_lite, arena):
    model, random = load_lite(scaling), np.random.default_rng(0)
    for rows in (1, 3, 2, 2, 64, 1):
        x = random.standard_normal((rows, 4), np.float32)
        y = model.infer({"x": x}, arena)["y"]
        assert arena.holds(y)
        assert y.tobytes() == in_process(scaling, x=x)["y"].tobytes()


def test_inputs_in_any_layout_and_without_elements_are_read_right(scaling, load_lite, arena):
    model = load_lite(scaling)
    x = np.arange(12, dtype=np.float32).reshape(4, 3).T
    x.flags.writeable = False
    np.testing.assert_array_equal(model.infer({"x": x}, arena)["y"], 3 * x - 1)
    assert model.infer({"x": x[:0]}, arena)["y"].shape == (0, 4)
    np.testing.assert_array_equal(model.infer({"x": x}, arena)["y"], 3 * x - 1)


def test_not_a_number_passes_through(scaling, load_lite, arena):
    x = np.array([[np.nan, np.inf, -np.inf, 0]], np.float32)
    y = load_lite(scaling).infer({"x": x}, arena)["y"]
    np.testing.assert_array_equal(y, [[np.nan, np.inf, -np.inf, -1]])


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"thread": 1}, "did you mean 'num_threads'"),
        ({"num_threads": 0}, "num_threads"),
        ({"signature": "other"}, "no signature 'other'; it has serving_default"),
    ],
)
def test_an_impossible_option_says_why(options, word, scaling, load_lite):
    with pytest.raises(LoadFailed, match=word):
        load_lite(scaling, **options)


def test_options_reach_the_model(scaling, load_lite):
    assert not load_lite(scaling, batched="false", num_threads="2").signature.batched
    assert load_lite(scaling, signature="serving_default", threads=2).signature.batched
    with pytest.raises(LoadFailed, match="use cpu"):
        load_lite(scaling, device="cuda:0")


@pytest.mark.parametrize(("keep", "sums"), [(False, [1, 1, 1]), (True, [1, 2, 3])])
def test_one_request_does_not_see_what_another_left(keep, sums, summing, load_lite, arena):
    model = load_lite(summing, keep_state=keep)
    x = np.ones((1, 1, 1), np.float32)
    assert [float(model.infer({"x": x}, arena)["y"][0, 0, 0]) for _ in sums] == sums


def test_a_file_of_rubbish_is_a_load_failure(tmp_path, load_lite):
    bad = tmp_path / "bad.tflite"
    for content in (b"", b"no model", b"\0\0\0\0TFL3" + bytes(100)):
        bad.write_bytes(content)
        with pytest.raises(LoadFailed, match=r"LiteRT cannot load bad\.tflite"):
            load_lite(bad)


def test_a_cut_file_is_a_load_failure(scaling, load_lite):
    scaling.write_bytes(scaling.read_bytes()[:-200])
    with pytest.raises(LoadFailed, match="LiteRT cannot load"):
        load_lite(scaling)


def test_a_converted_network_answers_with_the_bits_of_litert(convert, load_lite, arena):
    import tensorflow as tf

    random = np.random.default_rng(1)
    kernel = tf.constant(random.standard_normal((3, 3, 3, 8), np.float32))
    weight = tf.constant(random.standard_normal((8, 5), np.float32))

    def network(image):
        features = tf.nn.relu(tf.nn.conv2d(image, kernel, 2, "SAME"))
        return {"scores": tf.nn.softmax(tf.reduce_mean(features, [1, 2]) @ weight)}

    file = convert(network, tf.TensorSpec([None, 32, 32, 3], tf.float32, name="image"))
    model = load_lite(file)
    assert model.signature.describe() == "image: float32[?, 32, 32, 3] -> scores: float32[?, 5]"
    for rows in (1, 4, 2):
        image = random.standard_normal((rows, 32, 32, 3), np.float32)
        scores = model.infer({"image": image}, arena)["scores"]
        assert scores.tobytes() == in_process(file, image=image)["scores"].tobytes()


def test_sizes_that_do_not_go_together_are_the_callers_mistake(convert, load_lite, arena):
    import tensorflow as tf

    vector = tf.TensorSpec([None], tf.float32)
    model = load_lite(convert(lambda a, b: {"sum": a + b}, vector, vector))
    two, three = np.ones(2, np.float32), np.ones(3, np.float32)
    for _ in range(2):
        assert model.infer({"a": two, "b": two}, arena)["sum"].tolist() == [2, 2]
        with pytest.raises(InvalidInput, match="cannot take inputs of these sizes"):
            model.infer({"a": two, "b": three}, arena)


def test_a_failing_operation_says_so_and_the_next_call_is_answered(convert, load_lite, arena):
    import tensorflow as tf

    specs = tf.TensorSpec([3], tf.float32), tf.TensorSpec([None], tf.int32)
    model = load_lite(convert(lambda values, at: {"found": tf.gather(values, at)}, *specs))
    values = np.array([1, 2, 3], np.float32)
    for _ in range(2):
        with pytest.raises(ModelFailed, match="cannot run the model on these inputs"):
            model.infer({"values": values, "at": np.array([5], np.int32)}, arena)
        found = model.infer({"values": values, "at": np.array([2, 0], np.int32)}, arena)["found"]
        assert found.tolist() == [3, 1]


def test_outputs_whose_size_depends_on_the_data_come_out_right(convert, load_lite, arena):
    import tensorflow as tf

    model = load_lite(convert(lambda x: {"at": tf.where(x > 0)}, tf.TensorSpec([4], tf.float32)))
    for values in ([1, 0, 0, 2], [0, 0, 0, 0], [1, 1, 1, 1]):
        x = np.array(values, np.float32)
        at = model.infer({"x": x}, arena)["at"]
        np.testing.assert_array_equal(at, np.argwhere(x > 0))


def test_strings_go_in_and_come_out_as_bytes(convert, load_lite, arena):
    import tensorflow as tf

    specs = tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.int32)
    model = load_lite(convert(lambda s, at: {"t": tf.gather(s, at)}, *specs))
    assert model.signature.outputs[0].dtype == "bytes"
    words = np.array([b"a", "ü".encode(), b"", b"nul\0"], object)
    for order in ([3, 0, 2], [1]):
        t = model.infer({"s": words, "at": np.array(order, np.int32)}, arena)["t"]
        assert list(t) == [words[at] for at in order]


def test_operations_of_tensorflow_itself_are_refused_with_the_way_out(tmp_path, load_lite):
    tf = pytest.importorskip("tensorflow", reason="TensorFlow's converter is not installed")
    traced = tf.function(lambda x: {"y": tf.linalg.inv(x)}).get_concrete_function(
        tf.TensorSpec([2, 2], tf.float32)
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], tf.Module())
    converter.target_spec.supported_ops = [tf.lite.OpsSet.SELECT_TF_OPS]
    file = tmp_path / "flex.tflite"
    file.write_bytes(converter.convert())
    with pytest.raises(LoadFailed, match="operations of TensorFlow itself"):
        load_lite(file)
