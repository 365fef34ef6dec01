# SPDX-License-Identifier: BUSL-1.1
"""The models that are registered. They come back after a restart.

`Registry` is pure; `RegistryFile` keeps it as JSON in the state folder.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from mlos_core.daemon.entry import ModelEntry, Route, version_key
from mlos_core.daemon.files import write_atomic
from mlos_core.errors import AlreadyExists, ConfigError, NotFound

FORMAT: Final = 2
HISTORY: Final = 8
"""How many entries a version can be rolled back through."""


class Served(msgspec.Struct, forbid_unknown_fields=True):
    """One version that is served, and what was served in its place before, latest last."""

    entry: ModelEntry
    previous: list[ModelEntry] = []


class Registered(msgspec.Struct, forbid_unknown_fields=True):
    """One name: its versions, and the route to them."""

    versions: list[Served]
    route: Route = Route()


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    models: dict[str, Registered]


class _FirstDocument(msgspec.Struct, forbid_unknown_fields=True):
    """Format 1 knew one version of each model."""

    format: int
    models: list[ModelEntry]


class Registry:
    """The entries by name and version."""

    def __init__(self, entries: Iterable[ModelEntry] = ()) -> None:
        self._models: dict[str, Registered] = {}
        for entry in entries:
            self.put(entry, add=True)

    @classmethod
    def of(cls, models: dict[str, Registered]) -> Registry:
        """A registry with that content."""
        registry = cls()
        registry._models = models
        return registry

    def __iter__(self) -> Iterator[ModelEntry]:
        for name in sorted(self._models):
            versions = [served.entry for served in self._models[name].versions]
            yield from sorted(versions, key=lambda entry: version_key(entry.version))

    def __len__(self) -> int:
        return len(self._models)

    def __contains__(self, name: object) -> bool:
        return name in self._models

    def _model(self, name: str) -> Registered:
        try:
            return self._models[name]
        except KeyError:
            raise unknown_model(name, self._models) from None

    def _served(self, name: str, version: str) -> Served:
        versions = self._model(name).versions
        for served in versions:
            if served.entry.version == version:
                return served
        raise unknown_version(name, version, [served.entry.version for served in versions])

    def get(self, name: str, version: str | None = None) -> ModelEntry:
        """The entry of a version; without one, of the version the route favours.

        Raises:
            NotFound: none; the hint names the nearest one.
        """
        if version is None:
            shares = self.route(name).shares(self.versions(name))
            version = max(shares, key=lambda v: (shares[v], version_key(v)))
        return self._served(name, version).entry

    def versions(self, name: str) -> dict[str, ModelEntry]:
        """The entries of a name by version; raises `NotFound`."""
        return {served.entry.version: served.entry for served in self._model(name).versions}

    def check_new(self, entry: ModelEntry, *, replace: bool) -> None:
        """Raise `AlreadyExists` unless the entry may stand for its name or version."""
        model = self._models.get(entry.name)
        if model is None or replace:
            return
        if not any(served.entry.same_as(entry) for served in model.versions):
            raise AlreadyExists(
                f"another model is registered as {entry.name!r}",
                hint="choose another name, replace it with --replace, or serve both with --add "
                "and another --version",
            )

    def put(self, entry: ModelEntry, *, replace: bool = False, add: bool = False) -> None:
        """Enter an entry.

        Args:
            entry: it takes the place of its version, or of the only one there is.
            replace: whether something different may be in that place.
            add: serve it beside the versions there are.

        Raises:
            InvalidInput: a value is impossible.
            AlreadyExists: the place is taken by something different.
        """
        entry.check()
        model = self._models.get(entry.name)
        if model is None:
            self._models[entry.name] = Registered([Served(entry)])
            return
        same = [served for served in model.versions if served.entry.version == entry.version]
        if add and not same:
            model.versions.append(Served(entry))
            return
        self.check_new(entry, replace=replace)
        place = same[0] if same else self._served(entry.name, self.get(entry.name).version)
        place.entry = entry

    def swap(self, version: str, entry: ModelEntry) -> None:
        """`entry` is served in place of `version`, which can be rolled back to."""
        served = self._served(entry.name, version)
        served.previous = [*served.previous, served.entry][-HISTORY:]
        self._rename(served, entry)

    def previous(self, name: str, version: str) -> ModelEntry | None:
        """What was served in place of a version before."""
        previous = self._served(name, version).previous
        return previous[-1] if previous else None

    def roll_back(self, name: str, version: str, entry: ModelEntry) -> None:
        """`entry`, made of the last previous one, is served again."""
        served = self._served(name, version)
        served.previous = served.previous[:-1]
        self._rename(served, entry)

    def _rename(self, served: Served, entry: ModelEntry) -> None:
        old, served.entry = served.entry.version, entry
        model = self._models[entry.name]
        route = model.route
        if route.version == old:
            route = msgspec.structs.replace(route, version=entry.version)
        weights = {entry.version if v == old else v: w for v, w in route.weights.items()}
        model.route = msgspec.structs.replace(route, weights=weights)

    def remove(self, name: str, version: str | None = None) -> None:
        """Take a version out, or with none the whole name; raises `NotFound`."""
        model = self._model(name)
        if version is not None:
            model.versions.remove(self._served(name, version))
        if version is None or not model.versions:
            del self._models[name]

    def route(self, name: str) -> Route:
        """The route of a name; raises `NotFound`."""
        return self._model(name).route

    def set_route(self, name: str, route: Route) -> None:
        """Change the route of a name; raises `NotFound`."""
        self._model(name).route = route

    def encode(self) -> bytes:
        """The file's content."""
        document = _Document(FORMAT, self._models)
        return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def decode(data: bytes) -> Registry:
    """The inverse of `Registry.encode`.

    Raises:
        ValueError: the bytes are no registry of a format we know.
    """
    version = msgspec.json.decode(data, type=dict[str, Any]).get("format")
    if version == 1:
        return Registry(msgspec.json.decode(data, type=_FirstDocument).models)
    if version != FORMAT:
        raise ValueError(f"format {version!r} is not {FORMAT}")
    return Registry.of(msgspec.json.decode(data, type=_Document).models)


def unknown_model(name: str, known: Iterable[str]) -> NotFound:
    """The error for a name nobody registered."""
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {near[0]!r}?" if near else "see `mlosctl models` for what there is"
    return NotFound(f"no model is registered as {name!r}", hint=hint)


def unknown_version(name: str, version: str, known: Iterable[str]) -> NotFound:
    """The error for a version that is not served."""
    there = ", ".join(v or "one without a version" for v in sorted(known, key=version_key))
    return NotFound(f"model {name!r} has no version {version!r}", hint=f"it has {there}")


class RegistryFile:
    """The registry on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Registry:
        """Read it; no file is an empty registry.

        Raises:
            ConfigError: the file is damaged. It was renamed, so that the next start
                begins with an empty registry and nothing is lost.
        """
        try:
            return decode(self.path.read_bytes())
        except FileNotFoundError:
            return Registry()
        except (msgspec.MsgspecError, ValueError, UnicodeDecodeError) as err:
            aside = self._put_aside()
            raise ConfigError(
                f"the model registry {self.path} cannot be read: {err}",
                hint=f"it was kept as {aside.name}; repair it and move it back, or start again "
                "with an empty registry",
            ) from err
        except OSError as err:
            raise ConfigError(
                f"the model registry {self.path} cannot be read: {err.strerror}",
                hint="check its permissions",
            ) from err

    def _put_aside(self) -> Path:
        number = 0
        while (aside := self.path.with_name(f"{self.path.name}.corrupt-{number}")).exists():
            number += 1
        return self.path.rename(aside)

    def save(self, registry: Registry) -> None:
        """Write it so that a crash leaves the old file or the new one."""
        write_atomic(self.path, registry.encode())
