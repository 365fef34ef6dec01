# SPDX-License-Identifier: BUSL-1.1
"""Keras: the `config.json` of a `.keras` archive. An `.h5` file says little without h5py."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from axon_client.introspect.header import Header
from axon_client.introspect.mapped import mapped, refusal
from axon_client.introspect.zipped import members_of
from axon_client.manifest import IO, IOSpec
from mlos_core.errors import LoadFailed

_MOST_CONFIG: Final = 8 << 20
_HDF5: Final = b"\x89HDF\r\n\x1a\n"
_CODE_IN_HDF5: Final = re.compile(rb'"class_name":\s*"(?:Lambda"|__lambda__"|[^"\\]{0,64}\\u)')
_NO_WEIGHTS: Final = "the weights lie in HDF5, which axon does not read: parameters are not counted"
_NO_CONFIG: Final = "an HDF5 file keeps inputs and outputs where axon does not look"
_OTHER_CODE: Final = re.compile(rb'"module":\s*"(?!keras[."])')
_LAMBDA: Final = "a Lambda layer holds Python code"
_DEEPEST: Final = 64


def read_keras(path: Path) -> Header:
    """Read the header of a `.keras` archive, or what can be known of an `.h5` file.

    Raises:
        LoadFailed: it is neither.
    """
    with mapped(path) as data:
        if data[:8] == _HDF5:
            return Header(runs_code=_code_in_hdf5(data), unknown=(_NO_CONFIG, _NO_WEIGHTS))
    if path.suffix.lower() != ".keras":
        raise refusal(path, "an HDF5 file", "it does not begin like one")
    with members_of(path, "a Keras archive") as members:
        if "config.json" not in members.sizes:
            raise LoadFailed(f"{path.name} is not a Keras archive: it has no config.json")
        config = _object(members.read("config.json", _MOST_CONFIG), path.name)
        about = {}
        if "metadata.json" in members.sizes:
            about = _object(members.read("metadata.json", 1 << 20), path.name)
    version = about.get("keras_version")
    return Header(
        io=_io(config),
        architecture=str(config.get("class_name", ""))[:128],
        producer=f"keras {version}" if isinstance(version, str) else "",
        runs_code=_code_in({**config, "compile_config": None}),  # that is for training
        unknown=(_NO_WEIGHTS,),
    )


def _object(data: bytes, title: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LoadFailed(f"{title}: its configuration cannot be read: {error}") from error


def _objects(value: Any, depth: int = 0) -> Iterator[dict[str, Any]]:
    """Every object in a configuration, outermost first."""
    if depth > _DEEPEST:
        raise LoadFailed(f"the configuration is nested more than {_DEEPEST} deep")
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _objects(inner, depth + 1)


def _code_in(config: dict[str, Any]) -> str:
    """A Lambda layer, a function kept as byte code, or something that is not Keras' own."""
    for one in _objects(config):
        if one.get("class_name") in ("Lambda", "__lambda__"):
            return _LAMBDA
        module = one.get("module")
        if isinstance(module, str) and module.partition(".")[0] != "keras":
            return f"it asks for code of the Python module {module[:80]}"
    return ""


def _code_in_hdf5(data: mmap.mmap) -> str:
    if _CODE_IN_HDF5.search(data):
        return _LAMBDA
    return "it asks for code that is not Keras' own" if _OTHER_CODE.search(data) else ""


def _io(config: dict[str, Any]) -> IO:
    inner = config.get("config")
    if not isinstance(inner, dict):
        return IO()
    layers = [one for one in inner.get("layers", []) if isinstance(one, dict)]
    inputs = [_input(one) for one in layers if one.get("class_name") == "InputLayer"]
    return IO([spec for spec in inputs if spec], _outputs(inner))


def _input(layer: dict[str, Any]) -> IOSpec | None:
    told = layer.get("config")
    if not isinstance(told, dict):
        return None
    dtype = told.get("dtype")
    shape = told.get("batch_shape", told.get("batch_input_shape"))
    sizes = None
    if isinstance(shape, list):
        sizes = [side if isinstance(side, int) else -1 for side in shape]
    kind = dtype if isinstance(dtype, str) else "unknown"
    return IOSpec(str(told.get("name", ""))[:256], "bytes" if kind == "string" else kind, sizes)


def _outputs(inner: dict[str, Any]) -> list[IOSpec]:
    """Names alone: shapes follow from what the layers compute."""
    told = inner.get("output_layers")
    if not isinstance(told, list):
        return []
    entries = told if told and isinstance(told[0], list) else [told]
    names = [one[0] for one in entries if one and isinstance(one[0], str)]
    return [IOSpec(name[:256], "unknown", None) for name in names]
