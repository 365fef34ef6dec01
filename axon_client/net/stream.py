# SPDX-License-Identifier: BUSL-1.1
"""A body whose length nobody states: it is read to its end, which chunks must mark."""

from __future__ import annotations

import os

from axon_client.net.client import Answer
from axon_client.net.faults import Transient, Unusable
from axon_client.net.options import Options
from axon_client.net.pace import Limiter, Pace
from axon_client.net.ranges import broken
from axon_client.progress import Progress
from mlos_core.errors import Unavailable

BLOCK = 256 << 10


class Unsized:
    """Writes such a body to a file from its beginning."""

    def __init__(self, file: int, options: Options, limiter: Limiter, progress: Progress) -> None:
        self._file = file
        self._options = options
        self._limiter = limiter
        self._progress = progress

    def receive(self, answer: Answer) -> int:
        """The number of bytes that came.

        Raises:
            Transient: the connection broke.
            Unusable: there is no end to it.
        """
        size, pace = 0, Pace(self._options.slowest, self._options.stall_s)
        with answer:
            while True:
                began = self._options.clock.now()
                data = answer.read1(min(BLOCK, self._limiter.block))
                now = self._options.clock.now()
                if not data:
                    return size
                if pace.too_slow(len(data), now - began):
                    raise Transient(Unavailable("the server sends too slowly"))
                self._write(data, size)
                size += len(data)
                if size > self._options.max_bytes:
                    raise Unusable(broken(answer.url, f"sends more than {size} bytes"))
                self._progress("download", size, 0)
                self._options.clock.sleep(self._limiter.take(len(data), now))

    def _write(self, data: bytes, offset: int) -> None:
        while data:
            count = os.pwrite(self._file, data, offset)
            data, offset = data[count:], offset + count
