# SPDX-License-Identifier: BUSL-1.1
"""Which sequence holds which blocks of the KV cache, and what else lies in them.

A block holds the keys and values of `block_size` consecutive positions of a sequence. A full
block's name is a hash over all tokens up to its end and over whose they are, so equal names
mean equal contents. Blocks that nobody holds keep their contents until the room is needed;
those unused for the longest time go first.

Guarantee: a block is either free, cached (named, held by nobody) or held by `references`
sequences; `check_integrity` says so.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

_DIGEST: Final = 16


def root_name(owner: str, salt: str) -> bytes:
    """The name before the first block; other owners and salts never share a block."""
    parts = (owner.encode(), salt.encode())
    text = b"".join(len(part).to_bytes(4, "little") + part for part in parts)
    return hashlib.blake2b(text, digest_size=_DIGEST, person=b"mlos-blocks").digest()


def block_name(before: bytes, tokens: bytes) -> bytes:
    """The name of the block with `tokens` (int32, little endian) behind the block `before`."""
    return hashlib.blake2b(tokens, digest_size=_DIGEST, key=before).digest()


class BlockManager:
    """Gives out the blocks 0..count-1.

    Args:
        count: how many there are.
        block_size: positions in each.
    """

    def __init__(self, count: int, block_size: int) -> None:
        self.count = count
        self.block_size = block_size
        self._free = list(range(count - 1, -1, -1))
        self._references = [0] * count
        self._names: list[bytes | None] = [None] * count
        self._by_name: dict[bytes, int] = {}
        self._cached: OrderedDict[int, None] = OrderedDict()

    @property
    def available(self) -> int:
        """How many can be allocated."""
        return len(self._free) + len(self._cached)

    @property
    def used(self) -> int:
        """How many are held."""
        return self.count - self.available

    @property
    def named(self) -> int:
        """How many have contents that can be found."""
        return len(self._by_name)

    def blocks_for(self, tokens: int) -> int:
        """How many blocks `tokens` positions need."""
        return -(-tokens // self.block_size)

    def find(self, names: Iterable[bytes]) -> list[int]:
        """The blocks of the longest known prefix of `names`; nobody holds them yet by this."""
        found: list[int] = []
        for name in names:
            block = self._by_name.get(name)
            if block is None:
                break
            found.append(block)
        return found

    def unheld(self, blocks: Sequence[int]) -> int:
        """How many of `blocks` would stop being available by `share`."""
        return sum(not self._references[block] for block in blocks)

    def share(self, blocks: Sequence[int]) -> None:
        """Hold blocks that `find` gave."""
        for block in blocks:
            if not self._references[block]:
                del self._cached[block]
            self._references[block] += 1

    def allocate(self) -> int:
        """An empty block; only while any is `available`."""
        if self._free:
            block = self._free.pop()
        else:
            block, _ = self._cached.popitem(last=False)
            self._forget(block)
        self._references[block] = 1
        return block

    def release(self, blocks: list[int]) -> None:
        """Hold `blocks` no longer, a sequence's in its order; the list is emptied.

        The last ones become the oldest: a block without those before it is worth nothing.
        """
        while blocks:
            block = blocks.pop()
            self._references[block] -= 1
            if self._references[block]:
                continue
            if self._names[block] is None:
                self._free.append(block)
            else:
                self._cached[block] = None

    def name(self, block: int, name: bytes) -> None:
        """`block` is full: it can be found from now on. Of two equal ones the first stays."""
        if name not in self._by_name and self._names[block] is None:
            self._names[block] = name
            self._by_name[name] = block

    def _forget(self, block: int) -> None:
        name = self._names[block]
        if name is not None:
            self._names[block] = None
            del self._by_name[name]

    def check_integrity(self, held: Iterable[Sequence[int]]) -> None:
        """Compare the books with each other and with what the sequences say they hold.

        Raises:
            RuntimeError: they differ.
        """
        counted = [0] * self.count
        for blocks in held:
            for block in blocks:
                counted[block] += 1
        if counted != self._references:
            raise RuntimeError(f"blocks: held {counted}, but counted {self._references}")
        free = [*self._free, *self._cached]
        idle = {block for block, count in enumerate(counted) if not count}
        if len(free) != len(idle) or set(free) != idle:
            raise RuntimeError(f"blocks: {sorted(free)} can be allocated, but {idle} are idle")
        names = {name: block for block, name in enumerate(self._names) if name is not None}
        if names != self._by_name or any(self._names[block] for block in self._free):
            raise RuntimeError("blocks: a name leads to another block, or to an empty one")
