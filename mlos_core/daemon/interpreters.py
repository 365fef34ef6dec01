# SPDX-License-Identifier: BUSL-1.1
"""Other Python interpreters that host plugins: where they are, and what they have installed."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

import msgspec

from mlos_core.errors import InvalidInput, PluginBroken
from mlos_core.smi import ENTRY_POINT_GROUP

_LIST: Final = (
    "import json; from importlib.metadata import entry_points as points;"
    f"print(json.dumps([point.name for point in points(group={ENTRY_POINT_GROUP!r})]))"
)


def interpreter(given: str) -> str:
    """The Python binary that a user names: one, or the virtual environment it belongs to.

    Links are kept: a virtual environment is known by the path of its binary.

    Raises:
        InvalidInput: there is none.
    """
    if not given:
        return ""
    path = Path(given)
    if not path.is_absolute():
        raise InvalidInput(
            f"the interpreter {given!r} is relative", hint="give an absolute path to the daemon"
        )
    binary = path / "bin" / "python" if path.is_dir() else path
    if not (binary.is_file() and os.access(binary, os.X_OK)):
        raise InvalidInput(
            f"there is no Python interpreter at {given}",
            hint="give a virtual environment (python -m venv FOLDER), or a Python binary",
        )
    return str(binary)


async def plugins_of(python: str, within: float) -> list[str]:
    """The names of the plugins installed there.

    Raises:
        PluginBroken: it is no Python that answers.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            python,
            "-P",
            "-c",
            _LIST,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as err:
        raise PluginBroken(f"{python} cannot be started: {err.strerror}") from err
    try:
        async with asyncio.timeout(within):
            out, said = await process.communicate()
    except TimeoutError:
        raise PluginBroken(f"{python} did not say what it has installed") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        return sorted(set(msgspec.json.decode(out, type=list[str])))
    except msgspec.DecodeError:
        reason = said.decode(errors="replace").strip().splitlines()[-1:] or ["it printed no list"]
        raise PluginBroken(f"{python} is no Python that lists plugins: {reason[0]}") from None
