# SPDX-License-Identifier: BUSL-1.1
"""A model's packed weights: one piece of memory, which may be a file that workers share.

Packed bytes hold no pointers, so a file of them serves every worker of this user that runs the
same build on the same model. The file appears under its name only when it is complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import mmap
import os
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from mlos_core.errors import OutOfMemory
from mlos_core.synapse import native
from mlos_core.synapse.files import F32, ModelFiles, Tensor
from mlos_core.synapse.native import check, ffi, lib

_LOG = logging.getLogger(__name__)
_HEADER: Final = 4096
_HEAD_OF_SOURCE: Final = 1 << 16
_ALIGNMENT: Final = 64
_PART: Final = 16 << 20  # packed at a time: what source and arena take twice

Pack = Callable[["Arena"], None]


class Place(NamedTuple):
    """Where in the arena a tensor lies; `role` is a syn_model_tensor."""

    tensor: Tensor
    role: int
    layer: int
    offset: int
    nbytes: int

    @property
    def is_vector(self) -> bool:
        """It is kept as float32 numbers, not packed."""
        return self.role >= int(lib.SYN_MODEL_MATRICES)


def plan(tensors: Sequence[tuple[Tensor, int, int]]) -> tuple[list[Place], int]:
    """Places for (tensor, role, layer), and how many bytes they take together."""
    places, offset = [], _HEADER
    for tensor, role, layer in tensors:
        if role >= lib.SYN_MODEL_MATRICES:
            nbytes = tensor.columns * 4
        else:
            nbytes = check(lib.syn_packed_bytes(tensor.type, tensor.rows, tensor.columns))
        places.append(Place(tensor, role, layer, offset, nbytes))
        offset += -(-nbytes // _ALIGNMENT) * _ALIGNMENT
    return places, offset


class Arena:
    """The memory itself: `view` over `nbytes` bytes; `shared` if it is a file."""

    def __init__(self, mapping: mmap.mmap, shared: bool) -> None:
        self.view = memoryview(mapping)
        self.nbytes = len(mapping)
        self.shared = shared
        self._mapping = mapping
        self._publisher: threading.Thread | None = None

    def publish(self, descriptor: int, path: Path) -> None:
        """Give the file its name once it is on the disk; the work goes on meanwhile."""
        self._publisher = threading.Thread(
            target=_publish, args=(descriptor, path), name="synapse-cache"
        )
        self._publisher.start()

    def close(self) -> None:
        """Give the memory back; pointers into it must be gone."""
        if self._publisher:
            self._publisher.join()
        self.view.release()
        with contextlib.suppress(BufferError):
            self._mapping.close()


def open_arena(
    files: ModelFiles, places: list[Place], nbytes: int, pool: Any, cache: Path | None
) -> Arena:
    """The packed weights, from `cache` if they are there, else packed now (and kept there).

    Raises:
        OutOfMemory: there is no memory for them.
    """
    if cache is not None:
        try:
            return _cached(files, places, nbytes, pool, cache)
        except OSError as err:
            _LOG.warning("packed weights are not kept in %s: %s", cache, err)
    try:
        mapping = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, ValueError) as err:
        raise OutOfMemory(f"no memory for {nbytes} bytes of weights: {err}") from None
    with contextlib.suppress(OSError):  # a kernel without them
        mapping.madvise(mmap.MADV_HUGEPAGE)
    arena = Arena(mapping, shared=False)
    _pack(arena, places, pool)
    return arena


def _cached(files: ModelFiles, places: list[Place], nbytes: int, pool: Any, cache: Path) -> Arena:
    _check_folder(cache)
    source, digest = _identity(files, places)
    header = f"synapse {digest} {nbytes}\n".encode()
    path = cache / f"{source}-{digest}.syn"
    with contextlib.suppress(FileNotFoundError):
        return _open_cached(path, header, nbytes)
    # Without a name until it is complete: a crash leaves nothing behind.
    descriptor = os.open(cache, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, nbytes)
        arena = Arena(mmap.mmap(descriptor, nbytes), shared=True)
        arena.view[: len(header)] = header
        _pack(arena, places, pool)
    except BaseException:
        os.close(descriptor)
        raise
    arena.publish(descriptor, path)
    return arena


def _check_folder(cache: Path) -> None:
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = cache.stat()
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError("others could write there")


def _identity(files: ModelFiles, places: list[Place]) -> tuple[str, str]:
    """Which files (a hash of their names), and which content by which build."""
    content = hashlib.sha256(native.build_id())
    for path in files.paths:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            head = file.read(_HEAD_OF_SOURCE)
        numbers = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        content.update(repr(numbers).encode() + hashlib.sha256(head).digest())
    for place in places:
        tensor = place.tensor
        shape = (tensor.name, tensor.type, tensor.rows, tensor.columns, place.offset)
        content.update(repr(shape).encode())
    names = "\n".join(str(path.resolve()) for path in files.paths)
    return hashlib.sha256(names.encode()).hexdigest()[:16], content.hexdigest()[:32]


def _open_cached(path: Path, header: bytes, nbytes: int) -> Arena:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid() or not stat.S_ISREG(status.st_mode):
            raise PermissionError(f"{path} belongs to somebody else")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError(f"others could write to {path}")
        if status.st_size != nbytes or os.pread(descriptor, len(header), 0) != header:
            raise OSError(f"{path} is damaged")
        return Arena(mmap.mmap(descriptor, nbytes, prot=mmap.PROT_READ), shared=True)
    finally:
        os.close(descriptor)


def _publish(descriptor: int, path: Path) -> None:
    """Name the complete file; what was kept of earlier versions of the same source goes."""
    try:
        os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            _link(descriptor, path)
        for old in path.parent.glob(path.name.split("-")[0] + "-*.syn"):
            if old != path:
                old.unlink(missing_ok=True)
    except OSError as err:
        _LOG.warning("packed weights are not kept as %s: %s", path, err)
    finally:
        os.close(descriptor)


def _link(descriptor: int, path: Path) -> None:
    """Name an open file. Only with a folder given does Python follow the link in /proc."""
    folder = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.link(str(descriptor), path, src_dir_fd=folder)
    finally:
        os.close(folder)


def _pack(arena: Arena, places: list[Place], pool: Any) -> None:
    """Fill the arena, part by part, and let go of the source's pages after each."""
    for place in places:
        if place.is_vector:
            _copy_vector(arena, place)
    part: list[Place] = []
    for place in places:
        if not place.is_vector:
            part.append(place)
        if sum(p.nbytes for p in part) > _PART or place is places[-1]:
            _pack_matrices(arena, part, pool)
            _release_pages(p.tensor for p in part)
            part = []


def _pack_matrices(arena: Arena, places: list[Place], pool: Any) -> None:
    base = ffi.cast("char *", ffi.from_buffer(arena.view))
    jobs = ffi.new("syn_pack_job[]", max(len(places), 1))
    for job, place in zip(jobs, places, strict=False):
        tensor = place.tensor
        job.type, job.rows, job.columns = tensor.type, tensor.rows, tensor.columns
        job.data, job.bytes = ffi.from_buffer(tensor.data), tensor.data.nbytes
        job.packed = base + place.offset
    check(lib.syn_pack_all(pool, jobs, len(places)))


def _copy_vector(arena: Arena, place: Place) -> None:
    data = place.tensor.data.cast("B")
    if place.tensor.type != F32 or data.nbytes < place.nbytes:
        raise ValueError(f"{place.tensor.name} is no float32 vector")
    arena.view[place.offset : place.offset + place.nbytes] = data[: place.nbytes]


def _release_pages(tensors: Any) -> None:
    """The source's pages are not needed again; they stay in the page cache."""
    mappings = {id(obj): obj for t in tensors if isinstance(obj := t.data.obj, mmap.mmap)}
    for mapping in mappings.values():
        mapping.madvise(mmap.MADV_DONTNEED)
