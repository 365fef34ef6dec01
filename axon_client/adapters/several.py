# SPDX-License-Identifier: BUSL-1.1
"""Several files of one package at once: small ones do not wait for the large one."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Final

from axon_client.adapters.base import RemoteFile
from axon_client.progress import Progress
from axon_client.store import Stage
from mlos_core.errors import Cancelled

AT_ONCE: Final = 4


def obtain(stage: Stage, files: Sequence[RemoteFile], progress: Progress) -> None:
    """Make every file a part of the package. The first failure, or Ctrl-C, ends the others.

    Raises:
        MlosError: what `Stage.obtain` raises.
    """
    stop = threading.Event()

    def one(file: RemoteFile) -> None:
        if stop.is_set():
            raise _ended(file)
        try:
            stage.obtain(file, _named(file, progress, stop))
        except BaseException:
            stop.set()
            raise

    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        work = [pool.submit(one, file) for file in files]
        wait(work, return_when=FIRST_EXCEPTION)
    finally:
        stop.set()  # what is under way ends with its next report
        pool.shutdown(wait=True, cancel_futures=True)
    failed = [e for task in work if not task.cancelled() and (e := task.exception())]
    if failed:
        raise next((error for error in failed if not isinstance(error, Cancelled)), failed[0])


def _named(file: RemoteFile, progress: Progress, stop: threading.Event) -> Progress:
    def report(task: str, done: int, total: int) -> None:
        if stop.is_set() and done < total:
            raise _ended(file)
        progress(f"{task} {file.path}", done, total)

    return report


def _ended(file: RemoteFile) -> Cancelled:
    return Cancelled(f"the download of {file.path} was ended")
