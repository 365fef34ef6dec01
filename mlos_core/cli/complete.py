# SPDX-License-Identifier: BUSL-1.1
"""Names of models and versions for shell completion: of the daemon that runs, or none at all."""

from __future__ import annotations

from typing import Any, Final

import click

from mlos_core.client import connect
from mlos_core.errors import MlosError

_PATIENCE: Final = 1.0


def models(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Registered models."""
    return [i["name"] for i in _infos(context) if i["name"].startswith(incomplete)]


def chat_models(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Registered models that chat, or may once they are loaded."""
    return [
        info["name"]
        for info in _infos(context)
        if info["name"].startswith(incomplete)
        and (info["signature"] is None or "chat" in info["signature"].get("tasks", ()))
    ]


def versions(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Versions of the model that was named before."""
    # Behind an option that lacks its value, click has not understood the words before it yet.
    words = (context.params.get("model"), context.params.get("name"), *context.args)
    named = next(filter(None, words), None)
    return [
        version["version"]
        for info in _infos(context)
        if info["name"] == named
        for version in info["versions"]
        if version["version"] and version["version"].startswith(incomplete)
    ]


def _infos(context: click.Context) -> list[dict[str, Any]]:
    socket = None
    source: click.Context | None = context
    while source is not None and not socket:  # options in front of a command are its parent's
        socket, source = source.params.get("socket"), source.parent
    try:
        with connect(socket, timeout=_PATIENCE) as client:
            infos: list[dict[str, Any]] = client.call("models", patience=_PATIENCE)
            return infos
    except (MlosError, OSError):
        return []
