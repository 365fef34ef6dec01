# SPDX-License-Identifier: BUSL-1.1
"""Single keys from a terminal, without waiting for the end of a line."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from typing import Self


class Keys:
    """A block in which keys come one by one and are not shown.

    Where the standard input is no terminal, no key ever comes.
    """

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno() if sys.stdin.isatty() else -1

    def __enter__(self) -> Self:
        if self._fd >= 0:
            self._before = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd)
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def next(self, within: float) -> str:
        """The next key, or nothing after `within` seconds."""
        if self._fd < 0:
            time.sleep(within)
            return ""
        if not select.select([self._fd], [], [], within)[0]:
            return ""
        return os.read(self._fd, 1).decode(errors="replace") or "q"  # the terminal went
