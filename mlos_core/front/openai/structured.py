# SPDX-License-Identifier: BUSL-1.1
"""What form the text must have: one constraint, out of several ways to say it."""

from __future__ import annotations

from typing import Any, Final

from mlos_core.front.openai.fields import Generation, StructuredOutputs
from mlos_core.front.openai.problems import invalid

_KINDS: Final = ("json", "regex", "choice", "grammar")


def constraint(body: Generation) -> dict[str, Any] | None:
    """The model's parameter `structured`; None if the text is free.

    Raises:
        InvalidValue: an unknown form, or more than one constraint.
    """
    found = {
        "response_format": _response_format(body.response_format),
        "structured_outputs": _structured_outputs(body.structured_outputs),
        **{f"guided_{kind}": _guided(body, kind) for kind in _KINDS},
    }
    given = {name: value for name, value in found.items() if value is not None}
    if len(given) > 1:
        raise invalid(list(given)[-1], f"{' and '.join(given)} exclude each other", "give one")
    for value in given.values():
        return value
    return None


def _guided(body: Generation, kind: str) -> dict[str, Any] | None:
    value = getattr(body, f"guided_{kind}")
    return None if value is None else _checked(f"guided_{kind}", kind, value)


def _structured_outputs(wanted: StructuredOutputs | None) -> dict[str, Any] | None:
    if wanted is None:
        return None
    given = {kind: getattr(wanted, kind) for kind in _KINDS if getattr(wanted, kind) is not None}
    if wanted.json_object:
        given["json_object"] = True
    if len(given) != 1:
        raise invalid(
            "structured_outputs",
            f"structured_outputs holds {len(given)} constraints",
            f"give one of {', '.join(_KINDS)}, json_object",
        )
    ((kind, value),) = given.items()
    return _checked(f"structured_outputs.{kind}", kind, value)


def _checked(param: str, kind: str, value: Any) -> dict[str, Any]:
    if value in ("", []):
        raise invalid(param, f"{param} is empty")
    return {kind: value}


def _response_format(wanted: dict[str, Any] | None) -> dict[str, Any] | None:
    if wanted is None:
        return None
    kind = wanted.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return {"json_object": True}
    if kind != "json_schema":
        raise invalid(
            "response_format.type",
            f"the response format {kind!r} is not supported",
            "use text, json_object or json_schema",
        )
    holder = wanted.get("json_schema")
    schema = holder.get("schema") if isinstance(holder, dict) else None
    if not isinstance(schema, (dict, bool)):
        raise invalid(
            "response_format.json_schema.schema",
            "the response format has no schema",
            'send {"type": "json_schema", "json_schema": {"name": ..., "schema": {...}}}',
        )
    return {"json": schema}
