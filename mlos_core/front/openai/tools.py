# SPDX-License-Identifier: BUSL-1.1
"""Tools that a chat model may call: what the request says of them."""

from __future__ import annotations

from typing import Any

import msgspec

from mlos_core.front.openai.problems import invalid


class Function(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A function that the caller offers; `parameters` is a JSON schema."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct, kw_only=True):
    """Only functions are known."""

    type: str
    function: Function | None = None


def parameters(tools: list[Tool] | None, choice: Any) -> dict[str, Any]:
    """The model's parameters `tools` and `tool_choice`; none where no tool is offered.

    Raises:
        InvalidValue: a tool that is no function, or a choice that names none of them.
    """
    if not tools:
        if choice not in (None, "none", "auto"):
            raise invalid("tool_choice", "tool_choice needs tools", "send the tools, too")
        return {}
    names = [_name(index, tool) for index, tool in enumerate(tools)]
    return {"tools": msgspec.to_builtins(tools), "tool_choice": _choice(choice, names)}


def _name(index: int, tool: Tool) -> str:
    if tool.type != "function" or tool.function is None:
        raise invalid(
            f"tools[{index}]",
            f"a tool of type {tool.type!r} is not supported, or has no function",
            'send {"type": "function", "function": {...}}',
        )
    if not tool.function.name:
        raise invalid(f"tools[{index}].function.name", "a function has no name")
    return tool.function.name


def _choice(choice: Any, names: list[str]) -> str | dict[str, str]:
    if choice is None:
        return "auto"
    if choice in ("auto", "none", "required"):
        return str(choice)
    function = choice.get("function") if isinstance(choice, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if name is None:
        raise invalid(
            "tool_choice",
            "tool_choice is not understood",
            'use "auto", "none", "required" or {"type": "function", "function": {"name": ...}}',
        )
    if name not in names:
        raise invalid("tool_choice", f"no tool is called {name!r}", f"there are {', '.join(names)}")
    return {"name": name}
