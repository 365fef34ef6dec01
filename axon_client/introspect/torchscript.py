# SPDX-License-Identifier: BUSL-1.1
"""TorchScript archives: the types of `forward` from its text, the weights from their records.

TorchScript's interpreter runs what is in the archive. Its operators compute, but for a few that
write files, map them, or call other machines: a text with one of their names is reported.

An archive says names and Python types of the arguments, but no tensor's dtype or shape: those
follow from what it is called with. Where it has the extra file `signature`, that says all.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from axon_client.introspect import notation, pickles
from axon_client.introspect.checkpoint import look_into, weigh
from axon_client.introspect.header import Header
from axon_client.introspect.zipped import Members, members_of
from axon_client.manifest import IO, IOSpec
from mlos_core.errors import LoadFailed

_KIND: Final = "a TorchScript archive"
_MOST_CODE: Final = 16 << 20
_MOST_SIGNATURE: Final = 64 << 10
_SCALARS: Final = {"int": "int64", "float": "float64", "bool": "bool", "str": "bytes"}
_REACHES_OUT: Final = {
    "save": "writes files of the machine",
    "from_file": "maps files of the machine",
    "rpc_sync": "calls other machines",
    "rpc_async": "calls other machines",
    "rpc_remote": "calls other machines",
}
"""Names of operators, and what they do beyond computing. `x.save` is one way to call `save`."""
_NAMES: Final = re.compile(rf"(?<!def )\b({'|'.join(_REACHES_OUT)})\b")
_MOST_FILES: Final = 10_000
_NO_SHAPES: Final = "TorchScript keeps no dtypes and shapes of tensors"


def read_torchscript(path: Path) -> Header:
    """Read the header of a TorchScript archive.

    Raises:
        LoadFailed: it is none.
    """
    with members_of(path, _KIND) as members:
        root = _root(members)
        contents = look_into(members, f"{root}/data.pkl", path.name)
        tally = weigh(contents, path.name)
        stated = _stated(members, root)
        return Header(
            io=stated or _forward(members, root, contents, path.name),
            parameters=tally.parameters,
            dtypes=tally.dtypes,
            weight_bytes=tally.bytes,
            architecture=_class_name(contents),
            runs_code=_reaches(members, root, path.name),
            unknown=() if stated else (_NO_SHAPES,),
        )


def _root(members: Members) -> str:
    for name in members.sizes:
        top, _, rest = name.partition("/")
        if rest == "constants.pkl" and f"{top}/data.pkl" in members.sizes:
            return top
    raise LoadFailed(
        "the archive holds no TorchScript",
        hint="a checkpoint or an exported program has other members",
    )


def _reaches(members: Members, root: str, title: str) -> str:
    """How its code reaches out of itself; empty if it only computes."""
    folder = f"{root}/code/".lower()  # PyTorch tells no upper case from lower in names
    texts = [name for name in members.sizes if name.lower().startswith(folder)]
    texts = [name for name in texts if name.lower().endswith(".py")]
    if len(texts) > _MOST_FILES or sum(members.sizes[name] for name in texts) > _MOST_CODE:
        raise LoadFailed(f"{title} has more code than any model")
    found: dict[str, None] = {}
    for name in texts:
        text = members.read(name, _MOST_CODE).decode(errors="replace")
        found |= {_REACHES_OUT[word]: None for word in _NAMES.findall(text)}
    return ", ".join(f"its code {what}" for what in found)


def _stated(members: Members, root: str) -> IO | None:
    """What the extra file `signature` says, `x:float32[?,3] -> y:float32[?]`."""
    name = f"{root}/extra/signature"
    if name not in members.sizes:
        return None
    line = members.read(name, _MOST_SIGNATURE).decode(errors="replace")
    inputs, arrow, outputs = line.partition("->")
    return IO(notation.parse(inputs), notation.parse(outputs)) if arrow else None


def _class(contents: pickles.Contents) -> pickles.Global | None:
    """The outermost object's class: the first name that a module's pickle asks for."""
    named = (one for one in contents.globals if one.module.startswith("__torch__"))
    return next(named, None)


def _class_name(contents: pickles.Contents) -> str:
    found = _class(contents)
    return found.name if found else ""


def _forward(members: Members, root: str, contents: pickles.Contents, title: str) -> IO:
    found = _class(contents)
    if found is None:
        return IO()
    name = f"{root}/code/{found.module.replace('.', '/')}.py"
    if name not in members.sizes:
        raise LoadFailed(f"{title} has no code of its class {found.name}")
    return io_of(members.read(name, _MOST_CODE).decode(errors="replace"), found.name)


# --- the text of a class ---------------------------------------------------------------------


def io_of(code: str, name: str) -> IO:
    """The arguments and results of `forward` in the text of a class."""
    begin = re.search(rf"^class {re.escape(name)}\(", code, re.MULTILINE)
    start = begin.end() if begin else 0
    stop = re.compile(r"^class ", re.MULTILINE).search(code, start)
    head = re.compile(r"^  def forward\(", re.MULTILINE).search(code, start)
    if head is None or (stop and head.start() > stop.start()):
        return IO()
    closing = _closing(code, head.end())
    parameters = _split(code[head.end() : closing])[1:]
    result = re.compile(r"\)\s*->\s*([^\n]+):\s*$", re.MULTILINE).match(code, closing)
    inputs = [_argument(one) for one in parameters]
    return IO(inputs, _results(result[1].strip()) if result else [])


def _closing(text: str, at: int) -> int:
    """Where the bracket that is open at `at` closes."""
    depth = 1
    for place in range(at, len(text)):
        depth += (text[place] in "([{") - (text[place] in ")]}")
        if depth == 0:
            return place
    raise LoadFailed("the code of forward is cut off")


def _split(text: str) -> list[str]:
    """At the commas that are in no bracket."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append(text[start:place].strip())
            start = place + 1
    return [*parts, text[start:].strip()] if text.strip() else []


def _argument(text: str) -> IOSpec:
    name, _, rest = text.partition(":")
    kind, default, _ = rest.partition("=")
    kind = kind.strip()
    optional = kind.startswith("Optional[")
    inner = kind.removeprefix("Optional[").removesuffix("]") if optional else kind
    return _spec(name.strip(), inner, "optional" if optional or default else "")


def _results(kind: str) -> list[IOSpec]:
    if kind.startswith("Tuple[") and kind.endswith("]"):
        parts = _split(kind[6:-1])
        return [_spec(f"output_{index}", part, "") for index, part in enumerate(parts)]
    return [] if kind == "NoneType" else [_spec("output", kind, "")]


def _spec(name: str, kind: str, description: str) -> IOSpec:
    if kind in _SCALARS:
        return IOSpec(name, _SCALARS[kind], [], description)
    note = "" if kind == "Tensor" else kind
    return IOSpec(name, "unknown", None, ", ".join(filter(None, (note, description))))
