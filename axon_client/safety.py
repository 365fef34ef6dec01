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

import ast
import pickletools
import re
import tarfile
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, Final

from axon_client.formats import PICKLE, SAVED_MODEL, SUFFIXES, is_companion, kind_of_torch
from axon_client.introspect import read
from axon_client.introspect.mapped import head_of
from axon_client.introspect.opcodes import calls_something
from axon_client.introspect.zipped import Members, members_of
from axon_client.manifest import Spec
from mlos_core.errors import InvalidInput, LoadFailed

_RUNS: Final = "a pickle: opening it runs the code inside"
_ZIP: Final = b"PK\x03\x04"
_NUMPY: Final = b"\x93NUMPY"
_PLAIN_ARRAY: Final = re.compile(r"[<>|=]?[?bBhHiIlLqQpPefdgFDGSaUVcmM][0-9]*(\[[0-9A-Za-z]+\])?")
"""Types of NumPy's that hold no objects, as `descr` says them."""
_OLD_LONG: Final = re.compile(r"(?<=[0-9])L(?=[,)])")
"""How Python 2 wrote some of the sizes."""
_LARGEST_NUMPY_HEADER: Final = 1 << 16
_MOST_ARRAYS: Final = 10_000
_PROBED_OPCODES: Final = 8
_ALWAYS: Final = frozenset({".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle", ".skops"})
_PACKED: Final = frozenset({".gz", ".bz2", ".xz", ".lzma", ".z", ".zst", ".lz4"})
_DATA_PICKLE: Final = "data.pkl"
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
    inner = PurePosixPath(path.stem).suffix.lower() if suffix in _PACKED else suffix
    if inner in _ALWAYS:
        return _RUNS
    if path.name == _CODE_FILE:
        return _OWN_CODE
    if path.name in _UNREAD_GRAPHS:
        return "a graph in a form that is not examined"
    known = suffix in SUFFIXES or is_companion(path.name)
    look = _BY_SUFFIX.get(suffix, None if known else _maybe_pickle)
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
        if kind_of_torch(path) != "torchscript" and _has_data_pickle(members):
            return _RUNS  # to torch.load it is a checkpoint, whatever else is in it
    return "a compiled package: loading it runs the machine code inside" if machine else ""


def _maybe_pickle(path: Path) -> str:
    """A `.bin` may be anything; a checkpoint is told by how it begins."""
    head = head_of(path, tarfile.BLOCKSIZE)
    if head.startswith(_ZIP):
        with members_of(path, "an archive") as members:
            return _RUNS if _has_data_pickle(members) else ""
    if _begins_a_tar(head) and path.suffix.lower() in (".bin", ".ckpt"):
        return _RUNS  # so did PyTorch keep checkpoints at first, and reads them still
    return _RUNS if _begins_a_pickle(head) or calls_something(path) else ""


def _has_data_pickle(members: Members) -> bool:
    """PyTorch's reader of archives tells no upper case from lower."""
    return any(name.rpartition("/")[2].lower() == _DATA_PICKLE for name in members.sizes)


def _begins_a_tar(head: bytes) -> bool:
    try:
        return bool(tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape").name)
    except (tarfile.HeaderError, ValueError):
        return False


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
    head = head_of(path, _LARGEST_NUMPY_HEADER)
    if head.startswith(_ZIP):
        return _arrays(path)
    if not head.startswith(_NUMPY):
        return _maybe_pickle(path)  # which NumPy opens then
    return "an array of pickled objects" if _has_objects(head) else ""


def _has_objects(head: bytes) -> bool:
    """Whether an array is one of objects, or may be one to a reader that is less strict."""
    if not head.startswith(_NUMPY):
        return False
    wide = head[6:7] != b"\x01"
    start = 12 if wide else 10
    length = int.from_bytes(head[8:start], "little")
    try:
        text = _OLD_LONG.sub("", head[start : start + length].decode("latin-1").strip())
        header = ast.literal_eval(text)
        return not _is_plain(header["descr"])
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError):
        return True


def _is_plain(descr: Any) -> bool:
    """Whether a type of NumPy's has no objects: one by its letter, or fields that have none."""
    if isinstance(descr, str):
        return bool(_PLAIN_ARRAY.fullmatch(descr))
    if isinstance(descr, tuple):  # a type, and the shape of what is of it
        return bool(descr) and _is_plain(descr[0])
    return isinstance(descr, list) and all(
        isinstance(field, tuple) and len(field) > 1 and _is_plain(field[1]) for field in descr
    )


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
}  # fmt: skip
