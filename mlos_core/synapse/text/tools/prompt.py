# SPDX-License-Identifier: BUSL-1.1
"""Tools for templates that know none: definitions, calls and results as plain messages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mlos_core.synapse.text.chat.messages import Message
from mlos_core.synapse.text.tools.definitions import Tool
from mlos_core.synapse.text.tools.formats import INSTRUCTIONS


def with_tools(messages: Sequence[Message], tools: Sequence[Tool]) -> list[Message]:
    """`messages` in which only system, user and assistant speak, in turns.

    The definitions go to the end of the system message, calls into the assistant's text,
    results into the user's; results that follow each other share one message.
    """
    plain: list[Message] = []
    for message in messages:
        turn = _plain(message)
        if message["role"] == "tool" and plain and plain[-1].get("results"):
            plain[-1]["content"] += "\n" + turn["content"]
        else:
            plain.append(turn)
    if tools:
        _instruct(plain, tools)
    return [{k: v for k, v in message.items() if k != "results"} for message in plain]


def _plain(message: Message) -> Message:
    if message["role"] == "tool":
        content = f"<tool_response>\n{message['content']}\n</tool_response>"
        return {"role": "user", "content": content, "results": True}
    if not message.get("tool_calls"):
        return dict(message)
    parts = [message["content"]] if message["content"] else []
    parts += [_written(call["function"]) for call in message["tool_calls"]]
    return {"role": "assistant", "content": "\n".join(parts)}


def _written(function: dict[str, Any]) -> str:
    call = {"name": function["name"], "arguments": function["arguments"]}
    return f"<tool_call>\n{json.dumps(call, ensure_ascii=False)}\n</tool_call>"


def _instruct(messages: list[Message], tools: Sequence[Tool]) -> None:
    listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    text = INSTRUCTIONS.format(tools=listed)
    if messages and messages[0]["role"] == "system":
        messages[0]["content"] = f"{messages[0]['content']}\n\n{text}".lstrip()
    else:
        messages.insert(0, {"role": "system", "content": text})
