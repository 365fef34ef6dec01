# SPDX-License-Identifier: BUSL-1.1
"""What a user has set: `config.yaml` in the store's folder, and above it the environment.

    default_registry: hub
    registries:
      hub: {url: "https://models.example.org", namespaces: [acme], policy: require}
    offline: false
    parallel: 8                 # connections of one download
    rate_limit: 20MB            # per second; 0 is no limit
    mirrors: {"https://far.example.org/": ["https://near.example.org/"]}
    stores: [/srv/models]       # read-only stores below one's own

Each top-level key but `registries` has a variable: `AXON_OFFLINE=1`. A key that is not
known is an error: a misspelt `ofline` must not go to the network.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from axon_client.config_text import convert
from mlos_core.errors import ConfigError

FILE_NAME: Final = "config.yaml"
MAX_BYTES: Final = 1 << 20
RESERVED: Final = frozenset({"pypi", "hf", "oci", "local", "https", "http"})
"""Namespaces that built-in sources serve; no registry may claim them."""

Kind = Literal["axon", "oci", "hf"]
Policy = Literal["off", "warn", "require"]
Label = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")]
Namespace = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")]
Url = Annotated[str, msgspec.Meta(pattern=r"^(https?|oci)://[^\s/?#@]+(/[^\s?#]*)?\Z")]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class Registry(_Part, frozen=True):
    """A registry by name.

    Attributes:
        kind: what it speaks. One of kind oci or hf serves the namespace that is its name.
        namespaces: what is asked there and nowhere else.
        policy: what is done about a package without a trusted signature.
    """

    url: Url
    kind: Kind = "axon"
    namespaces: list[Namespace] = []
    policy: Policy = "off"


class Config(_Part, frozen=True):
    """All settings; `load` gives only checked ones.

    Attributes:
        parallel: connections of one download.
        rate_limit: bytes per second of one process; 0 is no limit.
        mirrors: for the beginning of a URL, what may stand in its place.
        stores: folders of read-only stores that are looked into after one's own.
    """

    default_registry: str = ""
    registries: dict[Label, Registry] = {}
    offline: bool = False
    parallel: Annotated[int, msgspec.Meta(ge=1, le=64)] = 8
    rate_limit: Annotated[int, msgspec.Meta(ge=0)] = 0
    mirrors: dict[Url, list[Url]] = {}
    stores: list[str] = []


VARIABLES: Final = {
    field: f"AXON_{field.upper()}" for field in Config.__struct_fields__ if field != "registries"
}
"""The environment variable of each key."""


def default_home() -> Path:
    """`$AXON_HOME`, or `~/.axon`."""
    chosen = os.environ.get("AXON_HOME")
    return Path(chosen).expanduser() if chosen else Path.home() / ".axon"


def load(home: Path | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """The settings of the store in `home`, the environment's before the file's.

    Raises:
        ConfigError: the file or a variable is wrong; names it and the key.
    """
    path = (home or default_home()) / FILE_NAME
    values = read(path)
    check(values, str(path))
    for key, (text, variable) in from_environment(environ).items():
        values[key] = convert(key, text, variable)
    return check(_named_by_url(values), "the environment")


def from_environment(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Text and variable of each key that the environment sets; an empty one sets nothing."""
    return {key: (environ[name], name) for key, name in VARIABLES.items() if environ.get(name)}


def _named_by_url(values: dict[str, Any]) -> dict[str, Any]:
    """`AXON_DEFAULT_REGISTRY` may be a URL: a registry that has no name."""
    url = values.get("default_registry", "")
    if "://" not in url:
        return values
    registries = values.get("registries", {})
    known = [name for name, entry in registries.items() if entry["url"] == url]
    added = {} if known else {"default": {"url": url}}
    chosen = known[0] if known else "default"
    return values | {"registries": registries | added, "default_registry": chosen}


def read(path: Path) -> dict[str, Any]:
    """The file's plain values; empty if there is none.

    Raises:
        ConfigError: it cannot be read, or is not a YAML mapping.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES >> 20} MiB: not a configuration")
    from axon_client import safe_yaml  # most homes have no such file, and YAML takes a while

    try:
        values = safe_yaml.parse(data)
    except ValueError as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold keys with values", hint="see 'axon config list'")
    if isinstance(values.get("rate_limit"), str):
        values["rate_limit"] = convert("rate_limit", values["rate_limit"], str(path))
    return values


def check(values: dict[str, Any], source: str) -> Config:
    """Plain values as settings.

    Raises:
        ConfigError: a key is unknown, a value is wrong, or they contradict each other.
    """
    try:
        config = msgspec.convert(values, Config)
    except msgspec.ValidationError as error:
        raise _wrong(str(error), source) from error
    chosen = config.default_registry
    if chosen and chosen not in config.registries:
        raise ConfigError(
            f"{source}: default_registry is {chosen!r}, which is no registry",
            hint=suggest(chosen, config.registries) or f"axon registry set {chosen} URL",
        )
    if chosen and config.registries[chosen].kind != "axon":
        raise ConfigError(f"{source}: the default registry {chosen!r} must be of kind axon")
    _check_claims(config, source)
    return config


def _check_claims(config: Config, source: str) -> None:
    """A namespace is asked at one place only."""
    owners: dict[str, str] = {}
    for name, registry in config.registries.items():
        claimed = registry.namespaces if registry.kind == "axon" else [name, *registry.namespaces]
        if registry.kind != "oci" and registry.url.startswith("oci:"):
            raise ConfigError(f"{source}: registry {name!r} has an oci:// URL but another kind")
        for namespace in dict.fromkeys(claimed):
            if namespace in RESERVED:
                raise ConfigError(
                    f"{source}: registry {name!r} claims {namespace!r}, a built-in source's name"
                )
            if namespace in owners:
                both = f"{owners[namespace]!r} and {name!r}"
                raise ConfigError(
                    f"{source}: both {both} claim namespace {namespace!r}",
                    hint="a namespace has one registry, so that nobody can slip in between",
                )
            owners[namespace] = name


def _wrong(reason: str, source: str) -> ConfigError:
    what, _, where = reason.partition(" - at `")
    where = where.rstrip("`").replace("key` in `$.", "the keys of ").removeprefix("$").lstrip(".")
    unknown = re.search(r"unknown field `(.+)`", what)
    if unknown:
        known = Registry.__struct_fields__ if where else Config.__struct_fields__
        key = f"{where}.{unknown[1]}" if where else unknown[1]
        return ConfigError(f"{source}: there is no key {key!r}", hint=suggest(unknown[1], known))
    return ConfigError(f"{source}: {where}: {_plainly(what)}" if where else f"{source}: {what}")


def _plainly(what: str) -> str:
    if "matching regex" not in what:
        return what
    return "a URL (https://…)" if "https?" in what else "letters, digits, '-' and '_' only"


def suggest(word: str, known: Iterable[str]) -> str:
    """`did you mean …?`, or what there is; empty if there is nothing."""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5 if len(word) < 6 else 0.6)
    if near:
        return f"did you mean {near[0]}?"
    return f"there are: {', '.join(names)}" if names else ""
