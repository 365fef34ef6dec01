# SPDX-License-Identifier: BUSL-1.1
"""Which files may run code when they are opened, and why.

Pickles are, whatever they are called; so are arrays of objects, compiled programs, Lambda layers
of Keras, and graphs of TorchScript and TensorFlow that call Python or reach files. The table of
all formats is in `docs/formats.md`.

The content decides, not the name, wherever the content can be told apart without opening it.
A Jinja template (in GGUF, or beside a tokenizer) is rendered in a sandbox; Python modules that
a `config.json` names in `auto_map` are imported by nobody here.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Final

from axon_client.formats import PICKLE, SAVED_MODEL, kind_of_torch
from axon_client.introspect import read
from axon_client.introspect.mapped import head_of
from axon_client.introspect.zipped import members_of
from axon_client.manifest import Spec
from mlos_core.errors import InvalidInput, LoadFailed

_RUNS: Final = "a pickle: opening it runs the code inside"
_ZIP: Final = b"PK\x03\x04"
_NUMPY: Final = b"\x93NUMPY"
_OBJECTS: Final = b"|O"
_LARGEST_NUMPY_HEADER: Final = 1 << 16
_MOST_ARRAYS: Final = 10_000
_PROBED_OPCODES: Final = 8
_ALWAYS: Final = frozenset({".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle", ".skops"})
_UNREAD_GRAPHS: Final = frozenset({"saved_model.pbtxt", "saved_model.cpb"})
"""What TensorFlow takes in the place of `saved_model.pb`."""
_OWN_CODE: Final = "code of the package, which the runtime would run"
_CODE_FILE: Final = "model.py"
_PYTHON: Final = frozenset({"python", ".py", "py", _CODE_FILE})
_SHOWN: Final = 5


def why_unsafe(path: Path) -> str:
    """Why opening a file may run code that came with it; empty if it may not.

    What cannot be examined is unsafe: a framework may be less strict than the reader here.
    """
    suffix = path.suffix.lower()
    if suffix in _ALWAYS:
        return _RUNS
    if path.name == _CODE_FILE:
        return _OWN_CODE
    if path.name in _UNREAD_GRAPHS:
        return "a graph in a form that is not examined"
    look = _BY_SUFFIX.get(suffix)
    if path.name == SAVED_MODEL:
        look = _saved_model
    try:
        return look(path) if look else ""
    except LoadFailed as error:
        return f"a file that cannot be examined: {error.message}"


def unsafe_files(folder: Path, paths: Iterable[str]) -> dict[str, str]:
    """The files below `folder` that may run code, each with the reason."""
    reasons = {path: why_unsafe(folder / path) for path in paths}
    return {path: reason for path, reason in reasons.items() if reason}


def code_named_by(spec: Spec) -> dict[str, str]:
    """What of a manifest would make the runtime run Python of the package, with the reason.

    The runtime chooses a plugin by these words, and one of its plugins runs `model.py`.
    """
    format = spec.format
    reasons = {
        one.path: _OWN_CODE
        for one in format.execution_files
        if one.format.lower() in _PYTHON or one.path.lower().endswith(".py")
    }
    words = (format.type, format.execution_format, spec.framework.name)
    if any(word.lower() in _PYTHON for word in words):
        reasons["the manifest"] = f"one that asks for the Python plugin: {_OWN_CODE}"
    return reasons


def refuse(title: str, unsafe: dict[str, str]) -> None:
    """Refuse a package with such files.

    Raises:
        InvalidInput: there are some.
    """
    if not unsafe:
        return
    shown = "; ".join(f"{path} is {reason}" for path, reason in islice(unsafe.items(), _SHOWN))
    more = f"; and {len(unsafe) - _SHOWN} more" if len(unsafe) > _SHOWN else ""
    raise InvalidInput(
        f"{title} holds files that may run code when they are opened: {shown}{more}",
        hint="choose a package with safetensors, ONNX or GGUF files; "
        "if you trust where it comes from, --allow-pickle installs it",
    )


def _torch(path: Path) -> str:
    kind = kind_of_torch(path)
    if kind == PICKLE:
        return _RUNS
    return _compiled(path) or (_graph(path, kind) if kind == "torchscript" else "")


def _compiled(path: Path) -> str:
    with members_of(path, "an archive") as members:
        machine = any(
            "data/aotinductor/" in name or PurePosixPath(name).suffix in (".so", ".o", ".dll")
            for name in members.sizes
        )
    return "a compiled package: loading it runs the machine code inside" if machine else ""


def _maybe_pickle(path: Path) -> str:
    """A `.bin` may be anything; a checkpoint is told by its first bytes."""
    head = head_of(path)
    if head.startswith(_ZIP):
        with members_of(path, "an archive") as members:
            names = [name.rpartition("/")[2] for name in members.sizes]
        return _RUNS if "data.pkl" in names else ""
    return _RUNS if _begins_a_pickle(head) else ""


def _begins_a_pickle(head: bytes) -> bool:
    """Protocol 2 or newer, and opcodes that make sense behind it."""
    if head[:1] != b"\x80" or head[1:2] not in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return False
    try:
        for _ in islice(pickletools.genops(head), _PROBED_OPCODES):
            pass
    except ValueError as error:
        # Cut off within an argument is sound so far; an unknown opcode is not.
        return "opcode" not in str(error)
    return True


def _array(path: Path) -> str:
    return (
        "an array of pickled objects" if _has_objects(head_of(path, _LARGEST_NUMPY_HEADER)) else ""
    )


def _has_objects(head: bytes) -> bool:
    if not head.startswith(_NUMPY):
        return False
    wide = head[6:7] != b"\x01"
    start = 12 if wide else 10
    length = int.from_bytes(head[8:start], "little")
    return _OBJECTS in head[start : start + length]


def _arrays(path: Path) -> str:
    with members_of(path, "an archive of arrays") as members:
        if len(members.sizes) > _MOST_ARRAYS:
            raise LoadFailed(f"{path.name} has more arrays than any model")
        for name in members.sizes:
            if _has_objects(members.head(name, _LARGEST_NUMPY_HEADER)):
                return "an archive with arrays of pickled objects"
    return ""


def _keras(path: Path) -> str:
    return _graph(path, "keras")


def _saved_model(path: Path) -> str:
    return _graph(path, "savedmodel")


def _graph(path: Path, format: str) -> str:
    reason = read(path, format).runs_code
    return f"no plain model: {reason}" if reason else ""


_BY_SUFFIX: Final[dict[str, Callable[[Path], str]]] = {
    ".pt": _torch, ".pth": _torch, ".jit": _torch, ".ts": _torch, ".torchscript": _torch,
    ".pt2": _compiled, ".bin": _maybe_pickle, ".ckpt": _maybe_pickle, ".npy": _array,
    ".npz": _arrays, ".keras": _keras, ".h5": _keras, ".hdf5": _keras, ".model": _maybe_pickle,
    ".dat": _maybe_pickle, "": _maybe_pickle,
}  # fmt: skip
