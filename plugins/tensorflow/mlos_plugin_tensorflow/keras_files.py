# SPDX-License-Identifier: BUSL-1.1
"""Keras models from files: whole ones, and weights with the code that builds their model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlos_core.errors import LoadFailed
from mlos_plugin_tensorflow.framework import h5py, keras
from mlos_plugin_tensorflow.modules import find_builder
from mlos_plugin_tensorflow.options import Options
from mlos_plugin_tensorflow.saying import first_line


def load_whole(file: Path, safe_mode: bool) -> Any:
    """The model of a `.keras` archive, or of an `.h5` file that holds more than weights.

    Raises:
        LoadFailed: Keras cannot read it, or it holds code and `safe_mode` is on.
    """
    if file.suffix.lower() != ".keras":
        _check_is_whole(file)
    try:
        return keras.saving.load_model(file, compile=False, safe_mode=safe_mode)
    except Exception as err:
        raise _refused(file, err) from err


def _check_is_whole(file: Path) -> None:
    try:
        with h5py.File(file) as opened:
            whole = "model_config" in opened.attrs
    except OSError as err:
        raise LoadFailed(f"{file.name} is no HDF5 file: {err}") from err
    if not whole:
        raise LoadFailed(
            f"{file.name} holds weights only",
            hint="name what builds their model: the option builder, package.module:factory",
        )


def _refused(file: Path, error: Exception) -> LoadFailed:
    said = str(error)
    if "safe_mode" in said:
        return LoadFailed(
            f"{file.name} holds Python code (a Lambda layer), which is not run",
            hint="register it with the option safe_mode=false if you trust where it comes from",
        )
    if "not locate" in said or "register_keras_serializable" in said:
        hint = "classes of another package need the option imports, which names it"
    elif file.suffix.lower() == ".keras" and "File not found" in said:
        return LoadFailed(f"{file.name} is no .keras archive")
    else:
        hint = ""
    return LoadFailed(f"Keras cannot load {file.name}: {first_line(error)}", hint=hint)


def build(options: Options) -> Any:
    """The model that the option `builder` builds, whatever its weights are.

    Raises:
        LoadFailed: the builder raises, or builds something else.
    """
    builder = find_builder(options.builder or "")
    try:
        model = builder(**options.builder_options)
    except Exception as err:
        raise LoadFailed(f"{options.builder} failed: {type(err).__name__}: {err}") from err
    if not isinstance(model, keras.Model):
        raise LoadFailed(f"{options.builder} gave a {type(model).__name__}, not a keras.Model")
    return model


def load_weights(model: Any, file: Path, options: Options) -> None:
    """Put the weights of `file` into a built model.

    Raises:
        LoadFailed: they are those of another model.
    """
    try:
        model.load_weights(file)
    except Exception as err:
        raise LoadFailed(
            f"the weights in {file.name} do not fit what {options.builder} builds: "
            f"{first_line(err)}"
        ) from err
