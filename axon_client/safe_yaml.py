# SPDX-License-Identifier: BUSL-1.1
"""YAML from strangers, as plain values.

Guarantees: values are built here, event by event, and each event is checked first. libyaml's
constructor recurses in C, where deep nesting ends the process; an alias may stand for itself
or, doubled often enough, for more than fits into memory; a tag chooses what is built; and of
two equal keys one reader takes the first, another the last. None of them is allowed. Plain
scalars are numbers or truth values only where YAML 1.1 and 1.2 agree: 1.1's numbers of base
60 take quadratic time, its `no` is a country to everybody else, and 1.2's `12e4` is a commit.
Times stay text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import yaml

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

MAX_DEPTH: Final = 64
MAX_NODES: Final = 400_000
"""A manifest of as many bytes as one may have, full of files, has fewer."""

_RULES: Final[tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...]] = (
    (re.compile(r"~|null|Null|NULL|"), lambda text: None),
    (re.compile(r"true|True|TRUE|false|False|FALSE"), lambda text: text[0] in "tT"),
    (re.compile(r"[-+]?(0|[1-9][0-9]{0,18})"), int),
    (
        re.compile(r"[-+]?((0|[1-9][0-9]{0,30})\.[0-9]{0,30}|\.[0-9]{1,30})([eE][-+][0-9]{1,3})?"),
        float,
    ),
)
_FIRST: Final = frozenset("~nNtTfF-+.0123456789")
"""What a plain scalar that is no text may begin with."""


def parse(data: bytes) -> Any:
    """The value of one YAML document.

    Raises:
        ValueError: it is not YAML, has an alias, a tag or a key twice, or is nested too deep
            or too large; says where.
    """
    try:
        return _build(data)
    except (yaml.YAMLError, OverflowError) as error:
        raise ValueError(" ".join(str(error).split())) from error


def _build(data: bytes) -> Any:
    documents = _Sequence()
    within: list[_Mapping | _Sequence] = [documents]
    nodes = 0
    for event in yaml.parse(data, _Loader):
        if isinstance(event, yaml.CollectionEndEvent):
            within.pop()
        elif isinstance(event, yaml.NodeEvent):
            nodes += 1
            _check_node(event, nodes)
            if isinstance(event, yaml.ScalarEvent):
                within[-1].take(event, _scalar(event))
                continue
            made = _Mapping() if isinstance(event, yaml.MappingStartEvent) else _Sequence()
            within[-1].take(event, made.value)
            within.append(made)
            if len(within) > MAX_DEPTH + 1:
                raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
    if len(documents.value) > 1:
        raise ValueError("expected a single document, and found more")
    return documents.value[0] if documents.value else None


def _scalar(event: yaml.ScalarEvent) -> Any:
    """What a scalar stands for; a quoted one is text."""
    text = str(event.value)
    if event.implicit[0] and (not text or text[0] in _FIRST):
        for rule, made in _RULES:
            if rule.fullmatch(text):
                return made(text)
    return text


def _check_node(event: yaml.NodeEvent, nodes: int) -> None:
    if nodes > MAX_NODES:
        raise ValueError(f"it has more than {MAX_NODES} values")
    if isinstance(event, yaml.AliasEvent):
        raise ValueError(f"line {_line(event)} has an alias, which is not allowed here")
    if getattr(event, "tag", None):
        raise ValueError(f"line {_line(event)} has a tag, which is not allowed here")


class _Sequence:
    """A list as its events come."""

    def __init__(self) -> None:
        self.value: list[Any] = []

    def take(self, event: yaml.NodeEvent, value: Any) -> None:
        """The next value."""
        self.value.append(value)


class _Mapping:
    """A mapping as its events come: a key, its value, the next key."""

    def __init__(self) -> None:
        self.value: dict[Any, Any] = {}
        self._texts: set[str] = set()
        self._key: Any = None
        self._at_key = True

    def take(self, event: yaml.NodeEvent, value: Any) -> None:
        """The next key, or the value of the last one."""
        if self._at_key:
            self._check_key(event)
            self._key = value
        else:
            self.value[self._key] = value
        self._at_key = not self._at_key

    def _check_key(self, event: yaml.NodeEvent) -> None:
        if not isinstance(event, yaml.ScalarEvent):
            raise ValueError(f"line {_line(event)} has a key that is not text")
        text = str(event.value)
        if text in self._texts:
            raise ValueError(f"line {_line(event)} has the key {text[:80]!r} a second time")
        self._texts.add(text)


def _line(event: yaml.NodeEvent) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0
