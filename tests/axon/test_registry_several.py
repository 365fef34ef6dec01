# SPDX-License-Identifier: BUSL-1.1
import threading

import pytest

from axon_client.adapters import several
from axon_client.adapters.base import RemoteFile
from axon_client.progress import silent
from mlos_core.errors import Cancelled, Unavailable

FILES = [RemoteFile(name, ()) for name in ("a", "b", "c", "d", "e", "f")]


class Stage:
    """Obtains files as a test tells it."""

    def __init__(self, obtain):
        self.obtain = obtain


def test_files_are_obtained_at_the_same_time_and_told_apart():
    barrier, told = threading.Barrier(several.AT_ONCE), []

    def obtain(file, progress):
        barrier.wait(30)
        progress("download", 1, 1)

    several.obtain(Stage(obtain), FILES[:4], lambda *report: told.append(report))
    assert sorted(told) == [(f"download {name}", 1, 1) for name in "abcd"]


def test_a_failure_ends_what_is_under_way_and_what_has_not_begun():
    seen, others = [], threading.Barrier(several.AT_ONCE)

    def obtain(file, progress):
        seen.append(file.path)
        others.wait(30)
        if file.path == "b":
            raise Unavailable("away")
        while True:
            progress("download", 1, 2)

    with pytest.raises(Unavailable, match="away"):
        several.obtain(Stage(obtain), FILES, silent)
    assert sorted(seen) == ["a", "b", "c", "d"]


def test_an_interrupt_ends_what_is_under_way(monkeypatch):
    running = threading.Event()

    def interrupted(work, return_when):
        running.wait(30)
        raise KeyboardInterrupt

    def obtain(file, progress):
        running.set()
        while True:
            progress("download", 1, 2)

    monkeypatch.setattr(several, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        several.obtain(Stage(obtain), FILES, silent)


def test_what_is_complete_is_not_cancelled():
    report = several._named(FILES[0], silent, _set())
    report("download", 2, 2)
    with pytest.raises(Cancelled):
        report("download", 1, 2)


def _set():
    event = threading.Event()
    event.set()
    return event
