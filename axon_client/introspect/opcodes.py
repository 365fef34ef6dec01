# SPDX-License-Identifier: BUSL-1.1
"""Whether a file that does not say so is a pickle of the old kind, which has no first bytes.

Opcodes are followed as an unpickler would, with the height of its stack alone: what is no
pickle asks for something that is not there within a few bytes. Arguments are skipped, so that
padding of any length costs nothing. A row of pickles counts as one, as PyTorch writes them.
"""

from __future__ import annotations

import pickletools
import re
from pathlib import Path
from typing import BinaryIO, Final

from mlos_core.errors import LoadFailed

_OPCODES: Final = {code.code: code for code in pickletools.opcodes}
_MOST_STEPS: Final = 10_000
"""Sound steps after which there is no doubt."""
_MOST_LINE: Final = 1 << 16
_CALLS: Final = frozenset({"REDUCE", "OBJ", "INST", "NEWOBJ", "NEWOBJ_EX", "BUILD"})
_NAMES: Final = frozenset({"GLOBAL", "INST"})
_NAME: Final = re.compile(rb"[^\s()]{1,1024}\n")
_NUMBER: Final = re.compile(rb"\s*[-+]?[0-9.][0-9A-Za-z._+-]*\s*\n")
_NUMBERS: Final = frozenset({"INT", "LONG", "FLOAT", "GET", "PUT"})
_WIDTHS: Final = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_MARK: Final = "m"
_VALUE: Final = "v"


def calls_something(path: Path) -> bool:
    """Whether the file is one pickle or several, and one of them calls what it names.

    Raises:
        LoadFailed: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return _calls(file, path.stat().st_size)
    except OSError as error:
        raise LoadFailed(f"{path.name} cannot be read: {error.strerror}") from error


def _calls(file: BinaryIO, size: int) -> bool:
    stack: list[str] = []
    for _ in range(_MOST_STEPS):
        code = _OPCODES.get(file.read(1).decode("latin-1"))
        if code is None or not _skip(file, code, size) or not _move(stack, code):
            return False
        if code.name in _CALLS:
            return True
    return True


def _skip(file: BinaryIO, code: pickletools.OpcodeInfo, size: int) -> bool:
    """Pass over an argument; False if it cannot be one."""
    if code.arg is None:
        return True
    count = code.arg.n
    if count == pickletools.UP_TO_NEWLINE:
        return _skip_lines(file, code.name)
    if count < 0:
        width = _WIDTHS[count]
        count = int.from_bytes(file.read(width), "little")
    file.seek(count, 1)
    return file.tell() < size


def _skip_lines(file: BinaryIO, name: str) -> bool:
    line = file.readline(_MOST_LINE)
    if name in _NAMES:
        return bool(_NAME.fullmatch(line) and _NAME.fullmatch(file.readline(_MOST_LINE)))
    if name in _NUMBERS:
        return bool(_NUMBER.fullmatch(line))
    while line and not line.endswith(b"\n"):
        line = file.readline(_MOST_LINE)
    return bool(line)


def _move(stack: list[str], code: pickletools.OpcodeInfo) -> bool:
    """What an opcode does to the stack; False if it takes what is not there."""
    if code.name == "STOP":
        sound = _VALUE in stack[-1:]
        stack.clear()  # another pickle may follow
        return sound
    before = [kind.name for kind in code.stack_before]
    if "mark" in before:
        before = before[: before.index("mark")]
        if _MARK not in stack:
            return False
        while stack.pop() != _MARK:
            pass
    if len(stack) < len(before):
        return False
    del stack[len(stack) - len(before) :]
    stack.extend(_MARK if kind.name == "mark" else _VALUE for kind in code.stack_after)
    return True
