# SPDX-License-Identifier: BUSL-1.1
"""Chat messages as templates expect them: a role, and the content as one text."""

from __future__ import annotations

from typing import Any, Final

from mlos_core.front.openai.problems import invalid

_TEXTS: Final = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}


def plain(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages with lists of text parts joined; other fields as they are.

    Raises:
        InvalidValue: no messages, no role, or content that is no text.
    """
    if not messages:
        raise invalid("messages", "there are no messages", "send at least one")
    return [_plain(f"messages[{index}]", message) for index, message in enumerate(messages)]


def _plain(where: str, message: dict[str, Any]) -> dict[str, Any]:
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise invalid(f"{where}.role", "a message has no role", "use system, user or assistant")
    if role == "developer":  # OpenAI's newer word; templates know the older one
        role = "system"
    content = message.get("content")
    if content is None:
        if role != "assistant":
            raise invalid(f"{where}.content", f"a message of role {role} has no content")
        content = ""
    return {**message, "role": role, "content": _text(f"{where}.content", content)}


def _text(where: str, content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise invalid(where, "the content is neither text nor a list of parts")
    return "\n".join(_part(f"{where}[{index}]", part) for index, part in enumerate(content))


def _part(where: str, part: Any) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else None
    text = part.get(_TEXTS.get(str(kind), "text")) if isinstance(part, dict) else None
    if kind not in _TEXTS or not isinstance(text, str):
        raise invalid(where, f"a part of type {kind!r} is not supported", "send text")
    return text
