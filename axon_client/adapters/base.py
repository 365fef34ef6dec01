# SPDX-License-Identifier: BUSL-1.1
"""The contract of a package source."""

from __future__ import annotations

from typing import Protocol

import msgspec

from axon_client.manifest import Manifest
from axon_client.progress import Progress
from axon_client.spec import PackageSpec, PathSpec
from axon_client.store import Stage


class Resolved(msgspec.Struct, frozen=True):
    """A package with its exact version, and the archive that holds it.

    `package` is None where the version is only known once the files have been read.
    `sha256` is what the source says the archive's digest is; `kind` is the adapter's own.
    """

    package: PackageSpec | None
    url: str = ""
    sha256: str = ""
    kind: str = ""


class Adapter(Protocol):
    """One kind of source. Executes nothing that it fetches."""

    def resolve(self, spec: PackageSpec | PathSpec) -> Resolved:
        """Find out which version is meant, without fetching it if that can be avoided.

        Raises:
            NotFound: the source has no such package or version.
            Unavailable: the source cannot be reached.
        """
        ...

    def fetch(
        self, spec: PackageSpec | PathSpec, found: Resolved, stage: Stage, progress: Progress
    ) -> Manifest:
        """Put the package's files under `stage.files` and describe them.

        The manifest's digests are those of the files as they lie in the stage.

        Raises:
            IntegrityError: what came is not what the source promised.
            InvalidInput: it holds no model.
        """
        ...
