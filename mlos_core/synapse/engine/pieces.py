# SPDX-License-Identifier: BUSL-1.1
"""Events short enough for a stream, whose ring takes 8 KiB at once.

A token may set much free: an echoed prompt, text that looked like a tool call, a call's
arguments. That becomes several events; only the first has the token.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

Data = dict[str, Any]
MOST: Final = 1024
"""Characters in one event, of up to 4 bytes each; as much is left for log probabilities."""
_HEAD: Final = ("t", "l")
_END: Final = ("f", "r")


def pieces(data: Data) -> list[Data]:
    """`data` as one event or several: text, then tool calls, then the end. A call whose
    arguments are long goes on in events that name its index alone."""
    text, calls = data["s"], data.get("tc", ())
    if len(text) + sum(len(call["arguments"]) for call in calls) <= MOST:
        return [data]
    parts: list[Data] = [{"i": data["i"], "s": part} for part in _cut(text)]
    for call in calls:
        first, *others = _cut(call["arguments"])
        parts.append({"i": data["i"], "s": "", "tc": [{**call, "arguments": first}]})
        for part in others:
            more = {"index": call["index"], "arguments": part}
            parts.append({"i": data["i"], "s": "", "tc": [more]})
    parts[0].update({key: data[key] for key in _HEAD if key in data})
    parts[-1].update({key: data[key] for key in _END if key in data})
    return parts


def _cut(text: str) -> Iterator[str]:
    """At least one part."""
    return (text[at : at + MOST] for at in range(0, len(text) or 1, MOST))
