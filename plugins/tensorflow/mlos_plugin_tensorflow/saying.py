# SPDX-License-Identifier: BUSL-1.1
"""What a framework says went wrong, in one line."""

from __future__ import annotations

import re
from typing import Final

_NODES: Final = re.compile(r"\s*(\[\[)?\{\{.*?\}\}(\]\])?\s*|\s*\[Op:[^\]]*\]|\x1b\[\d*m")
_PLACES: Final = (
    "Graph execution error",
    "Detected at",
    "File ",
    "<stack",
    "in user code:",
    "Exception encountered when calling",
)


def first_line(error: Exception | str) -> str:
    """The first line that tells something: no places in the graph, nor where they were defined."""
    lines = [_NODES.sub(" ", line).strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and not line.startswith(_PLACES)]
    kind = "" if isinstance(error, str) else type(error).__name__
    return telling[0] if telling else kind or "no reason given"
