# SPDX-License-Identifier: BUSL-1.1
"""The first moments of a forked worker: nothing of the host's session may stay."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path


def start_afresh(name: str) -> None:
    """Own session, default signal handlers, own random state, own name."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Python's own generator is seeded anew by the fork; NumPy's global one is not.
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed(None)
    name_process(name)


def name_process(name: str) -> None:
    """What `ps` and `top` show; the kernel keeps 15 bytes. Of no consequence if refused."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name)
