# SPDX-License-Identifier: BUSL-1.1
"""One's own blobs over those of the layers, and the lock that guards them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from axon_client.hashing import hash_file
from axon_client.lock import claimed, locked, remove_if_free
from axon_client.progress import Progress
from axon_client.seals import is_intact, is_sealed
from axon_client.store import disk
from axon_client.store.collect import Freed, referred, sweep
from axon_client.store.layers import Layer
from axon_client.store.notes import Leases, Names
from axon_client.store.partial import Partials
from axon_client.store.stage import copy_in
from axon_client.store.waiting import STALLED_S, Wait, traces

if TYPE_CHECKING:
    from axon_client.adapters.base import RemoteFile


class Content:
    """The blobs of a store, and what says which of them are needed.

    Args:
        own: the store that is written to.
        layers: those below it, the nearest first.
        lock_timeout_s: how long another process may hold the lock.
    """

    def __init__(self, own: Layer, layers: Sequence[Layer], lock_timeout_s: float) -> None:
        self.blobs = own.blobs
        self.staging = own.home / "staging"
        self.partials = Partials(own.home / "partial")
        self.leases = Leases(own.home / "leases")
        self.names = Names(own.home / "names")
        self._home, self._models = own.home, own.models
        self._claims = own.home / "claims"
        self._layers = layers
        self._lock_timeout_s = lock_timeout_s

    @contextmanager
    def locked(self, *, shared: bool = False) -> Iterator[None]:
        """Hold the store's lock: shared to link to blobs, alone for everything else."""
        for folder in (self.blobs.folder, self._models, self.staging, self.partials.folder):
            folder.mkdir(parents=True, exist_ok=True)
        with locked(self._home / "lock", self._lock_timeout_s, shared=shared):
            yield

    @contextmanager
    def claimed(self, title: str, progress: Progress) -> Iterator[None]:
        """Be the one who installs the package of that title; see `Store.installing`."""
        self._claims.mkdir(parents=True, exist_ok=True)

        def look() -> object:
            progress("wait", 0, 0)
            return traces((self.staging, self.partials.folder))

        name = hashlib.sha256(title.encode()).hexdigest()
        with claimed(self._claims / name, Wait(title, look, STALLED_S).step):
            yield

    def link(self, digest: str, target: Path, distrust: bool = False) -> bool:
        """Make `target`, in a stage, a link to a blob; False if no store has it intact.

        Args:
            distrust: read the blob to see whether it is intact.
        """
        if self._link_own(digest, target):
            if hash_file(target) == digest if distrust else is_intact(target, digest):
                return True
            self._reject(digest, target)
        return any(self._import(layer.blobs.path(digest), digest, target) for layer in self._layers)

    def _link_own(self, digest: str, target: Path) -> bool:
        if not self.blobs.has(digest):
            return False
        with self.locked(shared=True):
            if not self.blobs.has(digest):
                return False
            disk.link(self.blobs.path(digest), target)
        return True

    def _reject(self, digest: str, link: Path) -> None:
        """Drop a damaged blob, which `link` leads to, unless a sound one took its place."""
        blob = self.blobs.path(digest)
        with self.locked():
            if blob.exists() and blob.samefile(link):
                blob.unlink()
        link.unlink()

    def _import(self, source: Path, digest: str, target: Path) -> bool:
        """Take a lower layer's blob over; False if it has none, or a damaged one."""
        made = target.with_name(f".{secrets.token_hex(8)}")
        try:
            sealed = is_sealed(source.stat(), digest)
            if not (sealed and disk.hard_link(source, made)):
                _, found = copy_in(source, made)
                if found != digest:
                    made.unlink()
                    return False
        except (FileNotFoundError, PermissionError):
            return False
        self.take(made, digest, target)
        return True

    def take(self, source: Path, digest: str, target: Path) -> None:
        """Move a synced file of that digest into the store, and link to it at `target`."""
        if not self.blobs.has(digest):
            self._share(source, digest)
        self._add(source, digest, target)

    def _add(self, source: Path, digest: str, target: Path, *, lease: bool = False) -> None:
        """Move a file to the blobs, and link to it.

        Alone: of two that bring the same, one would put its file in the place of the blob
        that the other links to, whose link would then keep nothing from being deleted.
        """
        is_intact(self.blobs.path(digest), digest)  # reads what has no seal while nobody waits
        with self.locked():
            if lease:
                self.leases.take(digest)
            disk.link(self.blobs.take(source, digest), target)

    def _share(self, source: Path, digest: str) -> None:
        """Put a hard link to a layer's blob in the place of a file with the same bytes."""
        for layer in self._layers:
            blob = layer.blobs.path(digest)
            made = source.with_name(f".{secrets.token_hex(8)}")
            with suppress(FileNotFoundError, PermissionError):
                if is_sealed(blob.stat(), digest) and disk.hard_link(blob, made):
                    made.replace(source)
                    return

    def take_download(self, partial: Path, file: RemoteFile, digest: str, target: Path) -> None:
        """As `take`, for what was downloaded: if the installation is killed, it is kept."""
        disk.sync_file(partial)
        self._add(partial, digest, target, lease=True)
        if file.git_sha1:
            self.names.learn(file.git_sha1, digest)

    def release(self, digests: set[str]) -> None:
        """Delete those of the blobs that nothing needs any more."""
        loose = [blob for blob in map(self.blobs.path, digests) if _is_loose(blob)]
        if loose:
            with self.locked():
                self.sweep({blob.name for blob in loose})

    def sweep(
        self, candidates: set[str], spared: set[str] | None = None, *, dry_run: bool = False
    ) -> Freed:
        """Delete those of the candidates that nothing needs. Hold the lock alone.

        Args:
            spared: needed as well; what is leased if left out.
        """
        spared = self.leases.current() if spared is None else spared
        needed = spared | referred(self._models, self.staging)
        return sweep(self.blobs, candidates, needed, dry_run=dry_run)

    def forget_all_but(self, leased: set[str]) -> None:
        """Drop all other leases, claims of the dead, and what is noted of blobs that are gone."""
        for path in self._claims.iterdir() if self._claims.is_dir() else ():
            remove_if_free(path)
        there = set(self.blobs.names())
        self.leases.keep(leased & there)
        self.names.keep(there)


def _is_loose(blob: Path) -> bool:
    """Whether a blob may be one that nothing needs."""
    try:
        return blob.stat().st_nlink == 1
    except FileNotFoundError:
        return False
