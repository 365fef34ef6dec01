# SPDX-License-Identifier: BUSL-1.1
"""`axon pack` and `axon unpack`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from axon_client import render
from axon_client.commands.options import json_option
from mlos_core.errors import InvalidInput

if TYPE_CHECKING:
    from axon_client.manifest import Manifest
    from axon_client.progress import Progress


@click.command()
@click.argument("what", metavar="[FOLDER|SPEC]", default=".")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="The archive to write.")
@json_option
def pack(what: str, output: Path | None, as_json: bool) -> None:
    """Write a package into one .axon file: the same bytes wherever it is done.

    A folder gets its manifest from manifest.yaml or axon.yaml, or from the models in it; what
    is no folder is the name of an installed model.
    """
    from axon_client.pack import file_name
    from axon_client.pack import pack as pack_files
    from axon_client.store import spec_of

    with render.progress_bars(not as_json) as progress, _source(what, progress) as source:
        manifest, folder = source
        target = output or Path(file_name(spec_of(manifest)))
        files, size = pack_files(manifest, folder, target, progress)
    if as_json:
        about = {"package": manifest.title, "file": str(target)}
        render.show_json(about | {"files": files, "size": size})
    else:
        count = f"{files} files, {render.size(size)}"
        render.show(f"packed {manifest.title} into {target}: {count}")


@contextmanager
def _source(what: str, progress: Progress) -> Iterator[tuple[Manifest, Path]]:
    """A manifest, and the folder that has its files while the block lasts."""
    from axon_client.catalog import find_newest
    from axon_client.store import Store

    store = Store()
    if not Path(what).expanduser().is_dir():
        model = find_newest(what, store.installed())
        yield model.manifest, model.path
        return
    from axon_client.adapters.local import LocalAdapter
    from axon_client.spec import PathSpec

    spec, adapter = PathSpec(Path(what).expanduser()), LocalAdapter()
    with store.stage() as stage:
        yield adapter.fetch(spec, adapter.resolve(spec), stage, progress), stage.files


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@json_option
def unpack(file: Path, folder: Path | None, as_json: bool) -> None:
    """Unpack an .axon file into a new folder, checking every file against its manifest."""
    from axon_client.pack import SUFFIX
    from axon_client.pack import unpack as unpack_files

    target = folder or Path(file.name.removesuffix(SUFFIX).removesuffix(".tar.gz"))
    if file.is_file() and target.name == file.name:
        raise InvalidInput(
            f"{file.name} is not called like an .axon archive", hint="name a folder to unpack it to"
        )
    with render.progress_bars(not as_json) as progress:
        manifest = unpack_files(file, target, progress)
    if as_json:
        render.show_json({"package": manifest.title, "folder": str(target)})
    else:
        render.show(f"unpacked {manifest.title} into {target}")
