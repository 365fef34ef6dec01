# SPDX-License-Identifier: BUSL-1.1
"""The private folder that a package is put together in before it is committed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING

from axon_client.errors import IntegrityError
from axon_client.hashing import copy_durably, git_name, hash_file, ignore
from axon_client.manifest import ModelFile, path_problem
from axon_client.progress import Progress, silent
from axon_client.store import disk
from axon_client.store.blobs import check_digest
from axon_client.store.partial import STATE, key_of
from mlos_core.errors import InvalidInput

if TYPE_CHECKING:
    from axon_client.adapters.base import RemoteFile
    from axon_client.store.content import Content

MOST = 1 << 62


class Stage:
    """A private folder in the store. An adapter puts the package's files under `files`.

    Several threads may use one at the same time.

    Attributes:
        path: the folder.
        distrust: hash what is taken from the store, because it may be damaged.
        allow_pickle: whether the user wants files that run code when they are opened.
        known: the files that came by `obtain` and `adopt`, by their path in the package;
            nobody needs to hash them again.
        borrowed: the digests of what `fetch` brought, which is no part of the package.
    """

    def __init__(
        self, path: Path, content: Content, *, distrust: bool = False, allow_pickle: bool = False
    ) -> None:
        self.path = path
        self.distrust = distrust
        self.allow_pickle = allow_pickle
        self.known: dict[str, ModelFile] = {}
        self.borrowed: set[str] = set()
        self._content = content

    @property
    def files(self) -> Path:
        """What will be the model's folder."""
        return self.path / "files"

    @property
    def scratch(self) -> Path:
        """For what is needed on the way; thrown away."""
        return self.path / "scratch"

    @property
    def digests(self) -> set[str]:
        """The blobs that it links to."""
        return {file.sha256 for file in self.known.values()} | self.borrowed

    def obtain(self, file: RemoteFile, progress: Progress = silent) -> ModelFile:
        """Make a file of the source a part of the package.

        It comes from the store if its content is there, else over the network: resumed where
        an earlier attempt stopped, by one process at a time, and verified.

        Raises:
            IntegrityError: what came is not what the source promised.
            Unavailable: it cannot be fetched now.
            DeadlineExceeded: another process has it in hand and does not get on.
        """
        target = self._room(self.files, file.path)
        digest = self._bring(file, target, progress)
        made = ModelFile(file.path, target.stat().st_size, digest)
        self.known[file.path] = made
        return made

    def fetch(self, file: RemoteFile, progress: Progress = silent) -> Path:
        """Bring a file that the package is made from, such as an archive; as `obtain`.

        Returns:
            Where it can be read, below `scratch`. It may not be changed.
        """
        target = self._room(self.scratch, file.path)
        self.borrowed.add(self._bring(file, target, progress))
        return target

    def adopt(
        self,
        path: str,
        source: Path,
        sha256: str = "",
        advance: Callable[[int], None] = ignore,
    ) -> ModelFile:
        """Make a file of this machine a part of the package, as `path`.

        A file in the stage is moved; any other is cloned or copied, never linked: its owner
        may change it.

        Args:
            sha256: its digest, if whoever calls has just computed it.
            advance: told how many bytes more have been read.

        Raises:
            IntegrityError: it has another digest.
        """
        target = self._room(self.files, path)
        if not source.is_file():
            raise InvalidInput(f"{source} is missing or not a regular file")
        if source.is_relative_to(self.path):
            own, digest = source, sha256 or hash_file(source, advance)
            disk.sync_file(own)
        else:
            own, digest = copy_in(source, self._free_name(), advance)
        check_same(str(source), digest, sha256)
        self._content.take(own, digest, target)
        made = ModelFile(path, target.stat().st_size, digest)
        self.known[path] = made
        return made

    def replace(self, file: ModelFile) -> None:
        """Make a blob of a file that was written into `files` and has that digest.

        Raises:
            IntegrityError: it is a link, and its file may change.
        """
        path = self.files / file.path
        if path.is_symlink():
            raise IntegrityError(f"{file.path} is a link out of the package")
        disk.sync_file(path)
        self._content.take(path, file.sha256, path)
        self.known[file.path] = file

    def _bring(self, file: RemoteFile, target: Path, progress: Progress) -> str:
        digest = self._link_known(file, target)
        if digest:
            return digest
        partials, key = self._content.partials, key_of(file)
        with partials.claim(key, progress, file.size) as partial:
            digest = self._link_known(file, target)  # whoever was waited for has brought it
            if not digest:
                digest = finished(partial, file) or download(partial, file, progress)
                self._content.take_download(partial, file, digest, target)
            partials.forget(key)
        return digest

    def _link_known(self, file: RemoteFile, target: Path) -> str:
        """Link to a blob with the file's content if there is one; gives its digest."""
        digest = file.sha256 or self._content.names.digest_of(file.git_sha1)
        if not digest or not self._content.link(check_digest(digest), target, self.distrust):
            return ""
        size = target.stat().st_size
        if file.size not in (-1, size):
            raise IntegrityError(
                f"{file.path} is said to have {file.size} bytes, but what has its digest has {size}"
            )
        return digest

    def _room(self, folder: Path, path: str) -> Path:
        problem = path_problem(path)
        if problem:
            raise IntegrityError(f"{path!r} {problem}", hint="no honest package has such a file")
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(target):
            raise InvalidInput(f"{path} comes twice")
        return target

    def _free_name(self) -> Path:
        return self.path / f"copy-{secrets.token_hex(8)}"


def check_same(what: str, found: str, stated: str) -> None:
    """Compare two digests; none stated is right.

    Raises:
        IntegrityError: they differ.
    """
    if stated and found != stated:
        raise IntegrityError(f"{what} has sha256 {found}, not {stated}")


def copy_in(
    source: Path, target: Path, advance: Callable[[int], None] = ignore
) -> tuple[Path, str]:
    """Clone or copy a file to `target`, durably; gives that and the digest of what came.

    A clone is hashed afterwards: the original may change meanwhile, the clone does not.
    """
    with source.open("rb") as file:
        if cloned(file, target):
            return target, hash_file(target, advance)
        _, digest = copy_durably(file, target, MOST, advance)
    return target, digest


def cloned(source: IO[bytes], target: Path) -> bool:
    """Whether `target` could be made to share the blocks of an open file."""
    with target.open("xb") as out:
        if disk.clone(source, out):
            disk.sync(out)
            return True
    target.unlink()
    return False


def finished(partial: Path, file: RemoteFile) -> str:
    """The digest of a download whose process died between its end and the store; else empty.

    The downloader's notes end with the download, so what lies there is hashed.
    """
    if not (file.sha256 or file.git_sha1) or partial.with_name(partial.name + STATE).exists():
        return ""
    if not partial.is_file() or file.size not in (-1, partial.stat().st_size):
        return ""
    digest = hash_file(partial)
    if file.sha256:
        return digest if digest == file.sha256 else ""
    return digest if git_name(partial) == file.git_sha1 else ""


def download(target: Path, file: RemoteFile, progress: Progress) -> str:
    """Fetch a file to `target`, going on where an earlier attempt stopped; its digest."""
    from axon_client import net  # only who fetches needs it

    digest = check_digest(net.download(target, file, progress).sha256)
    check_same(file.path, digest, file.sha256)
    return digest
