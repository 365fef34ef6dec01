# SPDX-License-Identifier: BUSL-1.1
"""`axon.lock`: which bytes a project's models are.

Guarantees: the same contents are the same bytes, whoever writes them and in whatever order
they were found; nothing in it depends on the machine but what its sources are called.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec

from axon_client.config import Url
from axon_client.files import replacing
from axon_client.manifest import ModelFile, path_problem
from axon_client.project.settings import Wish, read_toml
from axon_client.spec import PackageSpec, parse
from mlos_core.errors import ConfigError, MlosError

LOCK_NAME: Final = "axon.lock"
MAX_BYTES: Final = 64 << 20
FORMAT: Final = 1
_HEAD: Final = "# Made by `axon lock` from axon.toml. Change that, not this.\n"

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class Origin(_Part, frozen=True):
    """Where a package comes from: one of these.

    Attributes:
        namespace: a source that every axon has, or one that a distribution adds.
        registry: the URL of an axon registry.
        path: a folder or file, relative to the project.
        url: a file on a web server.
    """

    namespace: str = ""
    registry: Url | Literal[""] = ""
    path: str = ""
    url: str = ""


class Locked(_Part, frozen=True):
    """One package.

    Attributes:
        name: `namespace/name`.
        version: the exact version.
        revision: what the source pins it by: a commit, the digest of an archive or manifest.
        manifest: the digest of the manifest that its source publishes.
        include, pickles: the choice of files that was made.
        dependencies: the exact packages that it needs, sorted.
        files: every file, sorted by path.
    """

    name: str
    version: str
    origin: Origin
    revision: str = ""
    manifest: Sha256 | Literal[""] = ""
    include: list[str] = []
    pickles: bool = False
    dependencies: list[str] = []
    files: list[ModelFile] = []

    @property
    def package(self) -> PackageSpec:
        """The exact package."""
        spec = parse(f"{self.name}@{self.version}")
        assert isinstance(spec, PackageSpec)
        return spec


class Lock(_Part, frozen=True):
    """A whole lock: the wishes it was made for, and every package, sorted by name."""

    version: Literal[1] = 1
    wishes: dict[str, Wish] = {}
    packages: list[Locked] = []

    def get(self, title: str) -> Locked | None:
        """The package called `namespace/name`."""
        return next((one for one in self.packages if one.name == title), None)


def make(wishes: dict[str, Wish], packages: list[Locked]) -> Lock:
    """A lock in its one order."""
    return Lock(
        FORMAT,
        dict(sorted(wishes.items())),
        sorted(packages, key=lambda one: one.name),
    )


def load(root: Path) -> Lock | None:
    """Read a project's lock; None if it has none.

    Raises:
        ConfigError: it cannot be read or is damaged; says where.
    """
    path = root / LOCK_NAME
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    return decode(data, str(path))


def decode(data: bytes, source: str = LOCK_NAME) -> Lock:
    """Parse a lock. Raises as `load` does."""
    values = read_toml(data, source, MAX_BYTES)
    if values.get("version") != FORMAT:
        raise ConfigError(
            f"{source} has version {values.get('version')!r}; this axon knows {FORMAT}",
            hint="update axon, or make it anew with: axon lock",
        )
    try:
        lock = msgspec.convert(values, Lock)
        for package in lock.packages:
            _check(package)
    except (msgspec.ValidationError, MlosError) as error:
        raise ConfigError(
            f"{source}: {error}", hint="restore it, or make it anew with: axon lock"
        ) from error
    return lock


def _check(package: Locked) -> None:
    parse(f"{package.name}@{package.version}")
    if sum(map(bool, msgspec.structs.astuple(package.origin))) != 1:
        raise ConfigError(f"{package.name} has no origin, or several")
    for file in package.files:
        problem = path_problem(file.path)
        if problem:
            raise ConfigError(f"{package.name}: {file.path!r} {problem}")


def encode(lock: Lock) -> bytes:
    """The one way to write a lock: TOML."""
    return "".join(_lines(lock)).encode()


def _lines(lock: Lock) -> Iterator[str]:
    yield f"{_HEAD}version = {lock.version}\n\n[wishes]\n"
    for name, wish in lock.wishes.items():
        yield f"{_text(name)} = {_inline(msgspec.to_builtins(wish))}\n"
    for package in lock.packages:
        yield "\n[[packages]]\n"
        values = msgspec.to_builtins(package)
        for key, value in values.items():
            if isinstance(value, list):
                yield f"{key} = [\n" + "".join(f"    {_inline(one)},\n" for one in value) + "]\n"
            else:
                yield f"{key} = {_inline(value)}\n"


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_inline(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else _text(value)


def _text(text: str) -> str:
    """A TOML string: JSON's, but for one character that JSON leaves as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def save(root: Path, lock: Lock) -> bool:
    """Write a project's lock, all of it or nothing; says whether it was another before."""
    return write(root / LOCK_NAME, encode(lock))


def write(path: Path, data: bytes) -> bool:
    """Put `data` in the place of a file; says whether it had other contents."""
    if path.is_file() and path.read_bytes() == data:
        return False
    with replacing(path) as file:
        if path.exists():
            os.fchmod(file.fileno(), path.stat().st_mode & 0o777)
        file.write(data)
    return True
