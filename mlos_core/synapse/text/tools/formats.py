# SPDX-License-Identifier: BUSL-1.1
"""The ways in which models write tool calls, and what each needs in prompt and grammar.

hermes   <tool_call>{"name": ..., "arguments": {...}}</tool_call>, any number of them
llama3   the whole answer is {"name": ..., "parameters": {...}}
mistral  [TOOL_CALLS] and a list of {"name": ..., "arguments": {...}}

A model whose template knows nothing of tools gets the hermes way explained in its system
message; most instruction-tuned models have met it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from mlos_core.synapse.text.tools.definitions import Tool, name_of

HERMES: Final = "hermes"
LLAMA3: Final = "llama3"
MISTRAL: Final = "mistral"
MARKERS: Final = {HERMES: "<tool_call>", LLAMA3: "<|python_tag|>", MISTRAL: "[TOOL_CALLS]"}

INSTRUCTIONS: Final = """\
# Tools

You can call functions. These are the functions and the JSON schemas of their arguments:
<tools>
{tools}
</tools>

To call one, answer with its name and its arguments as JSON inside <tool_call> tags:
<tool_call>
{{"name": "the function's name", "arguments": {{"an argument's name": "its value"}}}}
</tool_call>
Call a function only where it helps; otherwise answer as usual."""


def detect(source: str, takes_tools: bool) -> str:
    """The way of the model with this chat template; "" where it is none of the known ones."""
    if MARKERS[MISTRAL] in source:
        return MISTRAL
    if MARKERS[HERMES] in source:
        return HERMES
    if takes_tools:
        return LLAMA3 if '"parameters"' in source else ""
    return HERMES


def marker(source: str) -> str | None:
    """What begins a call in the answers of the model with this chat template."""
    if MARKERS[LLAMA3] in source:
        return MARKERS[LLAMA3]
    return MARKERS.get(detect(source, False))


def call_schema(tools: Sequence[Tool], arguments: str) -> dict[str, Any]:
    """A JSON schema of one call of one of `tools`; `arguments` is that key's name."""
    calls = [_call(tool, arguments) for tool in tools]
    return calls[0] if len(calls) == 1 else {"anyOf": calls}


def _call(tool: Tool, arguments: str) -> dict[str, Any]:
    parameters = dict(tool["function"]["parameters"])
    if parameters.get("type", "object") == "object":
        # A schema that says nothing about other keys would invite the model to invent some.
        parameters = {"type": "object", "additionalProperties": False} | parameters
    return {
        "type": "object",
        "properties": {"name": {"const": name_of(tool)}, arguments: parameters},
        "required": ["name", arguments],
        "additionalProperties": False,
    }


def grammar(form: str, tools: Sequence[Tool], marker_id: int | None) -> str:
    """A Lark grammar of an answer that is exactly one call.

    Args:
        form: the model's way.
        tools: what may be called.
        marker_id: the marker's id where it is a control token, which text cannot stand for.
    """
    key = "parameters" if form == LLAMA3 else "arguments"
    style = {"x-guidance": _STYLE}
    body = json.dumps(style | call_schema(tools, key))
    rule = f"\ncall: %json {body}"
    if form == LLAMA3:
        return f"start: call{rule}"
    marker = json.dumps(MARKERS[form]) if marker_id is None else f"<[{marker_id}]>"
    if form == MISTRAL:
        return f'start: {marker} "[" call "]"{rule}'
    return f'start: {marker} "\\n" call "\\n</tool_call>"{rule}'


_STYLE: Final = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
