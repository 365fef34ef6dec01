# SPDX-License-Identifier: BUSL-1.1
"""What a pickle would build, told from its opcodes alone.

Nothing is unpickled: no class is looked up, nothing is called. The stack is followed with
plain values in the place of objects, as far as is needed to see which storages of tensors
there are and of which class the outermost object is.
"""

from __future__ import annotations

import pickletools
from typing import Any, Final, NamedTuple

_MOST_STEPS: Final = 2_000_000
_STORAGES: Final = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32",
    "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8",
    "BoolStorage": "bool", "QInt8Storage": "int8", "QUInt8Storage": "uint8",
    "QInt32Storage": "int32", "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128", "UntypedStorage": "uint8",
    "Float8_e4m3fnStorage": "float8_e4m3fn", "Float8_e5m2Storage": "float8_e5m2",
}  # fmt: skip


class Global(NamedTuple):
    """A name that a pickle asks for: `module` and `name` as they stand in it."""

    module: str
    name: str


class Contents(NamedTuple):
    """What was seen: every name asked for, and the storages by key with dtype and elements."""

    globals: tuple[Global, ...]
    storages: dict[str, tuple[str, int]]


class _Mark:
    pass


_MARK: Final = _Mark()
_OPAQUE: Final = object()
_PUSHED: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: Final = {"EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"}


def look(data: bytes) -> Contents:
    """Follow a pickle's opcodes.

    Raises:
        ValueError: the bytes are no pickle, or one that does too much.
    """
    return _Follower().follow(data)


class _Follower:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.globals: dict[Global, None] = {}
        self.storages: dict[str, tuple[str, int]] = {}

    def follow(self, data: bytes) -> Contents:
        try:
            for count, (code, argument, _) in enumerate(pickletools.genops(data)):
                if count > _MOST_STEPS:
                    raise ValueError("it has more steps than any checkpoint")
                self._step(code, argument)
        except (IndexError, KeyError, TypeError, OverflowError, UnicodeError) as error:
            raise ValueError(f"it is no sound pickle: {error!r}") from error
        return Contents(tuple(self.globals), self.storages)

    def _step(self, code: pickletools.OpcodeInfo, argument: Any) -> None:
        name, stack = code.name, self.stack
        if name in _PUSHED:
            stack.append(_PUSHED[name])
        elif name in _EMPTY:
            stack.append(())
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            self._global(argument)
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self.memo[int(argument)])
        elif name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            self._tuple(name)
        elif name in ("BINPERSID", "PERSID"):
            self._persistent(stack.pop() if name == "BINPERSID" else argument)
        elif not code.stack_before and argument is not None:
            stack.append(argument)
        else:
            self._other(code)

    def _other(self, code: pickletools.OpcodeInfo) -> None:
        """Any other opcode takes what its description says and leaves what nobody looks into."""
        before = [kind.name for kind in code.stack_before]
        if "mark" in before:
            self._to_mark()
            before = before[: before.index("mark")]
        for _ in before:
            self.stack.pop()
        self.stack.extend(_OPAQUE for _ in code.stack_after)

    def _to_mark(self) -> list[Any]:
        taken: list[Any] = []
        while (item := self.stack.pop()) is not _MARK:
            taken.append(item)
        return taken[::-1]

    def _tuple(self, name: str) -> None:
        if name == "TUPLE":
            self.stack.append(tuple(self._to_mark()))
            return
        count = int(name[-1])
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.stack.append(items)

    def _global(self, argument: str | None) -> None:
        if argument is None:
            name, module = self.stack.pop(), self.stack.pop()
        else:
            module, _, name = argument.partition(" ")
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("it asks for a name that is no text")
        found = Global(module, name)
        self.globals[found] = None
        self.stack.append(found)

    def _persistent(self, value: Any) -> None:
        """`('storage', torch.FloatStorage, key, device, elements)`, as torch.save writes it."""
        if isinstance(value, tuple) and len(value) >= 5 and value[0] == "storage":
            kind, key, elements = value[1], value[2], value[4]
            if isinstance(kind, Global) and isinstance(key, str) and isinstance(elements, int):
                self.storages[key] = (_STORAGES.get(kind.name, "unknown"), elements)
        self.stack.append(_OPAQUE)
