# SPDX-License-Identifier: BUSL-1.1
"""Tool definitions as OpenAI's clients send them, checked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mlos_core.errors import InvalidInput

MAX_TOOLS: Final = 128
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
Tool = dict[str, Any]


def check_tools(tools: object) -> list[Tool]:
    """`tools` as a list of plain objects; an absent description or parameter list is filled in.

    Raises:
        InvalidInput: something is no definition of a function; the text says which one and why.
    """
    if tools is None:
        return []
    if not isinstance(tools, (list, tuple)):
        raise InvalidInput("tools must be a list")
    if len(tools) > MAX_TOOLS:
        raise InvalidInput(f"{len(tools)} tools are more than {MAX_TOOLS}")
    checked = [_check(tool, f"tools[{i}]") for i, tool in enumerate(tools)]
    names = [name_of(tool) for tool in checked]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InvalidInput(f"several tools are called {sorted(twice)[0]}")
    return checked


def _check(tool: object, where: str) -> Tool:
    if not isinstance(tool, Mapping) or tool.get("type", "function") != "function":
        raise InvalidInput(f"{where} is not of the type function")
    function = tool.get("function")
    if not isinstance(function, Mapping):
        raise InvalidInput(f"{where} has no function")
    name, description = function.get("name"), function.get("description") or ""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{where} has the name {name!r:.80}", hint="use letters, digits and _ . -, at most 64"
        )
    if not isinstance(description, str):
        raise InvalidInput(f"{where}.function.description is not a string")
    parameters = function.get("parameters")
    if parameters is None:
        parameters = {"type": "object", "properties": {}}
    if not isinstance(parameters, Mapping):
        raise InvalidInput(f"{where}.function.parameters is not a JSON schema")
    _check_json(parameters, where)
    plain = dict(function) | {"name": name, "description": description}
    return {"type": "function", "function": plain | {"parameters": dict(parameters)}}


def _check_json(value: object, where: str) -> None:
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{where}.function.parameters is not JSON: {error}") from error


def name_of(tool: Mapping[str, Any]) -> str:
    """The function's name."""
    return str(tool["function"]["name"])


def choose(tools: Sequence[Tool], choice: object) -> list[Tool]:
    """The tools of which one must be called: none for "auto" and "none".

    Args:
        tools: checked definitions.
        choice: OpenAI's tool_choice: auto, none, required, {"name": ...} or
            {"type": "function", "function": {"name": ...}}.

    Raises:
        InvalidInput: it is something else, or names a tool that is not there.
    """
    if choice in (None, "auto", "none"):
        return []
    if choice == "required":
        if not tools:
            raise InvalidInput("tool_choice is required, but there are no tools")
        return list(tools)
    function = choice.get("function", choice) if isinstance(choice, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str):
        raise InvalidInput(
            f"tool_choice is {choice!r:.80}", hint='use auto, none, required or {"name": ...}'
        )
    chosen = [tool for tool in tools if name_of(tool) == name]
    if not chosen:
        raise InvalidInput(f"tool_choice names {name!r:.80}, which is not among the tools")
    return chosen
