# SPDX-License-Identifier: BUSL-1.1
"""YAML from strangers, as plain values.

Guarantees: the document's shape is checked event by event before anything is built from
it. libyaml's constructor recurses in C, where deep nesting ends the process; an alias may
stand for itself or, doubled often enough, for more than fits into memory; a tag chooses what
is built; and of two equal keys one reader takes the first, another the last. None of them is
allowed. Plain scalars are numbers or truth values only where YAML 1.1 and 1.2 agree: 1.1's
numbers of base 60 take quadratic time, its `no` is a country to everybody else, and 1.2's
`12e4` is a commit.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

try:
    from yaml import CSafeLoader as _Base
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader as _Base  # type: ignore[assignment]

MAX_DEPTH: Final = 64
MAX_NODES: Final = 400_000
"""A manifest of as many bytes as one may have, full of files, has fewer."""

_PREFIX = "tag:yaml.org,2002:"
_RULES: Final = (
    ("null", r"~|null|Null|NULL|", ("~", "n", "N", "")),
    ("bool", r"true|True|TRUE|false|False|FALSE", tuple("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]{0,18})", tuple("-+0123456789")),
    (
        "float",
        r"[-+]?((0|[1-9][0-9]{0,30})\.[0-9]{0,30}|\.[0-9]{1,30})([eE][-+][0-9]{1,3})?",
        tuple("-+.0123456789"),
    ),
)


class _Loader(_Base):
    """Resolves plain scalars by the rules above; times stay text, like quoted ones."""


_Loader.yaml_implicit_resolvers = {}
for _name, _pattern, _first in _RULES:
    _Loader.add_implicit_resolver(_PREFIX + _name, re.compile(rf"^(?:{_pattern})\Z"), list(_first))


def parse(data: bytes) -> Any:
    """The value of one YAML document.

    Raises:
        ValueError: it is not YAML, has an alias, a tag or a key twice, or is nested too deep
            or too large; says where.
    """
    try:
        _check_shape(data)
        return yaml.load(data, _Loader)  # noqa: S506
    except (yaml.YAMLError, OverflowError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def _check_shape(data: bytes) -> None:
    open_ones: list[_Mapping | None] = []
    nodes = 0
    for event in yaml.parse(data, _Loader):
        if isinstance(event, yaml.CollectionEndEvent):
            open_ones.pop()
        elif isinstance(event, yaml.NodeEvent):
            nodes += 1
            _check_node(event, nodes)
            if open_ones and open_ones[-1]:
                open_ones[-1].take(event)
        if isinstance(event, yaml.CollectionStartEvent):
            mapping = isinstance(event, yaml.MappingStartEvent)
            open_ones.append(_Mapping() if mapping else None)
            if len(open_ones) > MAX_DEPTH:
                raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")


def _check_node(event: yaml.NodeEvent, nodes: int) -> None:
    if nodes > MAX_NODES:
        raise ValueError(f"it has more than {MAX_NODES} values")
    if isinstance(event, yaml.AliasEvent):
        raise ValueError(f"line {_line(event)} has an alias, which is not allowed here")
    if getattr(event, "tag", None):
        raise ValueError(f"line {_line(event)} has a tag, which is not allowed here")


class _Mapping:
    """The keys of a mapping as its events come: a key, its value, the next key."""

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._at_key = True

    def take(self, event: yaml.NodeEvent) -> None:
        if self._at_key:
            if not isinstance(event, yaml.ScalarEvent):
                raise ValueError(f"line {_line(event)} has a key that is not text")
            key = str(event.value)
            if key in self._keys:
                raise ValueError(f"line {_line(event)} has the key {key[:80]!r} a second time")
            self._keys.add(key)
        self._at_key = not self._at_key


def _line(event: yaml.NodeEvent) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0
