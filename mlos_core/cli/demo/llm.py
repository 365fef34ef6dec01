# SPDX-License-Identifier: BUSL-1.1
"""The demo's last step: a question to a small language model, answered as one watches."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from mlos_core.cli.chat import terminal
from mlos_core.cli.chat.answer import Answer, ask
from mlos_core.cli.demo.install import install
from mlos_core.client import Client
from mlos_core.errors import MlosError, PluginBroken

QUESTION: Final = "Why is the sky blue? Answer in two sentences."
_PLUGIN: Final = "synapse"
_NAME: Final = "llm"
_PARAMETERS: Final = {"max_tokens": 120, "temperature": 0.0}
_OPTIONS: Final = {"cache_dir": ""}  # packed weights would outlive the demo
_PATIENCE: Final = 120.0

Step = Callable[[str], AbstractContextManager[None]]


def serve(client: Client, package: str, folder: Path, step: Step) -> str:
    """Install and register the model; empty, or why there is none to ask."""
    try:
        _check_plugin(client)
        with step(f"axon install {package}"):
            path = install(package, folder)
        with step(f"mlosctl register {_NAME}"):
            client.call("register", name=_NAME, path=str(path), plugin=_PLUGIN, options=_OPTIONS)
    except MlosError as error:
        return str(error)
    return ""


def _check_plugin(client: Client) -> None:
    known = {plugin["name"]: plugin for plugin in client.call("plugins", patience=None)}
    if _PLUGIN not in known:
        raise PluginBroken(
            f"the plugin {_PLUGIN} is not installed", hint="pip install ./plugins/synapse"
        )
    if known[_PLUGIN]["reason"]:
        raise PluginBroken(f"the plugin {_PLUGIN} does not work: {known[_PLUGIN]['reason']}")


def question(client: Client, *, quiet: bool) -> dict[str, Any]:
    """Ask, show the answer as it comes unless `quiet`, and say what it was and what it took."""
    model, answer = client.model(_NAME, slots=4, request_bytes=1 << 20), Answer()
    messages = [{"role": "user", "content": QUESTION}]
    if not quiet:
        click.echo(f"\n{click.style('>>>', bold=True)} {QUESTION}")
    with ask(model, messages, _PARAMETERS, _PATIENCE) as stream:
        for event in stream:
            piece = answer.take(event)
            if not quiet:
                terminal.show(piece)
    speed = answer.speed()
    if not quiet:
        click.echo("\n" + click.style(str(speed), dim=True) + "\n")
    return {"question": QUESTION, "answer": answer.text, "speed": msgspec.to_builtins(speed)}
