# SPDX-License-Identifier: BUSL-1.1
"""How large an arena has to be."""

from __future__ import annotations

from mlos_core.errors import Overloaded, PayloadTooLarge


def larger_reply(error: PayloadTooLarge | Overloaded, present: int) -> int:
    """The size of a reply arena in which the answer finds room; 0 if that is no remedy.

    An arena that is too small for an answer or two beside those that are held grows; one
    that would hold several is full because its answers are not let go.
    """
    if not error.reply_bytes:
        return 0
    size = error.reply_bytes if isinstance(error, PayloadTooLarge) else 2 * error.reply_bytes
    return room if (room := roomy(size)) > present else 0


def roomy(size: int) -> int:
    """An arena's size for tensors of `size` bytes: twice that, as a power of two."""
    return 1 << (2 * size - 1).bit_length()
