# SPDX-License-Identifier: BUSL-1.1
import warnings

import numpy as np
import pytest

from mlos_core.errors import LoadFailed

pytest.importorskip("tensorflow", reason="the extra [tensorflow] is not installed")
# Keras itself turns its variables into arrays in a way that NumPy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

BUILDERS = """
import keras

class Late(keras.Model):
    '''Does not know its inputs, and makes its layers' variables at the first call.'''

    def __init__(self, units=3):
        super().__init__()
        self.dense = keras.layers.Dense(units, activation="tanh")

    def call(self, x, training=False):
        return self.dense(x)

class Branching(keras.Model):
    def call(self, x):
        if keras.ops.sum(x) > 0:
            x = x * 2
        return x

class Pair(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, given):
        return {"sum": self.dense(given["a"] + given["b"])}

def known(units=3):
    x = keras.Input((4,), name="x")
    return keras.Model(x, keras.layers.Dense(units, activation="tanh")(x))

def not_a_model():
    return 7

def broken():
    raise RuntimeError("out of luck")
"""
CLASSES = """
import keras

@keras.saving.register_keras_serializable("mlos_test")
class Twice(keras.layers.Layer):
    def call(self, x):
        return x + x
"""


@pytest.fixture
def keras():
    import keras

    yield keras
    keras.backend.clear_session()


@pytest.fixture
def builders(tmp_path, monkeypatch):
    """A module of builders, installed under its own name for this test."""
    name = f"builders_{abs(hash(tmp_path))}"
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / f"{name}.py").write_text(BUILDERS)
    monkeypatch.syspath_prepend(tmp_path / "code")
    return name


def values(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def bits(array):
    return np.asarray(array).tobytes()


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_whole_model_answers_with_the_bits_of_keras(suffix, keras, tmp_path, load, arena):
    image = keras.Input((16, 16, 3), name="image")
    features = keras.layers.Conv2D(8, 3, activation="relu")(image)
    features = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(features))
    features = keras.layers.GlobalAveragePooling2D()(features)
    network = keras.Model(image, keras.layers.Dense(5, activation="softmax")(features))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras thinks little of .h5
        network.save(tmp_path / f"network{suffix}")
    model = load(tmp_path / f"network{suffix}")
    shown = model.signature.describe()
    assert shown == "image: float32[?, 16, 16, 3] -> output_0: float32[?, 5]"
    assert model.signature.batched
    for rows in (1, 5):
        x = values(rows, 16, 16, 3, seed=rows)
        y = model.infer({"image": x}, arena)["output_0"]
        assert arena.holds(y)
        assert bits(y) == bits(network.predict(x, verbose=0))


@pytest.mark.parametrize("fuse", [True, False])
def test_the_bits_are_those_of_predict_and_if_nothing_is_fused_of_a_call(
    fuse, keras, tmp_path, load, arena
):
    given = keras.Input((64,), name="x")
    hidden = keras.layers.Dense(64, activation="relu")(given)
    network = keras.Model(given, keras.layers.Dense(33, activation="tanh")(hidden))
    network.save(tmp_path / "dense.keras")
    model = load(tmp_path / "dense.keras", fuse=fuse)
    for rows in (1, 2, 7):
        x = values(rows, 64, seed=rows)
        want = network.predict(x, verbose=0) if fuse else network(x, training=False)
        assert bits(model.infer({"x": x}, arena)["output_0"]) == bits(want)


def test_several_inputs_and_outputs_keep_their_names(keras, tmp_path, load, arena):
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b", dtype="int32")
    total = keras.layers.Add()([a, keras.ops.cast(b, "float32")])
    given = {"a": np.ones((1, 2), np.float32), "b": np.full((1, 2), 2, np.int32)}
    for inputs, outputs, names in [
        ([a, b], [total, a], ["output_0", "output_1"]),
        ({"b": b, "a": a}, {"z": total, "y": a}, ["y", "z"]),
    ]:
        keras.Model(inputs, outputs).save(tmp_path / "pair.keras")
        model = load(tmp_path / "pair.keras")
        assert {spec.name: spec.dtype for spec in model.signature.inputs} == {
            "a": "float32",
            "b": "int32",
        }
        got = model.infer(given, arena)
        assert sorted(got) == names
        assert got["z" if "z" in got else "output_0"].tolist() == [[3, 3]]


def test_a_sequential_model_is_served(keras, tmp_path, load, arena):
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    network.save(tmp_path / "chain.keras")
    model = load(tmp_path / "chain.keras")
    (name,) = [spec.name for spec in model.signature.inputs]
    x = values(3, 4)
    assert bits(model.infer({name: x}, arena)["output_0"]) == bits(network(x))


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_code_in_a_file_is_run_only_if_the_user_says_so(suffix, keras, tmp_path, load, arena):
    x = keras.Input((4,), name="x")
    file = tmp_path / f"code{suffix}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras.Model(x, keras.layers.Lambda(lambda x: x * 2)(x)).save(file)
    with pytest.raises(LoadFailed, match=r"holds Python code .*safe_mode=false"):
        load(file)
    y = load(file, safe_mode="false").infer({"x": np.ones((1, 4), np.float32)}, arena)["output_0"]
    assert y.tolist() == [[2, 2, 2, 2]]


def test_classes_of_a_package_are_found_once_it_is_imported(
    keras, tmp_path, load, arena, monkeypatch
):
    name = f"classes_{abs(hash(tmp_path))}"
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / f"{name}.py").write_text(CLASSES)
    monkeypatch.syspath_prepend(tmp_path / "code")
    with keras.saving.custom_object_scope({}):
        module = __import__(name)
        x = keras.Input((4,), name="x")
        keras.Model(x, module.Twice()(x)).save(tmp_path / "own.keras")
        for registry in (
            keras.saving.get_custom_objects(),
            keras.src.saving.object_registration.GLOBAL_CUSTOM_NAMES,
        ):
            for key in [key for key in registry if "Twice" in str(key)]:
                del registry[key]
    monkeypatch.delitem(__import__("sys").modules, name)
    monkeypatch.setattr("sys.path", [p for p in __import__("sys").path if "code" not in p])
    with pytest.raises(LoadFailed, match="the option imports"):
        load(tmp_path / "own.keras")
    monkeypatch.syspath_prepend(tmp_path / "code")
    model = load(tmp_path / "own.keras", imports=[name])
    assert model.infer({"x": np.ones((1, 4), np.float32)}, arena)["output_0"].tolist() == [[2] * 4]


def test_weights_are_served_with_what_builds_their_model(keras, builders, tmp_path, load, arena):
    module = __import__(builders)
    original = module.Late(units=6)
    original(values(1, 4))
    file = tmp_path / "late.weights.h5"
    original.save_weights(file)
    options = {"builder": f"{builders}:Late", "builder_options": {"units": 6}}
    model = load(file, inputs="x: float32[?, 4]", **options)
    assert model.signature.describe() == "x: float32[?, 4] -> output_0: float32[?, 6]"
    x = values(3, 4, seed=1)
    assert bits(model.infer({"x": x}, arena)["output_0"]) == bits(original.predict(x, verbose=0))
    with pytest.raises(LoadFailed, match=r"does not say what its inputs are .*the option inputs"):
        load(file, **options)
    with pytest.raises(LoadFailed, match="do not fit"):
        load(file, inputs="x: float32[?, 4]", builder=f"{builders}:Late")
    with pytest.raises(LoadFailed, match="cannot be called with such inputs"):
        load(file, inputs="x: float32[]", **options)


def test_several_inputs_of_a_built_model_go_in_by_name(keras, builders, tmp_path, load, arena):
    original = __import__(builders).Pair()
    a, b = values(2, 4), values(2, 4, seed=1)
    want = original({"a": a, "b": b})["sum"]
    file = tmp_path / "pair.weights.h5"
    original.save_weights(file)
    given = "b: float32[?, 4], a: float32[?, 4]"
    model = load(file, builder=f"{builders}:Pair", inputs=given)
    assert bits(model.infer({"b": b, "a": a}, arena)["sum"]) == bits(want)


def test_a_model_that_cannot_be_traced_says_why_and_leaves_no_file_behind(
    keras, builders, tmp_path, load, monkeypatch
):
    original = __import__(builders).Branching()
    original(values(1, 4))
    file = tmp_path / "branching.weights.h5"
    original.save_weights(file)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    with pytest.raises(LoadFailed, match=r"Using a symbolic .* as a Python `bool`") as caught:
        load(file, builder=f"{builders}:Branching", inputs="x: float32[?, 4]")
    assert "\n" not in str(caught.value)
    __import__(builders).known().save_weights(tmp_path / "known.weights.h5")
    load(tmp_path / "known.weights.h5", builder=f"{builders}:known")
    assert not list((tmp_path / "temporary").iterdir())


def test_a_built_model_that_knows_its_inputs_needs_no_option(keras, builders, tmp_path, load):
    file = tmp_path / "known.weights.h5"
    __import__(builders).known().save_weights(file)
    assert load(file, builder=f"{builders}:known").signature.inputs[0].name == "x"
    with pytest.raises(LoadFailed, match=r"knows its inputs: x .*leave the option inputs out"):
        load(file, builder=f"{builders}:known", inputs="x: float32[?, 4]")


@pytest.mark.parametrize(
    ("builder", "word"),
    [
        (None, "holds weights only .*the option builder"),
        ("nonsense", "package.module:name"),
        ("no_such_module:f", "no module named 'no_such_module'"),
        ("BUILDERS:nobody", "no function or class 'nobody'"),
        ("BUILDERS:not_a_model", "gave a int, not a keras.Model"),
        ("BUILDERS:broken", "failed: RuntimeError: out of luck"),
    ],
)
def test_a_builder_that_is_none_says_why(builder, word, keras, builders, tmp_path, load):
    file = tmp_path / "known.weights.h5"
    __import__(builders).known().save_weights(file)
    options = {} if builder is None else {"builder": builder.replace("BUILDERS", builders)}
    with pytest.raises(LoadFailed, match=word):
        load(file, **options)


@pytest.mark.parametrize("name", ["bad.keras", "bad.h5"])
def test_a_file_of_rubbish_is_a_load_failure(name, tmp_path, load):
    (tmp_path / name).write_bytes(b"no model")
    with pytest.raises(LoadFailed, match=name.replace(".", r"\.")) as caught:
        load(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_an_option_without_effect_is_refused(keras, tmp_path, load):
    x = keras.Input((4,), name="x")
    keras.Model(x, x * 2).save(tmp_path / "m.keras")
    for options in ({"signature": "serve"}, {"builder": "a:b"}, {"inputs": "x: float32[1]"}):
        with pytest.raises(LoadFailed, match=r"has no effect on a \.keras archive"):
            load(tmp_path / "m.keras", **options)
