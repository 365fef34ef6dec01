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
_CODE: Final = {
    "Lambda": "holds Python code",
    "__lambda__": "holds Python code",
    "TorchModuleWrapper": "holds a pickle of PyTorch's",
    "TFSMLayer": "loads a SavedModel from anywhere",
}
"""Classes that are not what they do, but what somebody else puts into them."""
_PLAIN: Final = (
    "activations", "constraints", "dtype_policies", "engine", "initializers", "layers", "losses",
    "metrics", "mixed_precision", "models", "ops", "optimizers", "quantizers", "random",
    "regularizers",
)  # fmt: skip
"""Parts of Keras that compute. Others download, load, and change what loading allows."""
_CODE_IN_HDF5: Final = re.compile(
    rb'"class_name"\s*:\s*"(?:(?:%s)"|[^"\\]{0,64}\\u)' % "|".join(_CODE).encode()
)
_OTHER_CODE: Final = re.compile(
    rb'"module"\s*:\s*"(?!keras(?:\.src)?(?:"|\.(?:%s)[."]))' % "|".join(_PLAIN).encode()
)
_READS: Final = re.compile(rb'"vocabulary"\s*:\s*"')
_HIDDEN: Final = re.compile(rb"\\u00(?:4[1-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9a])", re.IGNORECASE)
"""A letter that is escaped, which no writer of JSON does."""
_NO_WEIGHTS: Final = "the weights lie in HDF5, which axon does not read: parameters are not counted"
_NO_CONFIG: Final = "an HDF5 file keeps inputs and outputs where axon does not look"
_READS_FILES: Final = "a layer reads its vocabulary from a file of the machine"
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
    """What in a configuration is more than Keras' own layers and functions; empty for nothing."""
    for one in _objects(config):
        name, module, inner = one.get("class_name"), one.get("module"), one.get("config")
        if isinstance(name, str) and name in _CODE:
            return f"a {name} layer {_CODE[name]}"
        if isinstance(module, str) and not _is_plain(module, name):
            return f"it asks for code of the Python module {module[:80]}"
        if isinstance(inner, dict) and isinstance(inner.get("vocabulary"), str):
            return _READS_FILES
    return ""


def _is_plain(module: str, kind: Any) -> bool:
    """Whether a module is one of Keras' own that computes; its functions, if `kind` says so."""
    top, *_ = module.removeprefix("keras.src.").removeprefix("keras.").split(".")
    if module in ("keras", "keras.src") or top == "models":
        return bool(kind != "function")  # among its functions is one that loads other files
    return module != top and module.startswith("keras.") and top in _PLAIN


def _code_in_hdf5(data: mmap.mmap) -> str:
    """The same as far as it can be found in a file whose structure is not read."""
    if _CODE_IN_HDF5.search(data):
        return "a Lambda layer, or one like it, holds code"
    if _OTHER_CODE.search(data):
        return "it asks for code that is not Keras' own"
    if _READS.search(data):
        return _READS_FILES
    return "letters of its configuration are hidden" if _HIDDEN.search(data) else ""


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
