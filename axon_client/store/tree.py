# SPDX-License-Identifier: BUSL-1.1
"""A model's folder: made beside the others, and put in its place at one instant.

Where the file system cannot exchange two folders, the old one steps aside first. A process
that is killed between the two steps leaves a note in its stage of where the old one was, and
whoever removes that stage puts it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from axon_client import manifest as manifests
from axon_client.files import sync_folder
from axon_client.manifest import Manifest
from axon_client.store import disk
from axon_client.store.blobs import Blobs

_TREE, _REPLACED, _PLACE = "tree", "replaced", "place"


def build(stage: Path, manifest: Manifest, blobs: Blobs, extras: Mapping[str, bytes]) -> Path:
    """Make a model's folder in the stage, from blobs that the stage already links to."""
    tree = stage / _TREE
    tree.mkdir()
    for file in manifest.spec.format.files:
        at = tree / file.path
        at.parent.mkdir(parents=True, exist_ok=True)
        disk.link(blobs.path(file.sha256), at)
    for name, data in {**extras, manifests.FILE_NAME: manifests.encode(manifest)}.items():
        with (tree / name).open("xb") as out:
            out.write(data)
            disk.sync(out)
        (tree / name).chmod(0o444)
    disk.sync_tree(tree)
    return tree


def swap_in(tree: Path, target: Path, models: Path) -> None:
    """Put a folder in its place, and what was there into the stage. Hold the lock alone."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        tree.rename(target)
    elif not disk.exchange(tree, target):
        _step_aside(tree, target, models)
    sync_folder(target.parent)


def _step_aside(tree: Path, target: Path, models: Path) -> None:
    stage = tree.parent
    with (stage / _PLACE).open("x") as note:
        note.write(target.relative_to(models).as_posix())
        note.flush()
    target.rename(stage / _REPLACED)
    tree.rename(target)


def put_back(stage: Path, models: Path) -> None:
    """Undo a replacement that was cut off half-way. Hold the lock alone."""
    with suppress(FileNotFoundError):
        target = models / (stage / _PLACE).read_text()
        if not target.exists():
            (stage / _REPLACED).rename(target)
