# SPDX-License-Identifier: BUSL-1.1
"""The staging folders: one for each installation under way, and what dead ones left.

The lock on a folder's `.owner` file says that its process lives.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from axon_client.lock import is_claimed, try_lock
from axon_client.store import disk, tree
from axon_client.store.content import Content
from axon_client.store.partial import OLD_S
from axon_client.store.stage import Stage

_OWNER = ".owner"


class Staging:
    """The staging folders of a store whose models are in the folder `models`."""

    def __init__(self, content: Content, models: Path) -> None:
        self._content = content
        self._models = models
        self._folder = content.staging

    @contextmanager
    def open(self, *, distrust: bool, allow_pickle: bool) -> Iterator[Stage]:
        """A fresh folder, gone at the end of the block; see `Stage`."""
        with self._content.locked():
            self._clear()
            path = self._folder / secrets.token_hex(8)
            owner = _owner_file(path).open("xb")
            try_lock(owner)
        with owner:
            stage = Stage(path, self._content, distrust=distrust, allow_pickle=allow_pickle)
            try:
                stage.files.mkdir(parents=True)
                stage.scratch.mkdir()
                yield stage
            finally:
                disk.remove_tree(path)
                _owner_file(path).unlink(missing_ok=True)
                self._content.release(stage.digests)

    def count(self) -> int:
        """How many there are, dead ones as well."""
        return len(self._names())

    def _names(self) -> set[str]:
        if not self._folder.is_dir():
            return set()
        return {path.name.removesuffix(_OWNER) for path in self._folder.iterdir()}

    def dead(self) -> list[Path]:
        """The folders whose owners are dead. Call with the lock held alone, as all below."""
        paths = [self._folder / name for name in sorted(self._names())]
        return [path for path in paths if not is_claimed(_owner_file(path))]

    def remove(self, stages: list[Path]) -> None:
        """Delete such folders; a replacement that they were in the middle of is undone."""
        for stage in stages:
            tree.put_back(stage, self._models)
            disk.remove_tree(stage)
            _owner_file(stage).unlink(missing_ok=True)

    def _clear(self) -> None:
        """Remove what killed installations left, and downloads that nobody goes on with."""
        dead = self.dead()
        self.remove(dead)
        if dead:
            self._content.sweep(set(self._content.blobs.names()))
        self._content.partials.expire(OLD_S)


def _owner_file(stage: Path) -> Path:
    return stage.with_name(stage.name + _OWNER)
