# SPDX-License-Identifier: BUSL-1.1
"""Which line of the model's own files an exception comes from.

The caller is told the type, the message and that line; the traceback goes to the log.
"""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import Final

from mlos_core.errors import LoadFailed, MlosError, ModelFailed

log = logging.getLogger(__name__)

_LOG: Final = "the worker's log has the traceback"


def failed(error: BaseException, folder: Path) -> MlosError:
    """What the caller of `predict` is told; an `MlosError` is told as it is."""
    if isinstance(error, MlosError):
        return error
    log.error("predict raised", exc_info=error)
    return ModelFailed(_say(error, folder, "predict"), hint=_LOG)


def not_loaded(error: BaseException, folder: Path, what: str) -> MlosError:
    """What the one who registers the model is told of an exception in `what`."""
    if isinstance(error, MlosError):
        return error
    log.error("%s raised", what, exc_info=error)
    if isinstance(error, ModuleNotFoundError) and error.name:
        return LoadFailed(
            f"{_where(error, folder) or what} needs the module {error.name!r}, "
            "which is not installed",
            hint="install it where the daemon runs, or name another interpreter with --python",
        )
    return LoadFailed(_say(error, folder, what), hint=_LOG)


def _say(error: BaseException, folder: Path, what: str) -> str:
    name = type(error).__name__
    text = error.msg if isinstance(error, SyntaxError) else str(error).strip()
    where = _where(error, folder) or what
    return f"{where} raised {name}: {text}" if text else f"{where} raised {name}"


def _where(error: BaseException, folder: Path) -> str:
    """`model.py line 12`: the innermost line that is the model's own; empty if none is."""
    frames = [(f.filename, f.lineno) for f in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        frames.append((error.filename, error.lineno))
    for name, line in reversed(frames):
        file = Path(name)
        if file.is_relative_to(folder):
            return f"{file.relative_to(folder)} line {line}"
    return ""
