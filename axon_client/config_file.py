# SPDX-License-Identifier: BUSL-1.1
"""Reading and changing single keys of `config.yaml`: `axon config get|set|unset|list`.

A key is `offline`, `registries.NAME.policy` or `mirrors.URL`. A change is checked as a
whole before it is written, and written at once or not at all. Comments are not kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from axon_client import config
from axon_client.config_text import convert
from axon_client.files import replacing
from axon_client.lock import locked
from mlos_core.errors import ConfigError, NotFound

LOCK_TIMEOUT_S: Final = 30.0


class Entry(msgspec.Struct, frozen=True):
    """One key, its value, and what set it: `default`, the file or a variable."""

    key: str
    value: Any
    origin: str


def entries(home: Path, environ: Mapping[str, str] = os.environ) -> list[Entry]:
    """Every key that has a value, in the order of the settings."""
    path = home / config.FILE_NAME
    stated = config.read(path)
    variables = {key: name for key, (_, name) in config.from_environment(environ).items()}
    found = []
    settings: dict[str, Any] = {
        field: getattr(config.load(home, environ), field)
        for field in config.Config.__struct_fields__
    }
    for key, value in settings.items():
        origin = variables.get(key) or (str(path) if key in stated else "default")
        if key == "registries":
            named = {"registries", *(f"registries.{name}" for name in stated.get(key, {}))}
            found += list(_registries(value, str(path), named))
        elif key == "mirrors":
            found += [Entry(f"mirrors.{place}", others, origin) for place, others in value.items()]
        else:
            found.append(Entry(key, value, origin))
    return found


def _registries(
    registries: Mapping[str, config.Registry], path: str, named: set[str]
) -> Iterator[Entry]:
    for name, registry in registries.items():
        origin = path if f"registries.{name}" in named else config.VARIABLES["default_registry"]
        for field in registry.__struct_fields__:
            yield Entry(f"registries.{name}.{field}", getattr(registry, field), origin)


def keys(home: Path) -> list[str]:
    """Every key that could be asked for."""
    names = config.read(home / config.FILE_NAME).get("registries") or {}
    fields = config.Registry.__struct_fields__
    return [
        *config.VARIABLES,
        *(f"registries.{name}.{field}" for name in names for field in fields),
    ]


def get(home: Path, key: str, environ: Mapping[str, str] = os.environ) -> Entry:
    """The value of `key` as it holds now.

    Raises:
        NotFound: there is no such key.
    """
    found = {entry.key: entry for entry in entries(home, environ)}
    if key in found:
        return found[key]
    if key in ("registries", "mirrors"):
        value = getattr(config.load(home, environ), key)
        return Entry(key, msgspec.to_builtins(value), str(home / config.FILE_NAME))
    _place(key, list(found))
    raise NotFound(f"{key} is not set", hint=config.suggest(key, found))


def put(home: Path, key: str, text: str) -> Any:
    """Set `key` to what `text` means; the value.

    Raises:
        NotFound: there is no such key.
        ConfigError: it cannot have that value.
    """
    *folders, last = _place(key, keys(home))
    value = convert(key, text, key)

    def change(values: dict[str, Any]) -> None:
        part = values
        for folder in folders:
            part = part.setdefault(folder, {})
        part[last] = value

    edit(home, change)
    return value


def unset(home: Path, key: str) -> None:
    """Take `key` out of the file, so that its default holds again.

    Raises:
        NotFound: the file does not set it.
    """
    path = _place(key, keys(home), known_only=False)

    def change(values: dict[str, Any]) -> None:
        _remove(values, path, key)

    edit(home, change)


def _remove(values: dict[str, Any], path: list[str], key: str) -> None:
    part: Any = values
    for step in path[:-1]:
        part = part.get(step, {}) if isinstance(part, dict) else {}
    if not isinstance(part, dict) or path[-1] not in part:
        raise NotFound(f"{key} is not set", hint="'axon config list' shows what is")
    del part[path[-1]]


def _place(key: str, known: list[str], *, known_only: bool = True) -> list[str]:
    """The steps from the file's top to `key`.

    Raises:
        NotFound: there is no such key.
    """
    if key in config.VARIABLES:
        return [key]
    if key.startswith("mirrors."):
        return ["mirrors", key.removeprefix("mirrors.")]
    name, _, field = key.removeprefix("registries.").rpartition(".")
    if key.startswith("registries.") and name and field in config.Registry.__struct_fields__:
        return ["registries", name, field]
    if not known_only:
        return ["registries", name or field] if key.startswith("registries.") else [key]
    if key == "registries":
        raise NotFound("registries are added by name", hint="axon registry add NAME URL")
    raise NotFound(f"there is no key {key!r}", hint=config.suggest(key, known))


def edit(home: Path, change: Callable[[dict[str, Any]], None]) -> config.Config:
    """Change the file's plain values under a lock; nothing is written unless all is right.

    Raises:
        ConfigError: the result is not a valid configuration.
    """
    path = home / config.FILE_NAME
    with exclusive(home):
        values = config.read(path)
        change(values)
        values = {key: value for key, value in values.items() if value not in ({}, None)}
        checked = config.check(values, str(path))
        with replacing(path, 0o644) as file:
            file.write(msgspec.yaml.encode(values) if values else b"")
    return checked


@contextmanager
def exclusive(home: Path) -> Iterator[None]:
    """Whoever changes a file of settings in `home` is alone in the block.

    Raises:
        ConfigError: nothing can be written there.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        lock = home / "config.lock"
        lock.touch()
    except OSError as error:
        raise ConfigError(
            f"cannot write to {home}: {error.strerror}", hint="AXON_HOME chooses another folder"
        ) from error
    with locked(lock, LOCK_TIMEOUT_S):
        yield
