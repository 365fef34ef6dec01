# SPDX-License-Identifier: BUSL-1.1
"""An artifact's layers, into a stage: files as they are, archives unpacked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from axon_client import manifest as manifests
from axon_client.adapters.base import RemoteFile
from axon_client.archive import extract_tar
from axon_client.errors import IntegrityError
from axon_client.oci.artifact import Artifact, Descriptor
from axon_client.oci.client import Repository
from axon_client.paths import Names
from axon_client.progress import Progress
from axon_client.store import Stage
from axon_client.unpacking import Budget
from mlos_core.errors import PermissionDenied

T = TypeVar("T")
_MOST_RENEWALS: Final = 16


def raw_files(repository: Repository, artifact: Artifact) -> tuple[RemoteFile, ...]:
    """The layers that are files; who asks for them shows a token beside."""
    return tuple(
        _remote(repository, layer, layer.path, ())
        for layer in artifact.layers
        if not layer.is_archive and layer is not artifact.manifest_layer
    )


def _remote(
    repository: Repository, layer: Descriptor, path: str, headers: tuple[tuple[str, str], ...]
) -> RemoteFile:
    url = repository.blob_url(layer.digest)
    return RemoteFile(path, (url,), layer.size, layer.sha256, headers=headers)


class Layers:
    """Brings the layers of one artifact into a stage."""

    def __init__(
        self, repository: Repository, digest: str, stage: Stage, progress: Progress
    ) -> None:
        self._repository = repository
        self._digest = digest
        self._stage = stage
        self._progress = progress
        self._headers = repository.pull_headers(digest)
        self._names = Names()
        self._budget = Budget()

    def bring(self, artifact: Artifact) -> None:
        """Bring every layer but manifest.yaml.

        Raises:
            IntegrityError: one is not what it should be, or two are one file.
        """
        own = artifact.manifest_layer
        for index, layer in enumerate(artifact.layers):
            if layer.is_archive:
                self._unpack(layer, index)
            elif layer is not own:
                self._check(self._names.add(layer.path))
                self._renewing(lambda x: self._stage.obtain(x, self._progress), layer, layer.path)

    def _unpack(self, layer: Descriptor, index: int) -> None:
        path = self._renewing(
            lambda x: self._stage.fetch(x, self._progress), layer, f"layers/{index}"
        )
        folder, done = self._stage.scratch / "unpacked" / str(index), 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            self._progress(f"unpack {layer.sha256[:12]}", done, 0)

        limits = self._budget.next(path.stat().st_size)
        files = extract_tar(path, folder, advance, limits, self._names)
        self._budget.took(len(files), done)
        for file in files:
            if file.path != manifests.FILE_NAME:
                self._stage.adopt(file.path, folder / file.path, file.sha256)

    def _renewing(self, bring: Callable[[RemoteFile], T], layer: Descriptor, path: str) -> T:
        """Tokens last minutes, downloads hours: what was verified is kept, and it goes on."""
        for _ in range(_MOST_RENEWALS):
            try:
                return bring(_remote(self._repository, layer, path, self._headers))
            except PermissionDenied:
                before = self._headers
                self._headers = self._repository.pull_headers(self._digest, fresh=True)
                if self._headers == before:
                    raise
        return bring(_remote(self._repository, layer, path, self._headers))

    def _check(self, problem: str) -> None:
        if problem:
            raise IntegrityError(f"the package is refused: {problem}")
