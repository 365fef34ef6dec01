# SPDX-License-Identifier: BUSL-1.1
"""`x:float32[?,3,224,224]`: tensors on one line, as plugins and `axon info` write them."""

from __future__ import annotations

import re
from typing import Final

from axon_client.manifest import IOSpec

_TENSOR: Final = re.compile(r"\s*([^\s:,=\[\]]+)\s*:\s*(\w+)\s*\[([^\[\]]*)\][^,\[\]]*(?:,|\Z)")


def parse(text: str) -> list[IOSpec]:
    """The tensors that `text` lists; empty if it is not written like that."""
    found: list[IOSpec] = []
    at = 0
    while at < len(text):
        match = _TENSOR.match(text, at)
        sizes = _sizes(match[3]) if match else None
        if match is None or sizes is None:
            return []
        found.append(IOSpec(match[1], match[2], sizes))
        at = match.end()
    return found


def _sizes(text: str) -> list[int] | None:
    words = [word.strip() for word in text.split(",")] if text.strip() else []
    if not all(word in ("?", "-1") or (word.isdecimal() and len(word) < 19) for word in words):
        return None
    return [int(word) if word.isdecimal() else -1 for word in words]
