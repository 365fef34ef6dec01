# SPDX-License-Identifier: BUSL-1.1
"""Names of models for shell completion: of the daemon that runs, or none at all."""

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


def _infos(context: click.Context) -> list[dict[str, Any]]:
    # Options in front of the command belong to its parent.
    sources = (context, context.parent) if context.parent else (context,)
    socket = next((s.params["socket"] for s in sources if s.params.get("socket")), None)
    try:
        with connect(socket, timeout=_PATIENCE) as client:
            infos: list[dict[str, Any]] = client.call("models", patience=_PATIENCE)
            return infos
    except (MlosError, OSError):
        return []
