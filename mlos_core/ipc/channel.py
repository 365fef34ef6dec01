# SPDX-License-Identifier: BUSL-1.1
"""Channels as the daemon sees them: making segments and closing them; and their mapping."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import weakref
from pathlib import Path
from typing import Any, Final

import msgspec
import posix_ipc

from mlos_core.errors import ChannelBroken, InvalidInput, OutOfMemory
from mlos_core.ipc.messages import Problem
from mlos_core.ipc.native import check, ffi, last_error, lib

EVENT_BYTES: Final = 16384
"""Size of a slot's ring of streamed events."""

SMALL_BYTES: Final = 1024
HEADER_BYTES: Final = 1024
MAX_HEADER: Final = 1 << 20  # of a request; longer ones are not read
REASON_BYTES: Final = 512


def create(
    slots: int, request_bytes: int, reply_bytes: int, *, event_bytes: int = EVENT_BYTES
) -> int:
    """Make a formatted segment that has no name any more; the caller owns the descriptor.

    All its memory is reserved, so that nobody faults on it later.

    Raises:
        InvalidInput: the geometry is impossible.
        OutOfMemory: `/dev/shm` has no room for it.
    """
    geometry = ffi.new(
        "mlos_geometry *",
        {
            "slots": slots,
            "event_bytes": event_bytes,
            "request_bytes": request_bytes,
            "reply_bytes": reply_bytes,
        },
    )
    size = check(lib.mlos_segment_size(geometry))
    fd = _reserve(size)
    try:
        check(lib.mlos_segment_format(fd, geometry))
    except BaseException:
        os.close(fd)
        raise
    return fd


def _reserve(size: int) -> int:
    name = f"/mlos-{os.getpid()}-{os.urandom(16).hex()}"
    try:
        fd: int = posix_ipc.SharedMemory(name, posix_ipc.O_CREX, mode=0o600).fd
    except (posix_ipc.Error, OSError) as err:
        raise OutOfMemory(f"no shared memory could be made: {err}") from err
    try:
        posix_ipc.unlink_shared_memory(name)
        os.posix_fallocate(fd, 0, size)
    except OSError as err:
        os.close(fd)
        if err.errno not in (errno.ENOSPC, errno.ENOMEM):
            raise
        raise OutOfMemory(
            f"/dev/shm has no room for a channel of {size} bytes",  # noqa: S108
            hint="ask for smaller arenas, close other clients, or enlarge /dev/shm",
        ) from err
    return fd


def sweep(folder: Path = Path("/dev/shm")) -> list[str]:  # noqa: S108
    """Remove names that a killed daemon left in the instant between making and unlinking.

    Returns the names removed. Those of living processes and of other users stay.
    """
    removed = []
    for path in folder.glob("mlos-*-*"):
        pid = path.name.split("-")[1]
        with contextlib.suppress(OSError):
            if path.stat().st_uid == os.geteuid() and not Path(f"/proc/{pid}").exists():
                path.unlink()
                removed.append(path.name)
    return removed


def close(fd: int, problem: Problem, event_fd: int = -1) -> None:
    """Mark the channel closed, with the reason its client will raise, and wake the client.

    Args:
        fd: the segment.
        problem: the reason.
        event_fd: the channel's eventfd, for a client that waits in an event loop.

    A segment that was cut short or scribbled over is left alone: there is nobody to tell.
    """
    reason = msgspec.msgpack.encode(problem)
    if len(reason) > REASON_BYTES:
        reason = msgspec.msgpack.encode(Problem(problem.code, problem.message[:200]))
    with contextlib.suppress(ChannelBroken):
        check(lib.mlos_segment_shut(fd, reason, len(reason)))
    if event_fd >= 0:
        # The client can fill it and make it blocking: only written to while it has room.
        poll = select.poll()
        poll.register(event_fd, select.POLLOUT)
        with contextlib.suppress(OSError):
            if poll.poll(0):
                os.eventfd_write(event_fd, 1)


def clear_lane(fd: int, lane: int) -> None:
    """A worker died: its lane serves this channel no longer."""
    lib.mlos_segment_clear_lane(fd, lane)  # a segment that is no channel any more has no lanes


class Mapping:
    """A mapped segment. It stays mapped as long as this object or any view of it lives.

    Args:
        fd: the segment.
        event_fd: the channel's eventfd, which the C side writes to; -1 for none.
        guarded: survive a peer that truncates the segment (workers and daemon).

    Raises:
        ChannelBroken: it is no segment, or a damaged one.
    """

    def __init__(self, fd: int, event_fd: int = -1, *, guarded: bool) -> None:
        pointer = lib.mlos_channel_map(fd, event_fd, guarded)
        if pointer == ffi.NULL:
            raise ChannelBroken(f"the segment cannot be used: {last_error()}")
        self.pointer: Any = ffi.gc(pointer, lib.mlos_channel_unmap)
        self.size: int = lib.mlos_channel_size(self.pointer)
        self.slots: int = lib.mlos_channel_slots(self.pointer)
        self.request_bytes: int = lib.mlos_channel_request_bytes(self.pointer)
        self.reply_bytes: int = lib.mlos_channel_reply_bytes(self.pointer)
        base = lib.mlos_channel_base(self.pointer)
        _keep[base] = self.pointer
        self.address = int(ffi.cast("uintptr_t", base))
        self.segment = memoryview(ffi.buffer(base, self.size))

    def reason(self) -> Problem | None:
        """Why the daemon closed the channel; `None` while it is open."""
        into = ffi.new("char[]", REASON_BYTES)
        length = lib.mlos_channel_reason(self.pointer, into, REASON_BYTES)
        if not length:
            return None
        try:
            return msgspec.msgpack.decode(ffi.buffer(into, length)[:], type=Problem)
        except msgspec.DecodeError:
            return Problem("unavailable", "the channel was closed by the daemon")


# `ffi.buffer` keeps the pointer object it was made of alive; that one must keep the mapping.
_keep: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def check_geometry(slots: int, request_bytes: int, reply_bytes: int) -> None:
    """Raise `InvalidInput` unless a channel of that geometry can exist."""
    if not 1 <= slots <= 1024:
        raise InvalidInput(f"{slots} slots", hint="ask for 1 to 1024")
    if request_bytes < 1 or reply_bytes < 1:
        raise InvalidInput("an arena has no size", hint="ask for at least one byte")
