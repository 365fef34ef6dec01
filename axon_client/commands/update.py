# SPDX-License-Identifier: BUSL-1.1
"""Newer versions: `axon outdated`, `axon update`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from axon_client import render
from axon_client.commands.options import installed_names, json_option
from axon_client.commands.project import project_option
from mlos_core.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from axon_client.models import InstalledModel
    from axon_client.outlook import Outlook
    from axon_client.progress import Progress
    from axon_client.project.settings import Project
    from axon_client.register import Swapped
    from axon_client.store import Store

OUTDATED = 1
"""Exit code of `outdated --exit-code` where there is something newer."""

installed_option = click.option(
    "--installed", is_flag=True, help="What is installed, even where there is a project."
)


@click.command()
@click.option("--all", "everything", is_flag=True, help="Also what is up to date.")
@click.option("--exit-code", is_flag=True, help=f"End with {OUTDATED} if anything is outdated.")
@installed_option
@project_option
@json_option
def outdated(
    everything: bool, exit_code: bool, installed: bool, folder: Path | None, as_json: bool
) -> None:
    """Show of which models there are newer versions: the project's, or the installed ones.

    "wanted" is what `axon update` takes, "latest" what the source gives without a wish.
    """
    from axon_client.store import Store

    project, store = _project(folder, installed), Store()
    found = _outlooks(project, store)
    shown = [one for one in found if everything or one.outdated or one.problem]
    if as_json:
        render.show_json([one.as_dict() for one in shown])
    elif shown:
        rows = [(one.package, one.current, one.wanted, one.latest) for one in shown]
        render.show_table(("package", "current", "wanted", "latest"), rows)
    else:
        render.show("everything is up to date")
    problems = [one.problem for one in found if one.problem]
    for problem in problems if not as_json else ():
        render.warn(problem.message)
    if problems:
        click.get_current_context().exit(problems[0].exit_code)
    if exit_code and any(one.outdated for one in found):
        click.get_current_context().exit(OUTDATED)


def _project(folder: Path | None, installed: bool) -> Project | None:
    from axon_client.project import settings

    if installed or (folder is None and settings.find() is None):
        return None
    return settings.require(folder)


def _outlooks(project: Project | None, store: Store) -> list[Outlook]:
    if project:
        from axon_client.project import work

        return work.outlooks(project, store)
    from axon_client import updating

    return [updating.outlook(spec, store) for spec in updating.updatable(store)]


@click.command()
@click.argument("specs", metavar="[SPEC]...", nargs=-1, shell_complete=installed_names)
@click.option("--latest", is_flag=True, help="Also what is not compatible with the version here.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--no-swap", is_flag=True, help="Leave what a running daemon serves as it is.")
@click.option("--socket", help="The daemon's socket.", type=click.Path())
@installed_option
@project_option
@json_option
def update(
    specs: Sequence[str],
    latest: bool,
    dry_run: bool,
    no_swap: bool,
    socket: str | None,
    installed: bool,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Take newer versions: of the project's models within their ranges, or of installed ones.

    In a project the lock is updated and synced; elsewhere a model goes up to the highest
    version that is compatible with the installed one (^), or within SPEC's own range. Old
    versions stay installed. What a running daemon serves is swapped live.
    """
    from axon_client.store import Store

    project, store = _project(folder, installed), Store()
    with render.progress_bars(not as_json) as progress:
        if project:
            _refuse_ranges(specs, latest)
            models, lines = _update_project(project, store, specs, dry_run, progress)
        else:
            models, lines = _update_installed(store, specs, latest, dry_run, progress)
    swaps = [] if no_swap or dry_run else swap_served(models, socket)
    if as_json:
        render.show_json(
            {"updated": lines, "swapped": [one.as_dict() for one in swaps], "dry_run": dry_run}
        )
        return
    if not lines:
        render.show("nothing newer fits; 'axon outdated' shows what else there is")
    from axon_client.register import describe_swaps

    render.show(*(_line(one) for one in lines), *describe_swaps(swaps))


def _line(one: dict[str, Any]) -> str:
    return f"{one['package']}: {one['before'] or 'new'} -> {one['after'] or 'gone'}"


def _refuse_ranges(specs: Sequence[str], latest: bool) -> None:
    ranged = [spec for spec in specs if "@" in spec]
    if ranged or latest:
        raise InvalidInput(
            f"a project's ranges are in axon.toml, not in {(ranged or ['--latest'])[0]!r}",
            hint=f"change them with: axon install --save {(ranged or ['SPEC'])[0]}",
        )


def _update_project(
    project: Project, store: Store, names: Sequence[str], dry_run: bool, progress: Progress
) -> tuple[list[InstalledModel], list[dict[str, Any]]]:
    from axon_client.project import work

    loose = work.titles_of(project, names) if names else None
    _, changes = work.relock(project, store, loose=loose, dry_run=dry_run, progress=progress)
    lines = [change.as_dict() for change in changes]
    if dry_run:
        return [], lines
    done, _ = work.sync(project, store, progress=progress)
    moved = {change.name for change in changes} | (loose or set())
    return [one.model for one in done if one.package.name in moved], lines


def _update_installed(
    store: Store, texts: Sequence[str], latest: bool, dry_run: bool, progress: Progress
) -> tuple[list[InstalledModel], list[dict[str, Any]]]:
    from axon_client import updating

    wanted = updating.chosen(texts, store)
    moves, problems = updating.plan(wanted, store, latest=latest)
    if problems and not moves:
        raise problems[0]
    for problem in problems:
        render.warn(problem.message)
    lines = [move.as_dict() for move in moves]
    if dry_run:
        return [], lines
    # What is named is served in its newest version even if only the swap failed the last time.
    moving = {move.before.title for move in moves}
    stay = [
        updating.newest_installed(store, spec)
        for spec in wanted
        if texts and spec.title not in moving
    ]
    return updating.carry_out(moves, store, progress) + stay, lines


def swap_served(models: Sequence[InstalledModel], socket: str | None) -> list[Swapped]:
    """Have the daemon serve these versions in the place of others, if one runs.

    Raises:
        Unavailable: `socket` was named and no daemon answers there.
    """
    from axon_client.register import connect_to, swap

    try:
        return [one for model in models for one in swap(model, lambda: connect_to(socket))]
    except Unavailable:
        if socket:
            raise
        return []


__all__ = ["outdated", "swap_served", "update"]
