# SPDX-License-Identifier: BUSL-1.1
"""A package in an archive: `.axon` as `axon pack` writes it, or a folder in a tar or zip file.

An `.axon` archive holds what its manifest lists and nothing else. Any other archive is taken
as the folder that it was made from, so a single folder around everything is looked through.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Final

from axon_client import archive as archives
from axon_client import manifest as manifests
from axon_client import pack
from axon_client.archive import Archive, open_zip
from axon_client.manifest import Manifest, ModelFile
from axon_client.progress import Progress
from axon_client.store import Stage
from mlos_core.errors import InvalidInput

SUFFIXES: Final = (
    pack.SUFFIX, ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip"
)  # fmt: skip
MANIFESTS: Final = ("manifest.yaml", "axon.yaml")
LEFT_OUT: Final = frozenset({"__pycache__", "node_modules", "__MACOSX"})


def is_archive(name: str) -> bool:
    """Whether a file of that name is unpacked; models that are archives inside are not."""
    return name.lower().endswith(SUFFIXES)


def stem(name: str) -> str:
    """An archive's name without its suffixes."""
    found = max((s for s in SUFFIXES if name.lower().endswith(s)), key=len, default="")
    return name[: len(name) - len(found)]


def take(archive: Path, stage: Stage, progress: Progress) -> Manifest | None:
    """Make what is in an archive part of the package, unpacking and hashing in one pass.

    Returns:
        The manifest that lies in it; None if there is none.

    Raises:
        IntegrityError: the archive breaks a rule, or a file is not the one that is listed.
        InvalidInput: it has two manifests, or a wrong one.
    """
    folder = stage.scratch / "unpacked"
    if archive.name.lower().endswith(pack.SUFFIX):
        manifest = pack.unpack(archive, folder, progress)
        for file in manifest.spec.format.files or _walk(folder):
            stage.adopt(file.path, folder / file.path, file.sha256)
        return manifest
    files = {file.path: file for file in _unpack(archive, folder, progress)}
    top = _only_folder(files)
    inside = {path.removeprefix(top): file for path, file in files.items()}
    chosen = _manifest(inside, folder / top)
    listed = [file.path for file in chosen.spec.format.files] if chosen else []
    for path in listed or [path for path in inside if is_part(path)]:
        if path not in inside:
            raise InvalidInput(f"{archive.name} lacks {path}, which its manifest lists")
        stage.adopt(path, folder / inside[path].path, inside[path].sha256)
    return chosen


def is_part(path: str) -> bool:
    """Whether a file of a folder without a manifest belongs to the package.

    What `axon pack` wrote into the folder does not, or the next package would hold this one.
    """
    parts = path.split("/")
    hidden = any(part.startswith(".") or part in LEFT_OUT for part in parts)
    return not hidden and path not in MANIFESTS and not path.lower().endswith(pack.SUFFIX)


def _walk(folder: Path) -> list[ModelFile]:
    """The files of a package whose manifest lists none."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    paths = [path.relative_to(folder).as_posix() for path in found]
    return [ModelFile(path, 0, "") for path in paths if path != manifests.FILE_NAME]


def _unpack(archive: Path, folder: Path, progress: Progress) -> list[ModelFile]:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(f"unpack {archive.name}", done, 0)

    if not archive.name.lower().endswith(".zip"):
        return archives.extract_tar(archive, folder, advance)
    with open_zip(archive) as opened:
        return [_unzip(opened, name, folder, advance) for name in opened.entries]


def _unzip(archive: Archive, name: str, folder: Path, advance: archives.Advance) -> ModelFile:
    size, digest = archive.unpack(name, folder / name, advance)
    return ModelFile(name, size, digest)


def _only_folder(files: dict[str, ModelFile]) -> str:
    """The folder that everything lies in, with a `/`; empty if there is none."""
    tops = {PurePosixPath(path).parts[0] for path in files if is_part(path)}
    top = f"{tops.pop()}/" if len(tops) == 1 else ""
    return top if top and all(path.startswith(top) or not is_part(path) for path in files) else ""


def _manifest(inside: dict[str, ModelFile], folder: Path) -> Manifest | None:
    there = [name for name in MANIFESTS if name in inside]
    if len(there) > 1:
        raise InvalidInput(f"it has both {' and '.join(MANIFESTS)}", hint="keep one of them")
    return manifests.load(folder / there[0]) if there else None
