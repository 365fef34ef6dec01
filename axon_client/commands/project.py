# SPDX-License-Identifier: BUSL-1.1
"""Projects: `axon init`, `axon lock`, `axon sync`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from axon_client import render
from axon_client.commands.options import json_option

if TYPE_CHECKING:
    from axon_client.models import InstalledModel
    from axon_client.project.settings import Project
    from axon_client.project.work import Change
    from axon_client.spec import PackageSpec, Spec
    from axon_client.store import Store

F = TypeVar("F", bound=Callable[..., Any])

offline_option = click.option(
    "--offline", is_flag=True, help="Ask nobody; what is installed has to do."
)


def project_option(command: F) -> F:
    """Adds `--project FOLDER`."""
    return click.option(
        "--project",
        "folder",
        metavar="FOLDER",
        type=click.Path(path_type=Path, file_okay=False),
        help="The project; by default the one here or in a folder above.",
    )(command)


def go_offline(offline: bool) -> None:
    """Keep this process, and all it calls, from the network."""
    if offline:
        os.environ["AXON_OFFLINE"] = "1"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=".")
@click.option("--name", help="What it is called: [namespace/]name; the folder's name if left out.")
@click.option("--version", "version", default="0.1.0", show_default=True)
@click.option(
    "--model", is_flag=True, help="Make a package's axon.yaml, not a project's axon.toml."
)
@json_option
def init(folder: Path, name: str | None, version: str, model: bool, as_json: bool) -> None:
    """Begin a project (axon.toml), or with --model a package of one's own (axon.yaml)."""
    from axon_client.project import editing
    from axon_client.spec import slug

    title = name or slug(folder.resolve().name, "give one with --name")
    namespace, _, own = title.partition("/")
    if not own:
        namespace, own = "", namespace
    path = editing.init(folder, own, namespace or "local", version, model=model)
    if as_json:
        render.show_json({"file": str(path), "package": f"{namespace or 'local'}/{own}"})
        return
    render.show(f"made {path}")
    if model:
        render.show(f"install it with: axon install {_as_path(folder)}")
    else:
        render.show("add models with: axon install --save pypi/magika")


def _as_path(folder: Path) -> str:
    return str(folder) if folder.is_absolute() else f"./{folder}".removesuffix("/.")


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail if the lock would change.")
@offline_option
@project_option
@json_option
def lock(check: bool, offline: bool, folder: Path | None, as_json: bool) -> None:
    """Choose exact versions for axon.toml, and write them with every digest to axon.lock.

    What is locked stays as long as axon.toml allows it; newer versions: axon update.
    """
    from axon_client.project import settings, work
    from axon_client.store import Store

    go_offline(offline)
    project = settings.require(folder)
    with render.progress_bars(not as_json) as progress:
        made, found = work.relock(project, Store(), offline=offline, check=check, progress=progress)
    if as_json:
        changes = [change.as_dict() for change in found]
        render.show_json({"packages": len(made.packages), "changes": changes})
    else:
        show_changes(found)
        render.show(f"{_count(len(made.packages))} locked")


def show_changes(changes: Sequence[Change]) -> None:
    """A line for each package of a lock that changed."""
    render.show(*map(str, changes))


@click.command()
@click.option("--frozen", is_flag=True, help="Fail if axon.lock does not fit; write nothing.")
@offline_option
@click.option("--prune", is_flag=True, help="Uninstall what earlier syncs brought in vain.")
@project_option
@json_option
def sync(frozen: bool, offline: bool, prune: bool, folder: Path | None, as_json: bool) -> None:
    """Install exactly what axon.lock lists: the same bytes on every machine.

    Where axon.toml changed, the lock is brought up to date first, unless it is frozen.
    """
    from axon_client.project import settings, work
    from axon_client.store import Store

    go_offline(offline)
    project, store = settings.require(folder), Store()
    with render.progress_bars(not as_json) as progress:
        done, changes = work.sync(project, store, frozen=frozen, offline=offline, progress=progress)
    removed = _prune(project, store) if prune else []
    fresh = [one for one in done if one.fresh]
    if as_json:
        render.show_json(
            {
                "packages": [_row(one.model, one.fresh) for one in done],
                "changes": [change.as_dict() for change in changes],
                "removed": [str(spec) for spec in removed],
            }
        )
        return
    show_changes(changes)
    render.show(*(f"installed {one.model.spec}" for one in fresh))
    for note in (note for one in fresh for note in one.notes):
        render.warn(note)
    render.show(*(f"removed {spec}" for spec in removed))
    render.show(f"{_count(len(done))} as {project.root / 'axon.lock'} says")


def _count(number: int) -> str:
    return "1 package is" if number == 1 else f"{number} packages are"


def _row(model: InstalledModel, fresh: bool) -> dict[str, Any]:
    return {"package": str(model.spec), "path": str(model.path), "fresh": fresh}


def _prune(project: Project, store: Store) -> list[PackageSpec]:
    from axon_client.project import record

    removed = []
    for spec in record.superfluous(store, project.root):
        model = store.at(spec)
        if model and store.layer_of(model) == store.home:
            store.uninstall(model)
            removed.append(spec)
    record.forget(store, project.root, removed)
    return removed


def save(
    root: Path,
    installed: Sequence[tuple[Spec, InstalledModel]],
    include: Sequence[str] = (),
    pickles: bool = False,
) -> None:
    """What `axon install --save` does last: want what was installed, and lock it.

    `axon.toml` and `axon.lock` change both or not at all.

    Args:
        installed: what was asked for, and the model it became.

    Raises:
        InvalidInput: it was given another name, by which nobody could find it again, or it
            does not go with what else is wanted.
    """
    from axon_client.project import editing, locked, settings, work
    from axon_client.store import Store

    wishes = {
        model.spec.title: editing.wish_for(root, asked, model, list(include), pickles)
        for asked, model in installed
    }
    path = root / settings.FILE_NAME
    before = path.read_bytes()
    editing.add(root, wishes)
    try:
        work.relock(settings.load(root), Store(), prefer=[model.spec for _, model in installed])
    except BaseException:
        locked.write(path, before)  # what cannot be locked is not wanted
        raise
