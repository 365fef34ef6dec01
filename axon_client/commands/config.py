# SPDX-License-Identifier: BUSL-1.1
"""`axon config get|set|unset|list`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import msgspec

from axon_client import config as settings
from axon_client import config_file, render
from axon_client.commands.lazy import LazyGroup
from axon_client.commands.options import config_keys, json_option

KEY = click.argument("key", shell_complete=config_keys)


@click.group(cls=LazyGroup, table={})
def config() -> None:
    """Read and change settings: config.yaml in the store's folder, AXON_* variables above it."""


@config.command("list")
@json_option
def list_keys(as_json: bool) -> None:
    """Every setting, and what set it."""
    entries = config_file.entries(settings.default_home())
    if as_json:
        render.show_json([msgspec.to_builtins(entry) for entry in entries])
        return
    rows = [(entry.key, text_of(entry.value), entry.origin) for entry in entries]
    render.show_table(("key", "value", "set by"), rows)


@config.command()
@KEY
@json_option
def get(key: str, as_json: bool) -> None:
    """Print the value that holds."""
    entry = config_file.get(settings.default_home(), key)
    if as_json:
        render.show_json(msgspec.to_builtins(entry))
    else:
        render.show(text_of(entry.value))


@config.command("set")
@KEY
@click.argument("value", nargs=-1, required=True)
@json_option
def put(key: str, value: Sequence[str], as_json: bool) -> None:
    """Set a key, such as parallel 4 or registries.hub.policy require."""
    home = settings.default_home()
    made = config_file.put(home, key, " ".join(value))
    entry = config_file.get(home, key)
    if as_json:
        render.show_json(msgspec.to_builtins(entry))
    elif entry.value != made:
        render.warn(f"{entry.origin} is set and goes before the file: {text_of(entry.value)}")


@config.command()
@KEY
@json_option
def unset(key: str, as_json: bool) -> None:
    """Take a key out of the file, so that its default holds again."""
    config_file.unset(settings.default_home(), key)
    if as_json:
        render.show_json({"key": key, "unset": True})


def text_of(value: Any) -> str:
    """A value as `config set` takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(value)
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    return str(value)
