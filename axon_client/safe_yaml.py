# SPDX-License-Identifier: BUSL-1.1
"""YAML from strangers, as plain values.

Guarantees: the document's shape is checked event by event before anything is built from
it. libyaml's constructor recurses in C, where deep nesting ends the process; an alias may
stand for itself or, doubled often enough, for more than fits into memory.
"""

from __future__ import annotations

from typing import Any

import yaml

try:
    from yaml import CSafeLoader as _Base
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader as _Base  # type: ignore[assignment]

MAX_DEPTH = 64
_TIMESTAMP = "tag:yaml.org,2002:timestamp"


class _Loader(_Base):
    """Leaves times as text, so that a quoted one is read like any other."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in rules if tag != _TIMESTAMP]
    for first, rules in _Base.yaml_implicit_resolvers.items()
}


def parse(data: bytes) -> Any:
    """The value of one YAML document.

    Raises:
        ValueError: it is not YAML, has an alias, or is nested too deep; says where.
    """
    try:
        _check_shape(data)
        return yaml.load(data, _Loader)  # noqa: S506
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _check_shape(data: bytes) -> None:
    depth = 0
    for event in yaml.parse(data, _Loader):
        if isinstance(event, yaml.AliasEvent):
            line = event.start_mark.line + 1 if event.start_mark else 0
            raise ValueError(f"line {line} has an alias, which is not allowed here")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise ValueError(f"it is nested more than {MAX_DEPTH} levels deep")
