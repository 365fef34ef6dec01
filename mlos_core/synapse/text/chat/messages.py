# SPDX-License-Identifier: BUSL-1.1
"""Chat messages from a client, checked and brought into the form that templates expect."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from mlos_core.errors import InvalidInput, Unsupported

ROLES: Final = ("system", "developer", "user", "assistant", "tool")
MAX_MESSAGES: Final = 10_000
Message = dict[str, Any]


def check_messages(messages: object) -> list[Message]:
    """`messages` with contents as plain strings and tool arguments as objects.

    `developer` counts as `system`, an absent content as "". Other keys stay, for the template.

    Raises:
        InvalidInput: something is no message; the text says which one and why.
        Unsupported: a content part is not text.
    """
    if not isinstance(messages, (list, tuple)) or not messages:
        raise InvalidInput("messages must be a list with at least one message")
    if len(messages) > MAX_MESSAGES:
        raise InvalidInput(f"{len(messages)} messages are more than {MAX_MESSAGES}")
    return [_check(message, f"messages[{i}]") for i, message in enumerate(messages)]


def _check(message: object, where: str) -> Message:
    if not isinstance(message, Mapping) or not all(isinstance(key, str) for key in message):
        raise InvalidInput(f"{where} is not an object with a role and a content")
    role = message.get("role")
    if role not in ROLES:
        raise InvalidInput(
            f"{where} has the role {role!r:.60}", hint="use one of " + ", ".join(ROLES)
        )
    checked = dict(message)
    checked["role"] = "system" if role == "developer" else role
    checked["content"] = _content(message.get("content"), where, role)
    if message.get("tool_calls") is None:
        checked.pop("tool_calls", None)
    else:
        checked["tool_calls"] = _tool_calls(message["tool_calls"], where)
    return checked


def _content(content: object, where: str, role: str) -> str:
    if content is None and role in ("assistant", "tool"):
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, (list, tuple)):
        return "\n".join(_part(part, f"{where}.content[{i}]") for i, part in enumerate(content))
    raise InvalidInput(f"{where} needs a content: a string, or a list of text parts")


def _part(part: object, where: str) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise InvalidInput(f"{where} is not an object with a type")
    kind = part.get("type")
    if kind not in ("text", "input_text", "output_text"):
        raise Unsupported(
            f"{where} is of the type {kind!r:.60}", hint="this model takes parts of type text"
        )
    if not isinstance(part.get("text"), str):
        raise InvalidInput(f"{where} has no text")
    return str(part["text"])


def _tool_calls(calls: object, where: str) -> list[Message]:
    if not isinstance(calls, (list, tuple)):
        raise InvalidInput(f"{where}.tool_calls is not a list")
    return [_tool_call(call, f"{where}.tool_calls[{i}]") for i, call in enumerate(calls)]


def _tool_call(call: object, where: str) -> Message:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InvalidInput(f"{where} has no function with a name")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"{where}.function.arguments is not JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise InvalidInput(f"{where}.function.arguments is not a JSON object")
    return {**dict(call), "function": {**function, "arguments": arguments}}  # type: ignore[call-overload]
