# SPDX-License-Identifier: BUSL-1.1
"""Doorbells: one sealed memfd per model, on which the model's workers sleep."""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import Any

from mlos_core.errors import OutOfMemory
from mlos_core.ipc.native import failure, ffi, lib


def create() -> int:
    """A new doorbell's descriptor; the caller owns it.

    It is sealed against shrinking: a client that could cut it short would end every
    other client that rings it.
    """
    try:
        fd = os.memfd_create("mlos-doorbell", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as err:
        raise OutOfMemory(f"no doorbell could be made: {err}") from err
    os.ftruncate(fd, mmap.PAGESIZE)
    seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def is_sealed(fd: int) -> bool:
    """Whether nobody can cut this doorbell short."""
    try:
        return bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK)
    except OSError:
        return False


def map_bell(fd: int) -> Any:
    """Map a doorbell; it is unmapped when the returned object dies.

    Raises:
        OutOfMemory: the mapping failed.
    """
    bell = lib.mlos_bell_map(fd)
    if bell == ffi.NULL:
        raise failure(lib.MLOS_E_SYSTEM)
    return ffi.gc(bell, lib.mlos_bell_unmap)


def clear_lane(fd: int, lane: int) -> None:
    """A worker died: its lane no longer sleeps."""
    lib.mlos_bell_clear_lane(map_bell(fd), lane)
