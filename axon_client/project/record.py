# SPDX-License-Identifier: BUSL-1.1
"""What each project's syncs brought into a store, so that pruning takes nobody else's models.

HOME/projects/<sha256 of the project's path>.json
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from axon_client import lock
from axon_client.project.locked import write
from axon_client.project.syncing import Synced
from axon_client.spec import PackageSpec, parse
from axon_client.store import Store
from mlos_core.errors import MlosError

FOLDER: Final = "projects"
LOCK: Final = "lock"
LOCK_TIMEOUT_S: Final = 60.0


class Record(msgspec.Struct, frozen=True):
    """One project.

    Attributes:
        root: its folder.
        uses: the exact packages of its lock.
        brought: those that its syncs installed, locked or not any more.
    """

    root: str
    uses: list[str] = []
    brought: list[str] = []


def _path(home: Path, root: Path) -> Path:
    name = hashlib.sha256(str(root).encode(errors="surrogateescape")).hexdigest()
    return home / FOLDER / f"{name}.json"


def _read(path: Path) -> Record | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError):
        return None


def remember(home: Path, root: Path, done: Sequence[Synced]) -> None:
    """Note what a sync did; a store that may only be read keeps no notes, nor needs any."""
    path = _path(home, root)
    fresh = {str(one.package.package) for one in done if one.fresh}
    uses = sorted(str(one.package.package) for one in done)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock.locked(path.parent / LOCK, LOCK_TIMEOUT_S):
            before = _read(path) or Record(str(root))
            brought = sorted(fresh.union(before.brought))
            write(path, msgspec.json.encode(Record(str(root), uses, brought)))
    except OSError:
        if fresh:
            raise


def superfluous(store: Store, root: Path) -> list[PackageSpec]:
    """What this project's syncs installed and no project uses any more, by name."""
    mine = _read(_path(store.home, root))
    if mine is None:
        return []
    used = {name for one in _living(store.home) for name in one.uses}
    specs = [_spec(name) for name in mine.brought if name not in used]
    return [spec for spec in specs if spec is not None]


def _living(home: Path) -> Iterable[Record]:
    for path in sorted((home / FOLDER).glob("*.json")):
        found = _read(path)
        if found and Path(found.root).is_dir():
            yield found


def _spec(name: str) -> PackageSpec | None:
    try:
        spec = parse(name)
    except MlosError:
        return None
    return spec if isinstance(spec, PackageSpec) else None


def forget(store: Store, root: Path, removed: Iterable[PackageSpec]) -> None:
    """Note that packages have been uninstalled."""
    path = _path(store.home, root)
    gone = {str(spec) for spec in removed}
    if not gone:
        return
    with lock.locked(path.parent / LOCK, LOCK_TIMEOUT_S):
        mine = _read(path)
        if mine:
            brought = [name for name in mine.brought if name not in gone]
            write(path, msgspec.json.encode(msgspec.structs.replace(mine, brought=brought)))
