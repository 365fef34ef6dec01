# SPDX-License-Identifier: BUSL-1.1
"""Weights outside the model file: only from the model's own folder, and only what is there.

An ONNX file names the files of its external data, and could name any: `/etc/shadow`,
`../../key`, a pipe on which loading would wait for ever. So the file is read before
onnxruntime opens it, and each name, offset and length is checked.
"""

from __future__ import annotations

import math
import mmap
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from mlos_core.errors import LoadFailed
from mlos_plugin_onnx.protobuf import Malformed, fields, varint

_HINT: Final = "external data must be plain files in the model's own folder"
_ADDRESS: Final = "_ORT_MEM_ADDR_"
"""Where a name has this, onnxruntime itself reads the offset as a pointer."""
_WORD: Final = b"location"
_SMALL: Final = 4 << 20
_MAX_DEPTH: Final = 64
"""Messages in messages: a graph within a graph takes three levels. Protobuf itself stops
at 100."""

# Which fields lead to tensors: message -> {field: message}. Numbers are those of onnx.proto.
_PATHS: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "training": {1: "graph", 2: "graph"},
    "node": {5: "attribute"},
    "attribute": {
        **{5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
        **{22: "sparse", 23: "sparse"},
    },
    "sparse": {1: "tensor", 2: "tensor"},
}
_DIMS, _DATA_TYPE, _NAME, _EXTERNAL = 1, 2, 8, 13
_KEY, _VALUE = 1, 2
_BITS: Final = {
    **{1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64},
    **{14: 64, 15: 128, 16: 16, 17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4},
}
"""How wide an element of each data type is; types that are not here have no known size."""


def check_external_data(file: Path) -> None:
    """Look through the model in `file`, if it names external data at all.

    Raises:
        LoadFailed: a name leads out of the model's folder, or to less than it promises.
    """
    with file.open("rb") as opened:
        if not os.fstat(opened.fileno()).st_size:
            return  # onnxruntime says it
        with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
            problem = _first_problem(file.parent, content) if _may_name(content) else ""
    if problem:
        raise LoadFailed(f"cannot load {file.name}: {problem}", hint=_HINT)


def _may_name(content: mmap.mmap) -> bool:
    """Whether some tensor may be external: few models have one, and they pay the whole walk.

    Each has the word `location` in it. The weights of a large file are not searched for it,
    which would take a third of the time of loading them: a tensor says it by a field.
    """
    if len(content) < _SMALL:
        return content.find(_WORD) >= 0
    try:
        with memoryview(content) as model:
            return any(
                number == _EXTERNAL if number >= 0 else _WORD in bytes(value)
                for number, value in _signs(model)
            )
    except Malformed:
        return True  # the walk says how


def _signs(model: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The fields of the graph's weights by number, and all else, by -1, as it is."""
    for number, value in fields(model):
        if isinstance(value, int):
            continue
        if _PATHS["model"].get(number) != "graph":
            yield -1, value
            continue
        for inner, part in fields(value):
            if isinstance(part, int):
                continue
            if _PATHS["graph"].get(inner) == "tensor":
                yield from _texts(part)
            else:
                yield -1, part


def _first_problem(folder: Path, content: mmap.mmap) -> str:
    """Told, not raised: an exception would keep views of the file alive, and it mapped."""
    try:
        with memoryview(content) as model:
            for tensor in _tensors(model, "model", 0):
                entries = [_entry(value) for number, value in tensor if number == _EXTERNAL]
                if entries and (problem := _problem(folder, tensor, entries)):
                    return problem
    except Malformed as err:
        return f"it is no ONNX model: {err}"
    return ""


def _tensors(
    message: memoryview, kind: str, depth: int
) -> Iterator[list[tuple[int, int | memoryview]]]:
    """The fields of every tensor, wherever in the model it is."""
    if depth > _MAX_DEPTH:
        raise Malformed(f"its graphs are nested more than {_MAX_DEPTH // 3} deep")
    if kind == "tensor":
        yield [pair for pair in fields(message) if pair[0] in (_DIMS, _DATA_TYPE, _NAME, _EXTERNAL)]
        return
    paths = _PATHS[kind]
    for number, value in fields(message):
        inner = paths.get(number)
        if inner is not None and not isinstance(value, int):
            yield from _tensors(value, inner, depth + 1)


def _entry(value: int | memoryview) -> tuple[str, str]:
    if isinstance(value, int):
        raise Malformed("external data are no message")
    found = {number: bytes(text) for number, text in _texts(value)}
    try:
        return found.get(_KEY, b"").decode(), found.get(_VALUE, b"").decode()
    except UnicodeDecodeError:
        raise Malformed("the description of external data is no text") from None


def _texts(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    return ((number, value) for number, value in fields(message) if not isinstance(value, int))


# --- one tensor ---------------------------------------------------------------------------


def _problem(
    folder: Path, tensor: list[tuple[int, int | memoryview]], entries: list[tuple[str, str]]
) -> str:
    """What is wrong with a tensor's external data; empty if nothing is."""
    # A key may come twice; which of them counts is the reader's choice, so all are checked.
    locations = [value for key, value in entries if key == "location"]
    numbers = {key: value for key, value in entries if key in ("offset", "length")}
    if any(not (value.isascii() and value.isdecimal()) for value in numbers.values()):
        return f"its external data have the place {numbers}, not whole numbers of bytes"
    if any(len(value) > 19 for value in numbers.values()):
        return "its external data are said to lie beyond 2^63 bytes"
    size = numbers.get("length")
    needed = int(size) if size else _bytes_of(tensor)
    end = int(numbers.get("offset") or 0) + needed
    problems = (location_problem(folder, location, end) for location in locations)
    return next((problem for problem in problems if problem), "")


def location_problem(folder: Path, location: str, end: int) -> str:
    """Why `location` is not a file in `folder` with at least `end` bytes; empty if it is."""
    path = PurePosixPath(location)
    if _ADDRESS in path.parts:
        return f"its external data {location!r} are an address in memory"
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in location:
        return f"its external data lie at {location!r}, outside its own folder"
    try:
        real = (folder / path).resolve(strict=True)
        found = real.stat()
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        return f"its external data {location!r} are missing from its own folder"
    if not real.is_relative_to(folder.resolve()):
        return f"its external data {location!r} are a link out of its own folder"
    if not stat.S_ISREG(found.st_mode):
        return f"its external data {location!r} are no plain file in its own folder"
    if found.st_size < end:
        return f"its external data {location!r} have {found.st_size} bytes, not {end}; cut off?"
    return ""


def _bytes_of(tensor: list[tuple[int, int | memoryview]]) -> int:
    """What the tensor's shape and type take; 0 where its type has no known size."""
    dims: list[int] = []
    bits = 0
    for number, value in tensor:
        if number == _DATA_TYPE and isinstance(value, int):
            bits = _BITS.get(value, 0)
        elif number == _DIMS:
            dims += [value] if isinstance(value, int) else _packed(value)
    return (math.prod(dims) * bits + 7) // 8


def _packed(values: memoryview) -> list[int]:
    found, place = [], 0
    while place < len(values):
        value, place = varint(values, place)
        found.append(value)
    return found
