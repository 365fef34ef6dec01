# SPDX-License-Identifier: BUSL-1.1
"""Which packages a daemon serves, and swapping one for its next version while it is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol

import msgspec

from axon_client import manifest as manifests
from axon_client.formats import SAVED_MODEL
from axon_client.manifest import ExecutionFile
from axon_client.models import MAIN, InstalledModel
from axon_client.spec import PackageSpec
from mlos_core.errors import InvalidInput, MlosError, NotFound

CONFIG: Final = "config.json"
SWAP_TIMEOUT_S: Final = 300.0
_MARGIN_S: Final = 30.0
_HIGHEST: Final = 12
"""Folders between a model's file and its package's, at most."""


class Daemon(Protocol):
    """The part of the client that is used here."""

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the control plane."""
        ...


Connect = Callable[[], AbstractContextManager[Daemon]]


class Served(msgspec.Struct, frozen=True):
    """One version of a model that a daemon serves out of a package.

    Attributes:
        name, version: as it was registered.
        package: the package and its version.
        file: the model's path in the package; empty for its whole folder.
    """

    name: str
    version: str
    package: PackageSpec
    file: str
    path: str


class Swapped(msgspec.Struct, frozen=True):
    """What came of one swap. `problem` says why the old version goes on; None if it does not."""

    served: Served
    version: str
    problem: MlosError | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        about: dict[str, Any] = {
            "name": self.served.name,
            "from": str(self.served.package),
            "version": self.version,
            "swapped": self.problem is None,
        }
        if self.problem is not None:
            about["error"] = {"code": self.problem.code, "message": self.problem.message}
        return about


def served(connect: Connect) -> list[Served]:
    """Every version of every model that the daemon serves out of a package.

    Raises:
        Unavailable: no daemon runs.
    """
    with connect() as daemon:
        return served_by(daemon)


def served_by(daemon: Daemon) -> list[Served]:
    """As `served`, over a connection that is open."""
    return [one for info in daemon.call("models") for one in _versions(info)]


def _versions(info: dict[str, Any]) -> Iterator[Served]:
    for version in info["versions"]:
        found = _package_of(version["path"], info.get("manifest"))
        if found:
            package, file = found
            yield Served(info["name"], version["version"], package, file, version["path"])


def _package_of(text: str, registered: dict[str, Any] | None) -> tuple[PackageSpec, str] | None:
    """The package that a model's path lies in, and the path within it.

    The folder says it, or where it is gone the manifest that was registered with it.
    """
    path = Path(text)
    for folder in (path, *path.parents)[:_HIGHEST]:
        if (folder / manifests.FILE_NAME).is_file():
            try:
                about = manifests.load(folder / manifests.FILE_NAME).metadata
            except InvalidInput:
                return None
            return PackageSpec(about.namespace, about.name, about.version), _within(path, folder)
    told = (registered or {}).get("metadata") or {}
    parts = [told.get(key) for key in ("namespace", "name", "version")]
    if not all(isinstance(part, str) and part for part in parts):
        return None
    package = PackageSpec(*map(str, parts))
    _, found, file = text.partition(f"/{package.namespace}/{package.name}/{package.version}/")
    return package, file if found else ""


def _within(path: Path, folder: Path) -> str:
    relative = path.relative_to(folder).as_posix()
    return "" if relative == "." else relative


def swap(
    model: InstalledModel,
    connect: Connect,
    *,
    allow_new_signature: bool = False,
    timeout_s: float = SWAP_TIMEOUT_S,
) -> list[Swapped]:
    """Serve `model` in the place of every other version of it, while requests go on.

    The new one is loaded and warmed beside the old one, which goes on if anything is wrong with
    it: inputs or outputs that the old one's clients do not know are, unless they are allowed.

    Returns:
        One for each place where another version was served, with what came of it.

    Raises:
        Unavailable: no daemon runs.
    """
    with connect() as daemon:
        return [
            _swap_one(model, one, daemon, allow_new_signature, timeout_s)
            for one in served_by(daemon)
            if _is_other(one.package, model.spec)
        ]


def _is_other(package: PackageSpec, spec: PackageSpec) -> bool:
    same = (package.namespace, package.name) == (spec.namespace, spec.name)
    return same and package.version != spec.version


def _swap_one(
    model: InstalledModel, old: Served, daemon: Daemon, allow: bool, timeout_s: float
) -> Swapped:
    try:
        file = successor(model, old.file)
        daemon.call(
            "swap_model",
            patience=timeout_s + _MARGIN_S,
            name=old.name,
            version=old.version,
            path=str(what_to_load(model.path / file.path, file.format)),
            new_version=model.spec.version,
            manifest=model.manifest_for(file.path),
            allow_new_signature=allow,
            timeout=timeout_s,
        )
    except MlosError as error:
        return Swapped(old, model.spec.version, error)
    return Swapped(old, model.spec.version)


def successor(model: InstalledModel, file: str) -> ExecutionFile:
    """The model of a new version that takes the place of the old one's `file`.

    The one at the same place, or of the same name; else the main one.

    Raises:
        NotFound: there is none.
    """
    models = model.models
    for alike in (_same_path, _same_name):
        found = [one for one in models if alike(one.path, file)]
        if len(found) == 1:
            return found[0]
    main = [one for one in models if one.type == MAIN]
    if len(main) == 1 or len(models) == 1:
        return main[0] if main else models[0]
    raise NotFound(
        f"{model.spec} has nothing in the place of {file}",
        hint="register one of its models: " + ", ".join(one.path for one in models),
    )


def _same_path(new: str, old: str) -> bool:
    return new == old or (bool(old) and PurePosixPath(new).parent == PurePosixPath(old))


def _same_name(new: str, old: str) -> bool:
    return PurePosixPath(new).name == PurePosixPath(old).name


def what_to_load(path: Path, format: str) -> Path:
    """The model's file, or its folder where the file is one of several that make the model."""
    folder = format == "safetensors" and (path.parent / CONFIG).is_file()
    return path.parent if folder or path.name == SAVED_MODEL else path


def describe_swaps(swaps: Sequence[Swapped]) -> list[str]:
    """A line for each."""
    return [
        f"{one.served.name}: {one.served.package.version} -> {one.version}, live"
        if one.problem is None
        else f"{one.served.name}: still {one.served.package.version}: {one.problem.message}"
        for one in swaps
    ]
