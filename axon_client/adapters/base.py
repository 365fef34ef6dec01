# SPDX-License-Identifier: BUSL-1.1
"""The contract of a package source.

A distribution adds a source by an entry point in the group `axon.sources`: its name is the
namespace, its value a class that is made without arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import msgspec

from axon_client.manifest import Manifest
from axon_client.progress import Progress
from axon_client.spec import PackageSpec, Spec
from axon_client.store import Stage


class RemoteFile(msgspec.Struct, frozen=True):
    """One file of a package at its source.

    Attributes:
        path: where it belongs in the package; relative, POSIX.
        urls: where its bytes are, the preferred place first.
        size: bytes; -1 if the source does not say.
        sha256: hex digest; empty if the source does not say.
        git_sha1: the hex name that git gives the file's contents; empty if unknown.
        headers: what its requests carry beside what the credentials of their host add.
    """

    path: str
    urls: tuple[str, ...]
    size: int = -1
    sha256: str = ""
    git_sha1: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class Resolved(msgspec.Struct, frozen=True):
    """A package with its exact version, and what holds it.

    Attributes:
        package: None where the version is only known once the files have been read.
        url: the archive, or the page of the version.
        sha256: what the source says the archive's digest is.
        kind: the adapter's own.
        revision: what pins the content: a commit, or the digest of a manifest.
        files: the files, where the source has them one by one.
        manifest: the published manifest's exact bytes, where the source has one.
        signatures: of those bytes; see `axon_client.trust`.
        dependencies: specs of the packages that this one needs.
        yanked: why nobody should choose this version any more; empty if it is sound.
        notes: sentences for the user: which of several variants was taken, and how to get
            another.
    """

    package: PackageSpec | None
    url: str = ""
    sha256: str = ""
    kind: str = ""
    revision: str = ""
    files: tuple[RemoteFile, ...] = ()
    manifest: bytes = b""
    signatures: tuple[dict[str, str], ...] = ()
    dependencies: tuple[str, ...] = ()
    yanked: str = ""
    notes: tuple[str, ...] = ()


class Choice(msgspec.Struct, frozen=True):
    """Which of a package's files are wanted, where its source leaves that open.

    Attributes:
        include: names, paths, quantizations or patterns (`onnx/*.onnx`) of model files; the
            source's own default if there are none.
        pickles: whether formats may come that run code when they are opened.
    """

    include: tuple[str, ...] = ()
    pickles: bool = False


class Version(msgspec.Struct, frozen=True):
    """One version that a source offers. `tags` are the names it goes by, such as `latest`."""

    version: str
    yanked: str = ""
    tags: tuple[str, ...] = ()
    created: str = ""


class Hit(msgspec.Struct, frozen=True):
    """One package that a search found; `version` is its latest."""

    namespace: str
    name: str
    version: str = ""
    description: str = ""
    framework: str = ""
    tags: tuple[str, ...] = ()
    license: str = ""
    size: int = -1


class Adapter(Protocol):
    """One kind of source. Executes nothing that it fetches."""

    def resolve(self, spec: Spec) -> Resolved:
        """Find out which version is meant, without fetching it if that can be avoided.

        Raises:
            NotFound: the source has no such package or version.
            Unavailable: the source cannot be reached.
        """
        ...

    def fetch(self, spec: Spec, found: Resolved, stage: Stage, progress: Progress) -> Manifest:
        """Put the package's files into the stage and describe them.

        The manifest's digests are those of the files as they lie in the stage.

        Raises:
            IntegrityError: what came is not what the source promised.
            InvalidInput: it holds no model.
        """
        ...


@runtime_checkable
class Chooses(Protocol):
    """A source whose packages leave a choice of files; without it all of them are taken."""

    def choosing(self, choice: Choice) -> Adapter:
        """The same source, which resolves and fetches only what is chosen."""
        ...


@runtime_checkable
class Lists(Protocol):
    """A source that knows which versions there are; without it a package has one."""

    def versions(self, spec: PackageSpec) -> list[Version]:
        """Every version, in no particular order.

        Raises:
            NotFound: the source has no such package.
            Unavailable: the source cannot be reached.
        """
        ...


@runtime_checkable
class Pins(Protocol):
    """A source whose versions may come to mean something else, as a moved tag does."""

    def resolve_at(self, spec: PackageSpec, revision: str) -> Resolved:
        """An exact version as it was when it was resolved to `revision`.

        Raises:
            NotFound: the source has that revision no more.
            Unavailable: the source cannot be reached.
        """
        ...


@runtime_checkable
class Searches(Protocol):
    """A source that can be searched."""

    def search(self, query: str, limit: int) -> list[Hit]:
        """At most `limit` packages that fit a query, the best first.

        Raises:
            Unavailable: the source cannot be reached.
        """
        ...


@runtime_checkable
class Narrows(Protocol):
    """A source that can be searched for packages that have something, not only for words."""

    def narrowed(self, query: str, facets: Mapping[str, str]) -> str:
        """A query for `search` that also asks for facets: framework, format, license, tag."""
        ...
