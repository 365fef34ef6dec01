# SPDX-License-Identifier: BUSL-1.1
"""`.axon` archives: a tar.gz of manifest.yaml and the files that it lists.

The same package is the same bytes wherever it is packed: files by path, no times, no owners,
and a gzip stream of stored blocks. Weights hardly compress, compressors differ between
builds, and stored blocks let the size be told before a byte has been read, so that a server
can send an archive that it never wrote.

    gzip header, stored blocks of at most 65535 bytes:
        manifest.yaml, then each file by path, as ustar entries (PAX where a path is long)
        two blocks of zeros
    CRC-32 and size
"""

from __future__ import annotations

import shutil
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import IO, Final

from axon_client import manifest as manifests
from axon_client.archive import extract_tar
from axon_client.errors import IntegrityError
from axon_client.files import replacing
from axon_client.manifest import Manifest, ModelFile
from axon_client.progress import Progress, silent
from axon_client.spec import PackageSpec
from axon_client.unpacking import Limits
from mlos_core.errors import AlreadyExists, InvalidInput, NotFound

SUFFIX: Final = ".axon"
_HEADER: Final = bytes([0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255])
_STORED: Final = 0xFFFF
_CHUNK: Final = 1 << 20
Opener = Callable[[ModelFile], IO[bytes]]


def file_name(package: PackageSpec) -> str:
    """What a package's archive is called; a `/` in its name is written `--`."""
    name = package.name.replace("/", "--")
    return f"{package.namespace}-{name}-{package.version}{SUFFIX}"


def packed_size(manifest: bytes, files: Sequence[ModelFile]) -> int:
    """The size in bytes of the archive that `packed` gives."""
    entries = [ModelFile(manifests.FILE_NAME, len(manifest), ""), *files]
    tar = sum(len(_entry_header(e)) + e.size + -e.size % 512 for e in entries) + 1024
    blocks = max(1, -(-tar // _STORED))
    return len(_HEADER) + 5 * blocks + tar + 8


def packed(manifest: bytes, files: Sequence[ModelFile], opener: Opener) -> Iterator[bytes]:
    """The archive, in pieces of about 64 KiB.

    Args:
        manifest: the exact bytes that become manifest.yaml.
        files: those of the manifest.
        opener: gives a file's bytes.

    Raises:
        IntegrityError: a file has another size than the manifest says.
    """
    return _gzipped(_tarred(manifest, sorted(files, key=lambda file: file.path), opener))


def _tarred(manifest: bytes, files: Iterable[ModelFile], opener: Opener) -> Iterator[bytes]:
    first = ModelFile(manifests.FILE_NAME, len(manifest), "")
    yield _entry_header(first) + manifest + bytes(-len(manifest) % 512)
    for file in files:
        yield _entry_header(file)
        left = file.size
        with opener(file) as source:
            while block := source.read(min(_CHUNK, left + 1)):
                left -= len(block)
                if left < 0:
                    break
                yield block
        if left:
            raise IntegrityError(f"{file.path} has another size than the manifest says")
        yield bytes(-file.size % 512)
    yield bytes(1024)


def _entry_header(file: ModelFile) -> bytes:
    """A header without time or owner. `size` has its own PAX record beyond 8 GiB."""
    info = tarfile.TarInfo(file.path)
    info.size, info.mode, info.mtime = file.size, 0o644, 0
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _gzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Deflate's stored blocks, all but the last of them full."""
    yield _HEADER
    crc, size, held = 0, 0, bytearray()
    for piece in pieces:
        crc, size = zlib.crc32(piece, crc), size + len(piece)
        held += piece
        full = max(0, len(held) - 1) // _STORED * _STORED
        view = memoryview(held)
        for at in range(0, full, _STORED):
            yield _block_header(_STORED, last=False) + view[at : at + _STORED]
        view.release()
        del held[:full]
    yield _block_header(len(held), last=True) + bytes(held)
    yield struct.pack("<LL", crc, size & 0xFFFFFFFF)


def _block_header(size: int, *, last: bool) -> bytes:
    return struct.pack("<BHH", last, size, size ^ 0xFFFF)


def pack(
    manifest: Manifest, folder: Path, target: Path, progress: Progress = silent
) -> tuple[int, int]:
    """Write the archive of a package whose files lie in `folder`.

    `target` appears whole or not at all.

    Returns:
        The number of files, and the bytes of the archive.

    Raises:
        AlreadyExists: there is a folder of that name.
        NotFound: the folder that it should lie in is not there.
        IntegrityError: a file is not the one that the manifest lists.
    """
    if target.is_dir():
        raise AlreadyExists(f"{target} is a folder", hint="name a file with -o")
    if not target.parent.is_dir():
        raise NotFound(f"there is no folder {target.parent}", hint="make it first")
    data, files = manifests.encode(manifest), manifest.spec.format.files
    total, done = packed_size(data, files), 0
    with replacing(target) as out:
        for piece in packed(data, files, lambda file: (folder / file.path).open("rb")):
            out.write(piece)
            done += len(piece)
            progress(f"pack {target.name}", done, total)
    return len(files) + 1, done


def unpack(
    archive: Path,
    folder: Path,
    progress: Progress = silent,
    limits: Limits = Limits(),  # noqa: B008
) -> Manifest:
    """Unpack an archive into the empty or absent `folder`, which appears whole or not at all.

    Every file is one that the manifest lists and has its digest; a manifest that lists none,
    as the first archives had them, gets those that are there. Beside the files `folder` has
    the archive's own manifest.yaml.

    Raises:
        NotFound: there is no such file.
        AlreadyExists: there is something in `folder`.
        IntegrityError: the archive breaks a rule, or a file is not the one that is listed.
        InvalidInput: it is no package.
    """
    if not archive.is_file():
        raise NotFound(f"there is no file {archive}", hint="name an .axon file")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise AlreadyExists(f"{folder} is not empty", hint="name a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        manifest = _unpack(archive, fresh, progress, limits)
        fresh.chmod(0o755)
        fresh.replace(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return manifest


def _unpack(archive: Path, folder: Path, progress: Progress, limits: Limits) -> Manifest:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(f"unpack {archive.name}", done, 0)

    files = extract_tar(archive, folder, advance, limits)
    if not any(file.path == manifests.FILE_NAME for file in files):
        raise InvalidInput(
            f"{archive.name} has no {manifests.FILE_NAME}: it is no axon package",
            hint="unpack it with tar and install the folder",
        )
    manifest = manifests.load(folder / manifests.FILE_NAME)
    check_files(manifest, [f for f in files if f.path != manifests.FILE_NAME], archive.name)
    return manifest


def check_files(manifest: Manifest, found: Sequence[ModelFile], title: str) -> None:
    """Make sure that `found` is what the manifest lists, if it lists anything.

    Raises:
        IntegrityError: a file is missing, not listed, or another than listed.
    """
    listed = {file.path: file for file in manifest.spec.format.files}
    there = {file.path: file for file in found}
    if not listed:
        return
    for path in sorted(listed.keys() ^ there.keys()):
        lacks = "lacks" if path in listed else "has beside what its manifest lists"
        raise IntegrityError(f"{title} {lacks} {path!r}")
    for path, file in there.items():
        if file != listed[path]:
            raise IntegrityError(
                f"{title}: {path} has {file.size} bytes and sha256 {file.sha256}, its manifest "
                f"says {listed[path].size} and {listed[path].sha256}"
            )
