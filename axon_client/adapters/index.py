# SPDX-License-Identifier: BUSL-1.1
"""Archives of the package index: found by pip, fetched by axon where that is possible.

Only pip knows which indexes are configured, and what it takes to be let in. But an archive
on an index that anybody may read is a file with a URL and a digest like any other, and axon
fetches those in parallel and goes on where it was cut off. Where that does not begin to work -
a keyring's password, a client's certificate, a proxy of pip's own - pip fetches it itself.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from axon_client.adapters import pip
from axon_client.adapters.base import RemoteFile
from axon_client.adapters.digest import check_digest, check_stated
from axon_client.adapters.pip import Archive, Fetch
from axon_client.progress import Progress
from axon_client.store import Stage
from mlos_core.errors import (
    DeadlineExceeded,
    MlosError,
    PermissionDenied,
    ProtocolError,
    Unavailable,
    Unsupported,
)

FOR_PIP = (PermissionDenied, Unavailable, Unsupported, ProtocolError)
"""What may be no fault of the index, but of what only pip knows."""


def fetch(
    archive: Archive, stage: Stage, progress: Progress, by_pip: Fetch = pip.download_wheel,
    task: str = "download",
) -> Path:  # fmt: skip
    """Bring an archive below `stage.scratch`, and check its digest.

    Args:
        by_pip: how pip fetches it.
        task: what `progress` is told that this is.

    Raises:
        IntegrityError: it is not the one that the index speaks of, or the index states no
            digest.
        Unavailable: the index cannot be reached.
    """
    requirement = f"{archive.name}=={archive.version}"
    check_stated(archive.sha256, requirement)
    watch = Watch(progress, task)
    if urlsplit(archive.url).scheme in ("http", "https"):
        file = RemoteFile(f"archives/{file_name(archive.url)}", (archive.url,), -1, archive.sha256)
        try:
            return stage.fetch(file, watch)
        except FOR_PIP as error:
            if watch.began or isinstance(error, DeadlineExceeded):
                raise
            return _by_pip(requirement, archive, stage, watch, by_pip, error)
    return _by_pip(requirement, archive, stage, watch, by_pip, None)


class Watch:
    """Passes progress on under another name, and knows whether there was any."""

    def __init__(self, progress: Progress, task: str) -> None:
        self._progress = progress
        self._task = task
        self.began = False

    def __call__(self, task: str, done: int, total: int) -> None:
        """As `Progress`."""
        self.began = self.began or done > 0
        self._progress(self._task if task == "download" else task, done, total)


def _by_pip(
    requirement: str, archive: Archive, stage: Stage, watch: Watch, by_pip: Fetch,
    before: MlosError | None,
) -> Path:  # fmt: skip
    folder = stage.scratch / "pip" / archive.name
    folder.mkdir(parents=True)
    try:
        path = by_pip(requirement, folder, lambda done, total: watch("download", done, total))
    except (Unavailable, PermissionDenied) as error:
        raise before or error from error
    check_digest(path, archive.sha256, requirement)
    return path


def file_name(url: str) -> str:
    """The name of the archive that a URL leads to."""
    return PurePosixPath(unquote(urlsplit(url).path)).name or "archive"
