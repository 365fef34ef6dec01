# SPDX-License-Identifier: BUSL-1.1
import textwrap

import numpy as np
import pytest
from mlos_plugin_python import PythonPlugin

from mlos_core.smi import ModelPackage

HEAD = """
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Annotated, NamedTuple, TypedDict

import numpy as np

"""


@pytest.fixture
def write(tmp_path):
    """`write(code)` makes a folder with that `model.py`; imports are put in front."""

    def write(code, folder="model", **others):
        made = tmp_path / folder
        made.mkdir(exist_ok=True)
        (made / "model.py").write_text(HEAD + textwrap.dedent(code))
        for name, text in others.items():
            (made / f"{name}.py").write_text(textwrap.dedent(text))
        return made

    return write


@pytest.fixture
def load():
    """`load(folder, **options)` loads it; closed at the end."""
    loaded = []

    def load(path, device="cpu", threads=0, **options):
        package = ModelPackage("m", "1", path, None, threads)
        loaded.append(PythonPlugin().load(package, device, options))
        return loaded[-1]

    yield load
    for model in loaded:
        model.close()


@pytest.fixture
def served(write, load):
    """`served(code)` is the model of that code."""
    return lambda code, **options: load(write(code), **options)


def allocate(name, dtype, shape):
    return np.full(shape, 1, dtype)


def text(*items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


def scalar(value, dtype=object):
    array = np.empty((), dtype)
    array[()] = value
    return array


def ask(model, **inputs):
    return model.infer(inputs, allocate)
