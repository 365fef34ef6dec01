# SPDX-License-Identifier: BUSL-1.1
"""What may be wrong with a manifest, and how its author is told."""

from __future__ import annotations

import difflib
import re
from typing import Any, Final

import msgspec

from mlos_core.errors import InvalidInput

_FORMS: Final = {
    "name": "letters, digits, '.', '_', '-', and '/' between parts",
    "namespace": "letters, digits, '.', '_', '-'",
    "version": "letters, digits, '.', '_', '+', '!', '-'",
    "sha256": "64 lower-case hex digits",
    "models": "namespace/name or namespace/name@selector, for example hf/org/model@^1.2",
}
_STEERING: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def check_text(value: Any, source: str) -> None:
    """No text may steer the terminal it is shown on, or be shown in another order.

    Raises:
        InvalidInput: one would.
    """
    if isinstance(value, dict):
        for key, inner in value.items():
            check_text(key, source)
            check_text(inner, source)
    elif isinstance(value, list):
        for inner in value:
            check_text(inner, source)
    elif isinstance(value, str):
        found = _STEERING.search(value)
        if found:
            text = value[max(0, found.start() - 20) : found.end() + 20]
            raise InvalidInput(f"{source}: {text!r} has a control character")


def wrong_field(source: str, reason: str, kind: type) -> InvalidInput:
    """What msgspec says of a value, in words for who wrote the manifest.

    Args:
        kind: what a whole manifest is.
    """
    what, _, where = reason.partition(" - at `$.")
    field = where.rstrip("`")
    last = re.sub(r"\[[^]]*\]$", "", field).rpartition(".")[2]
    hint = ""
    if "matching regex" in what:
        what, hint = "this value is not allowed", _FORMS.get(last, "")
    elif what.startswith("Expected `str`, got `float`"):
        hint = "put the value in quotes"
    elif "unknown field" in what:
        hint = _meant(what, kind)
    return InvalidInput(f"{source}: {field}: {what}" if field else f"{source}: {what}", hint=hint)


def _meant(what: str, kind: type) -> str:
    """A field that nobody knows is misspelt, or newer than this axon."""
    unknown = what.rpartition("`")[0].rpartition("`")[2]
    near = difflib.get_close_matches(unknown, _field_names(kind), n=1, cutoff=0.75)
    return f"did you mean {near[0]!r}?" if near else "a newer axon may know this field: update it"


def _field_names(kind: Any) -> set[str]:
    names: set[str] = set()
    for field in msgspec.structs.fields(kind):
        names.add(field.encode_name)
        for inner in (field.type, *getattr(field.type, "__args__", ())):
            if hasattr(inner, "__struct_fields__"):
                names |= _field_names(inner)
    return names
