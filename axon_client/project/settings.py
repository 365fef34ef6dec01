# SPDX-License-Identifier: BUSL-1.1
"""`axon.toml`: what a project is called, and which models it wants."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from axon_client.config import RESERVED, Label, Registry
from axon_client.manifest import Digest, Name, Namespace, Version
from axon_client.spec import PackageSpec, PathSpec, Spec, UrlSpec, check_selector, parse
from mlos_core.errors import ConfigError, MlosError, NotFound

FILE_NAME: Final = "axon.toml"
MAX_BYTES: Final = 1 << 20
MAX_MODELS: Final = 1000
_MAX_PARTS: Final = 16
_STRING: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"""|"(?:[^"\\\n]|\\.)*"|#[^\n]*' + r"|'''.*?'''|'[^'\n]*'", re.S
)
"""What may hold dots that part no key: strings and comments."""
_DEEP: Final = re.compile(rf"(?<![\w-])(?:[\w-]++[ \t]*+\.[ \t]*+){{{_MAX_PARTS}}}")


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    pass


class About(_Part, frozen=True):
    """What the project is called, should it become a package itself."""

    name: Name = ""
    namespace: Namespace | Literal[""] = ""
    version: Version = "0.1.0"
    description: str = ""


class Wish(_Part, frozen=True):
    """One model that is wanted.

    Attributes:
        version: a selector; empty is any version.
        path: a folder or file, relative to the project, instead of a source.
        url: a file on a web server, with its `sha256`, instead of a source.
        include: which files, where the source has several variants.
        pickles: whether files may come that run code when they are opened.
    """

    version: str = ""
    path: str = ""
    url: str = ""
    sha256: Digest | Literal[""] = ""
    include: list[str] = []
    pickles: bool = False


class _File(_Part, frozen=True):
    project: About = About()
    models: dict[str, str | Wish] = {}
    registries: dict[Label, Registry] = {}


class Project(msgspec.Struct, frozen=True):
    """A project's folder and its checked `axon.toml`. `models` are sorted by name."""

    root: Path
    about: About
    models: dict[str, Wish]
    registries: dict[str, Registry]

    def spec(self, title: str) -> Spec:
        """What the wish for a model asks for."""
        wish = self.models[title]
        if wish.path:
            return PathSpec(self.root / wish.path)
        if wish.url:
            return UrlSpec(wish.url, wish.sha256)
        spec = parse(title)
        assert isinstance(spec, PackageSpec)
        return spec.at(wish.version)


def find(start: Path | None = None) -> Path | None:
    """The nearest folder with an `axon.toml`, from `start` (here) upward.

    A file that belongs to somebody else, as one may lie in a shared folder, is passed over.
    """
    here = (start or Path.cwd()).absolute()
    for folder in (here, *here.parents):
        try:
            status = (folder / FILE_NAME).stat()
        except OSError:
            continue
        if trusts(status.st_uid):
            return folder
    return None


def trusts(owner: int) -> bool:
    """Whether a file of that user may say what is installed."""
    return owner in (os.getuid(), 0)


def require(start: Path | None = None) -> Project:
    """The project here.

    Raises:
        NotFound: there is none.
        ConfigError: its file is wrong.
    """
    root = find(start)
    if root is None:
        raise NotFound(
            f"there is no {FILE_NAME} here or in a folder above", hint="make one: axon init"
        )
    return load(root)


def load(root: Path) -> Project:
    """Read a project's `axon.toml`.

    Raises:
        ConfigError: it cannot be read, or a value is wrong; names file and field.
    """
    path = root / FILE_NAME
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    return decode(data, root)


def decode(data: bytes, root: Path) -> Project:
    """Check the contents of an `axon.toml`. Raises as `load` does."""
    path = root / FILE_NAME
    values = read_toml(data, str(path), MAX_BYTES)
    try:
        file = msgspec.convert(values, _File)
        models = {_title(name): _wish(name, wish) for name, wish in sorted(file.models.items())}
        if len(models) > MAX_MODELS:
            raise ConfigError(f"{len(models)} models are wanted; {MAX_MODELS} may be")
        _check_registries(file.registries)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from error
    except MlosError as error:
        raise ConfigError(f"{path}: {error.message}", hint=error.hint) from error
    return Project(root, file.project, models, file.registries)


def read_toml(data: bytes, source: str, limit: int) -> dict[str, Any]:
    """Parse TOML of bounded size.

    Raises:
        ConfigError: it is too large or no TOML; names `source`.
    """
    if len(data) > limit:
        raise ConfigError(f"{source} is larger than {limit >> 20} MiB")
    try:
        text = data.decode()
        # The parser keeps every beginning of a dotted key: a line of 200 kB fills the memory.
        if _DEEP.search(_STRING.sub("s", text)):
            raise ConfigError(f"{source} has a key of more than {_MAX_PARTS} parts")
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{source} is not TOML: {error}") from error


def _title(name: str) -> str:
    spec = parse(name)
    if not isinstance(spec, PackageSpec) or spec.version:
        raise ConfigError(
            f"models: {name!r} is no package", hint='write \'"namespace/name" = "^1.2"\''
        )
    if str(spec) != name:
        raise ConfigError(f"models: {name!r} is spelt {str(spec)!r}")
    return name


def _wish(name: str, wish: str | Wish) -> Wish:
    made = Wish(wish) if isinstance(wish, str) else wish
    if sum(map(bool, (made.version, made.path, made.url))) > 1:
        raise ConfigError(f"models: {name}: say one of version, path and url")
    if made.version:
        check_selector(made.version, f"{name}@{made.version}")
    if made.url:
        parse(f"{made.url}#sha256={made.sha256}")
    elif made.sha256:
        raise ConfigError(f"models: {name}: a sha256 belongs to a url")
    return made


def _check_registries(registries: dict[str, Registry]) -> None:
    for name, registry in registries.items():
        taken = RESERVED.intersection({*registry.namespaces, name})
        if taken:
            raise ConfigError(f"registries: {name}: {min(taken)} has a source of its own")
        if registry.kind == "axon" and not registry.namespaces:
            raise ConfigError(f"registries: {name}: say which namespaces it serves")
