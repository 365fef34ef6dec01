# SPDX-License-Identifier: BUSL-1.1
"""What a caller is told when torch raises: one sentence, and whose fault it is."""

from __future__ import annotations

import re
from typing import Final

from mlos_core.errors import InvalidInput, MlosError, ModelFailed, OutOfMemory

_RAISED: Final = re.compile(r"(?:[a-z_]\w*\.)*([A-Z]\w*(?:Error|Exception)): (.*)")
_REFUSALS: Final = {"ValueError", "AssertionError", "IndexError"}
_REFUSAL_TEXT: Final = re.compile(r"index out of range|Expected input .* to be|Guard failed")
_MEMORY_TEXT: Final = re.compile(r"(?i)can't allocate memory|out of memory")


def sentence(error: BaseException) -> str:
    """The line of an exception's text that says what happened."""
    return _essence(error)[1]


def _essence(error: BaseException) -> tuple[str, str]:
    """Name of the error's class, as its code raised it, and the line that says why."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kind = type(error).__name__
    if not lines:
        return kind, kind
    # The interpreter of TorchScript puts a traceback before what was raised, and an
    # assertion into an error of its own.
    text = lines[-1] if _RAISED.fullmatch(lines[-1]) else lines[0]
    while raised := _RAISED.fullmatch(text):
        kind, text = raised[1], raised[2]
    return kind, text


def blamed(error: Exception, title: str) -> MlosError:
    """The error to answer with when the model `title` raised `error`.

    A model that raises `ValueError`, fails an assertion or looks beyond an end refuses what
    it was given; whatever else it raises is its own failure.
    """
    if isinstance(error, MlosError):
        return error
    kind, text = _essence(error)
    if isinstance(error, MemoryError) or kind == "OutOfMemoryError" or _MEMORY_TEXT.search(text):
        return OutOfMemory(f"{title} ran out of memory: {text}", hint="send less in one request")
    if kind in _REFUSALS or _REFUSAL_TEXT.search(text):
        return InvalidInput(f"{title} refuses the input: {text}")
    return ModelFailed(
        f"{title} failed: {text}", hint="do the sizes fit one another? the log has the traceback"
    )
