# SPDX-License-Identifier: BUSL-1.1
"""Keeps the memory of large bodies between requests.

glibc gives a freed block of some hundred KiB back to the kernel, and the next request faults
it in again page by page: with a body of 588 KiB that took 0.8 ms of a request of 1.9.
"""

from __future__ import annotations

import ctypes
from typing import Final

# From malloc.h. The second cannot be set higher: half of glibc's largest heap.
_TRIM_THRESHOLD: Final = (-1, 64 << 20)
_MMAP_THRESHOLD: Final = (-3, 32 << 20)


def keep_freed_memory() -> bool:
    """Let malloc keep up to 64 MiB that are free; for the whole process, and harmless twice.

    Returns:
        Whether the C library has such a setting (musl has none).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all(mallopt(option, value) == 1 for option, value in (_TRIM_THRESHOLD, _MMAP_THRESHOLD))
