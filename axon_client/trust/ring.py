# SPDX-License-Identifier: BUSL-1.1
"""Whom a user trusts: `HOME/trust.json`, public keys and what each may sign for.

A key is trusted for namespaces (`*` is all of them), or for whatever one registry offers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import msgspec

from axon_client.config import default_home
from axon_client.config_file import exclusive
from axon_client.files import replacing
from axon_client.trust.encoding import key_bytes
from mlos_core.errors import ConfigError, InvalidInput, NotFound

FILE_NAME: Final = "trust.json"
ALL: Final = "*"
_MOST_BYTES: Final = 4 << 20
Scope = Annotated[str, msgspec.Meta(pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9._-]{0,127})\Z")]


class Trusted(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A public key, whose it is, and what it may sign for."""

    key: str
    name: str = ""
    namespaces: list[Scope] = []
    registries: list[str] = []

    def covers(self, namespace: str, registry: str = "") -> bool:
        """Whether it may sign a package of that namespace that came from that registry."""
        named = namespace in self.namespaces or ALL in self.namespaces
        return named or (bool(registry) and registry in self.registries)


def load(home: Path | None = None) -> list[Trusted]:
    """All trusted keys.

    Raises:
        ConfigError: the file is damaged.
    """
    path = (home or default_home()) / FILE_NAME
    try:
        with path.open("rb") as file:
            entries = msgspec.json.decode(file.read(_MOST_BYTES), type=list[Trusted])
        for entry in entries:
            key_bytes(entry.key)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, InvalidInput) as error:
        raise ConfigError(
            f"{path} is damaged: {error}", hint="remove it and trust the keys again: axon trust add"
        ) from error
    return entries


def add(entry: Trusted, home: Path | None = None) -> Trusted:
    """Trust a key, for what `entry` names beside what it was trusted for; the whole entry.

    Raises:
        InvalidInput: it names nothing, or a name, a namespace or the key is not allowed.
    """
    key_bytes(entry.key)
    if not entry.namespaces and not entry.registries:
        raise InvalidInput(
            "say what the key may sign for", hint="give --namespace NAME or --registry NAME"
        )
    try:
        msgspec.convert(msgspec.to_builtins(entry), Trusted)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"not a namespace: {error}") from error
    home = home or default_home()
    with exclusive(home):
        kept = load(home)
        known = next((other for other in kept if other.key == entry.key), entry)
        whole = Trusted(
            entry.key,
            entry.name or known.name,
            sorted({*known.namespaces, *entry.namespaces}),
            sorted({*known.registries, *entry.registries}),
        )
        _check_name(whole, kept)
        _write([*(other for other in kept if other.key != entry.key), whole], home)
    return whole


def remove(name: str, home: Path | None = None) -> Trusted:
    """Trust the key no more that is `name`, or is called so; what it was trusted for.

    Raises:
        NotFound: no such key is trusted.
    """
    home = home or default_home()
    with exclusive(home):
        kept = load(home)
        found = next((entry for entry in kept if name in (entry.key, entry.name)), None)
        if found is None:
            known = ", ".join(entry.name or entry.key for entry in kept)
            raise NotFound(
                f"no key {name!r} is trusted",
                hint=f"there are: {known}" if known else "no key is trusted yet",
            )
        _write([entry for entry in kept if entry != found], home)
    return found


def _check_name(entry: Trusted, kept: list[Trusted]) -> None:
    others = [other for other in kept if other.key != entry.key]
    if entry.name and any(entry.name in (other.name, other.key) for other in others):
        raise InvalidInput(f"another key is called {entry.name!r}", hint="give another --name")
    if len(entry.name) > 200 or not entry.name.isprintable():
        raise InvalidInput("a key's name is at most 200 printable characters")


def _write(entries: list[Trusted], home: Path) -> None:
    with replacing(home / FILE_NAME, 0o644) as file:
        file.write(msgspec.json.format(msgspec.json.encode(entries)) + b"\n")
