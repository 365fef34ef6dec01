# SPDX-License-Identifier: BUSL-1.1
"""Keras models as traced functions, with the names that Keras itself gives when it exports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlos_core.errors import LoadFailed
from mlos_core.types import BYTES
from mlos_plugin_tensorflow import keras_files
from mlos_plugin_tensorflow.framework import keras, tf
from mlos_plugin_tensorflow.model import TensorFlowModel
from mlos_plugin_tensorflow.notation import parse_tensors
from mlos_plugin_tensorflow.options import Options
from mlos_plugin_tensorflow.saying import first_line
from mlos_plugin_tensorflow.signature import signature_of


def open_keras(file: Path, options: Options) -> TensorFlowModel:
    """The model in `file`, or the one that `options.builder` builds with its weights.

    Raises:
        LoadFailed: it cannot be read, built or traced.
    """
    if keras.backend.backend() != "tensorflow":
        raise LoadFailed(f"Keras runs on {keras.backend.backend()} here, not on TensorFlow")
    if options.builder is None:
        model = keras_files.load_whole(file, options.safe_mode)
    else:
        model = keras_files.build(options)
    names, structure = _inputs_of(model, options.inputs)
    function = _trace(model, structure)
    if options.builder is not None:
        # Behind the trace, which has made the variables of layers that make them late.
        keras_files.load_weights(model, file, options)
    inputs = dict(zip(names, tf.nest.flatten(structure), strict=True))
    outputs = _named(function.structured_outputs)

    def call(tensors: Any) -> list[Any]:
        flat: list[Any] = tf.nest.flatten(function(*tensors))
        return flat

    signature = signature_of(inputs, outputs, call, options.batched)
    return TensorFlowModel(call, function.graph, signature, model)


def _inputs_of(model: Any, said: str | None) -> tuple[list[str], Any]:
    """Names, and the structure of `tf.TensorSpec`s that the model is called with."""
    known = getattr(model, "inputs", None)
    if known and said is not None:
        raise LoadFailed(
            f"{model.name} knows its inputs: " + ", ".join(tensor.name for tensor in known),
            hint="leave the option inputs out",
        )
    if known:
        return _stated(model, known)
    if said is None:
        raise LoadFailed(
            f"{model.name} does not say what its inputs are",
            hint="say it with the option inputs, like 'image: float32[?, ?, ?, 3]'",
        )
    specs = {spec.name: _tensor_spec(spec.shape, spec.dtype) for spec in parse_tensors(said)}
    structure = next(iter(specs.values())) if len(specs) == 1 else specs
    return [*specs] if len(specs) == 1 else sorted(specs), structure


def _stated(model: Any, known: list[Any]) -> tuple[list[str], Any]:
    try:
        structure = model.input
    except AttributeError:  # a Sequential that was never called
        structure = known[0] if len(known) == 1 else known
    flat = tf.nest.flatten(structure)
    names = sorted(structure) if isinstance(structure, dict) else [each.name for each in flat]
    if len(set(names)) != len(names):
        names = [f"input_{index}" for index in range(len(names))]
    return names, tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), structure)


def _tensor_spec(shape: tuple[int, ...], dtype: str) -> Any:
    kind = tf.string if dtype == BYTES else tf.as_dtype(dtype)
    return tf.TensorSpec([None if size < 0 else size for size in shape], kind)


def _trace(model: Any, structure: Any) -> Any:
    def serve(*tensors: Any) -> Any:
        return model(tf.nest.pack_sequence_as(structure, tensors), training=False)

    # Keras runs its models' code without AutoGraph anyway, which would leave files behind.
    function = tf.function(serve, autograph=False)
    try:
        return function.get_concrete_function(*tf.nest.flatten(structure))
    except Exception as err:
        raise LoadFailed(
            f"{model.name} cannot be called with such inputs: "
            f"{type(err).__name__}: {first_line(err)}"
        ) from err


def _named(outputs: Any) -> dict[str, Any]:
    """Outputs in the order in which `tf.nest` flattens them."""
    if isinstance(outputs, dict):
        return {name: outputs[name] for name in sorted(outputs)}
    return {f"output_{index}": value for index, value in enumerate(tf.nest.flatten(outputs))}
