# SPDX-License-Identifier: BUSL-1.1
"""What the commands do with a project: lock it, sync it, see what is newer."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import msgspec

from axon_client.outlook import Outlook, look
from axon_client.progress import Progress, silent
from axon_client.project import locked, record
from axon_client.project.locked import Lock, Locked
from axon_client.project.locking import Locker, drift
from axon_client.project.settings import FILE_NAME, Project
from axon_client.project.sources import Sources
from axon_client.project.syncing import Synced, Syncer
from axon_client.spec import PackageSpec
from axon_client.store import Store
from mlos_core.errors import InvalidInput, NotFound


class Change(msgspec.Struct, frozen=True):
    """How one package of a lock differs from before; a version is empty where it is not."""

    name: str
    before: str
    after: str

    def __str__(self) -> str:
        if not self.before:
            return f"+ {self.name}@{self.after}"
        if not self.after:
            return f"- {self.name}@{self.before}"
        if self.before == self.after:
            return f"~ {self.name}@{self.after}: other contents"
        return f"~ {self.name}: {self.before} -> {self.after}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return {"package": self.name, "before": self.before, "after": self.after}


def changes(old: Lock | None, new: Lock) -> list[Change]:
    """What is another package, version or content in a new lock, by name."""
    before = {one.name: one for one in old.packages} if old else {}
    after = {one.name: one for one in new.packages}
    return [
        Change(name, _version(before.get(name)), _version(after.get(name)))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def _version(package: Locked | None) -> str:
    return package.version if package else ""


def relock(
    project: Project,
    store: Store,
    *,
    loose: Collection[str] | None = (),
    prefer: Iterable[PackageSpec] = (),
    offline: bool = False,
    check: bool = False,
    dry_run: bool = False,
    progress: Progress = silent,
) -> tuple[Lock, list[Change]]:
    """Bring the lock up to date with `axon.toml`.

    Args:
        loose: what may move within its range besides; None is everything.
        prefer: exact packages to lock where they fit.
        check: write nothing; fail if something would be written.
        dry_run: write nothing; what has to be read to know its files is not.

    Raises:
        InvalidInput: `check` was asked for and the lock is not what it would be.
    """
    old = locked.load(project.root)
    new = Locker(
        project,
        store,
        old,
        loose=loose,
        prefer=prefer,
        offline=offline,
        learn=not dry_run,
        progress=progress,
    ).lock()
    found = changes(old, new)
    if check and (old is None or locked.encode(old) != locked.encode(new)):
        what = _all(map(str, found)) or "it was made for other wishes"
        raise InvalidInput(
            f"{locked.LOCK_NAME} is not up to date: {what}",
            hint="bring it up to date with: axon lock",
        )
    if not (check or dry_run):
        locked.save(project.root, new)
    return new, found


def frozen_lock(project: Project) -> Lock:
    """The lock as it is.

    Raises:
        InvalidInput: it does not fit `axon.toml`; says where.
    """
    lock = locked.load(project.root)
    differences = drift(project, lock)
    if lock is None or differences:
        raise InvalidInput(
            f"{locked.LOCK_NAME} does not fit {FILE_NAME}: {_all(differences)}",
            hint="bring it up to date with: axon lock",
        )
    return lock


def _all(sentences: Any) -> str:
    return "; ".join(sentences)


def sync(
    project: Project,
    store: Store,
    *,
    frozen: bool = False,
    offline: bool = False,
    progress: Progress = silent,
) -> tuple[list[Synced], list[Change]]:
    """Install exactly the lock, after bringing it up to date unless it is `frozen`.

    Raises:
        InvalidInput: the lock is frozen and does not fit `axon.toml`.
        IntegrityError: a source gave other bytes than the locked ones.
    """
    if frozen or not drift(project, locked.load(project.root)):
        lock = frozen_lock(project)
        found: list[Change] = []
    else:
        lock, found = relock(project, store, offline=offline, progress=progress)
    done = Syncer(project, store, progress).sync(lock, offline=offline)
    record.remember(store.home, project.root, done)
    return done, found


def outlooks(project: Project, store: Store) -> list[Outlook]:
    """What there is of each model that the project wants from a source."""
    lock = locked.load(project.root)
    sources = Sources(project, store.home)
    found = []
    for title in project.models:
        spec = project.spec(title)
        if isinstance(spec, PackageSpec):
            package = lock.get(title) if lock else None
            found.append(look(spec, _version(package), sources))
    return found


def titles_of(project: Project, names: Collection[str]) -> set[str]:
    """The wanted or locked packages that names mean; the namespace may be left out.

    Raises:
        NotFound: a name means none.
        InvalidInput: it means several.
    """
    lock = locked.load(project.root)
    known = {*project.models, *(one.name for one in (lock or Lock()).packages)}
    chosen = set()
    for name in names:
        fitting = [title for title in known if name in (title, title.partition("/")[2])]
        if not fitting:
            import difflib

            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "add it: axon install --save " + name
            raise NotFound(f"the project does not want {name}", hint=hint)
        if len(fitting) > 1:
            raise InvalidInput(f"{name} means {' or '.join(sorted(fitting))}", hint="name one")
        chosen.add(fitting[0])
    return chosen
