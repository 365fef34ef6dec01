# SPDX-License-Identifier: BUSL-1.1
"""Where everything lies in a segment, for tests that read or forge it (csrc/include/mlos/layout.h).

`test_native` compares these numbers with the ones the C compiler gives.
"""

from __future__ import annotations

import mmap
import struct

HEADER_BYTES = 1024
SLOT_BYTES = 256 + 4096
FREE, FILLED, TAKEN, DONE = range(4)

# name: (offset, bytes)
HEADER = {
    "magic": (0, 8),
    "version": (8, 4),
    "slot_count": (12, 4),
    "total_size": (16, 8),
    "ring_off": (24, 8),
    "blocks_off": (32, 8),
    "slots_off": (40, 8),
    "events_off": (48, 8),
    "arena_c_off": (56, 8),
    "arena_c_size": (64, 8),
    "arena_w_off": (72, 8),
    "arena_w_size": (80, 8),
    "ring_size": (88, 4),
    "event_bytes": (92, 4),
    "block_count": (96, 4),
    "block_shift": (100, 4),
    "state": (128, 4),
    "reason_len": (132, 4),
    "lanes": (136, 4),
    "tail": (192, 8),
    "head": (256, 8),
    "done_seq": (320, 4),
    "done_waiters": (324, 4),
    "notify": (328, 4),
    "done_bits": (384, 128),
    "reason": (512, 512),
}
GEOMETRY = [name for name, (offset, _) in HEADER.items() if 8 <= offset < 104]
SLOT = {
    "word": (0, 8),
    "sequence": (8, 8),
    "deadline_ns": (16, 8),
    "submitted_ns": (24, 8),
    "header_off": (32, 8),
    "header_len": (40, 4),
    "client_cpu": (44, 4),
    "cancel": (48, 8),
    "reply_off": (64, 8),
    "reply_len": (72, 4),
    "worker_cpu": (76, 4),
    "taken_ns": (80, 8),
    "answered_ns": (88, 8),
    "event_head": (128, 8),
    "journal": (136, 8),
    "event_tail": (192, 8),
    "request": (256, 1024),
    "reply": (1280, 1024),
    "small_c": (2304, 1024),
    "small_w": (3328, 1024),
}


def word(generation: int, owner: int, attempts: int, state: int) -> int:
    """A slot's word."""
    return generation << 32 | owner << 8 | attempts << 4 | state


class Segment:
    """A segment as somebody sees it who writes where he likes."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.map = mmap.mmap(fd, 0)
        self.slots = self.get("slot_count")
        self.offsets = {
            name: self.get(name)
            for name in ("ring_off", "blocks_off", "slots_off", "events_off", "arena_c_off")
        }
        self.ring_size = self.get("ring_size")

    def close(self) -> None:
        self.map.close()

    def where(self, field: str, slot: int | None = None) -> tuple[int, int]:
        """Offset and size of a field of the header, or of a slot."""
        if slot is None:
            return HEADER[field]
        offset, size = SLOT[field]
        return self.offsets["slots_off"] + slot * SLOT_BYTES + offset, size

    def get(self, field: str, slot: int | None = None) -> int:
        offset, size = self.where(field, slot)
        return int.from_bytes(self.map[offset : offset + size], "little")

    def set(self, field: str, value: int, slot: int | None = None) -> None:
        offset, size = self.where(field, slot)
        self.map[offset : offset + size] = (value % (1 << 8 * size)).to_bytes(size, "little")

    def write(self, offset: int, data: bytes) -> None:
        self.map[offset : offset + len(data)] = data

    def state(self, slot: int) -> int:
        return self.get("word", slot) & 0xF

    def push(self, slot: int) -> None:
        """Put a slot's number into the ring, as a client does."""
        tail = self.get("tail")
        at = self.offsets["ring_off"] + 4 * (tail % self.ring_size)
        self.write(at, struct.pack("<I", slot % (1 << 32)))
        self.set("tail", tail + 1)

    def submit(self, slot: int, header: bytes, offset: int | None = None) -> None:
        """Fill a slot with a header and push it. The doorbell stays silent."""
        at = self.where("request", slot)[0] if offset is None else offset
        self.write(at, header)
        self.set("header_off", at, slot)
        self.set("header_len", len(header), slot)
        self.set("deadline_ns", 0, slot)
        self.set("cancel", 0, slot)
        self.set("sequence", self.get("tail"), slot)
        generation = (self.get("word", slot) >> 32) + 1
        self.set("word", word(generation, 0, 0, FILLED), slot)
        self.push(slot)
