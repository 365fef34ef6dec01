# SPDX-License-Identifier: BUSL-1.1
"""What an answer must look like, as a client asks for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from mlos_core.errors import InvalidInput

MAX_TEXT: Final = 64 * 1024
"""Bytes of a schema, a pattern or a grammar: what is longer takes seconds to compile."""
MAX_CHOICES: Final = 2048
KINDS: Final = ("json", "json_object", "regex", "choice", "grammar")


class StructuredSpec(msgspec.Struct, frozen=True):
    """One constraint on a whole answer. Compare and hash by what it says.

    Attributes:
        kind: json (a schema), json_object (any object), regex, choice, grammar (Lark's form).
        text: the schema as JSON, the pattern, the choices as a JSON list, or the grammar.
    """

    kind: str
    text: str = ""

    @staticmethod
    def from_request(value: object) -> StructuredSpec:
        """The spec in a request: an object with exactly one of the kinds as its key.

        Raises:
            InvalidInput: it is something else, or too long.
        """
        if not isinstance(value, Mapping):
            raise InvalidInput("structured must be an object", hint=_HINT)
        given = {key: entry for key, entry in value.items() if entry is not None}
        if len(given) != 1 or not given.keys() <= set(KINDS):
            raise InvalidInput(f"structured has the keys {sorted(map(str, given))[:8]}", hint=_HINT)
        kind, entry = next(iter(given.items()))
        spec = StructuredSpec(kind, _READERS[kind](entry))
        if len(spec.text.encode("utf-8", "replace")) > MAX_TEXT:
            raise InvalidInput(f"structured.{kind} is longer than {MAX_TEXT} bytes")
        return spec


_HINT: Final = "give exactly one of " + ", ".join(KINDS)


def _schema(value: object) -> str:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"structured.json is not JSON: {error}") from error
    if value is True:
        value = {}
    if not isinstance(value, dict):
        raise InvalidInput("structured.json is not a JSON schema that an answer can satisfy")
    try:
        return json.dumps(value)
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidInput(f"structured.json is not a JSON schema: {error}") from error


def _any_object(value: object) -> str:
    if value is not True:
        raise InvalidInput("structured.json_object can only be true")
    return ""


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidInput("structured.regex and structured.grammar must be strings, not empty")
    return value


def _choices(value: object) -> str:
    if (
        not isinstance(value, (list, tuple))
        or not 0 < len(value) <= MAX_CHOICES
        or not all(isinstance(choice, str) and choice for choice in value)
    ):
        raise InvalidInput(f"structured.choice must be a list of 1 to {MAX_CHOICES} strings")
    return json.dumps(list(dict.fromkeys(value)), ensure_ascii=False)


_READERS: Final[dict[str, Any]] = {
    "json": _schema,
    "json_object": _any_object,
    "regex": _text,
    "choice": _choices,
    "grammar": _text,
}
