# SPDX-License-Identifier: BUSL-1.1
"""What is left when a model goes: nothing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from mlos_core.conformance.outcome import Failed
from mlos_core.conformance.processes import Footprint, footprint, marked
from mlos_core.conformance.subject import Subject

_CYCLES: Final = 6
_ROOM: Final = 32 << 20
_SETTLED_S: Final = 10.0
_LOOK_S: Final = 0.05


def close_gives_back_descriptors_threads_and_memory(subject: Subject) -> str:
    """Loaded, asked and closed again and again in one process."""
    path, inputs = subject.needs_path(), subject.encoded(subject.inputs)
    report = subject.look(cycles=_CYCLES, path=str(path), inputs=inputs)
    if report.problems:
        raise Failed("; ".join(report.problems))
    # The first times a framework sets itself up; from then on nothing may grow.
    early, late = report.held[1], report.held[-1]
    if late.descriptors > early.descriptors:
        raise Failed(f"{late.descriptors - early.descriptors} descriptors are left open")
    if late.threads > early.threads:
        raise Failed(f"{late.threads - early.threads} threads are left running")
    grown = late.resident - early.resident
    if grown > max(_ROOM, _size(path)):
        raise Failed(f"memory grows by {grown >> 20} MiB in {_CYCLES - 2} cycles")
    return ""


def unloading_ends_the_worker_and_gives_its_memory_back(subject: Subject) -> str:
    """Processes, descriptors and memory of the daemon are as they were."""
    subject.ask(subject.inputs)
    subject.retire()
    _cycle(subject)
    before = _settled(subject, None)
    for _ in range(_CYCLES):
        _cycle(subject)
    after = _settled(subject, before)
    if after.processes > before.processes:
        raise Failed(f"{after.processes - before.processes} processes are left")
    if after.descriptors > before.descriptors:
        raise Failed(f"{after.descriptors - before.descriptors} descriptors are left open")
    grown = after.memory - before.memory
    if grown > max(before.memory // 50, 4 << 20):
        raise Failed(f"{grown >> 10} KiB of memory are left after {_CYCLES} cycles")
    return f"{before.memory >> 20} MiB before, {after.memory >> 20} MiB after"


def no_file_is_left_behind(subject: Subject) -> None:
    """Neither in the folder for temporary files, nor in the model's."""
    if left := sorted(subject.temporary_files() - subject.at_first):
        raise Failed("left in the folder for temporary files: " + ", ".join(left[:5]))
    if subject.report.example:
        folder = Path(subject.report.example)
        folder = folder if folder.is_dir() else folder.parent
        now = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
        if fresh := sorted(now - set(subject.report.written)):
            raise Failed("written into the model's folder: " + ", ".join(fresh[:5]))


def _cycle(subject: Subject) -> None:
    with subject.serving() as (_, model):
        subject.ask(subject.inputs, model)


def _settled(subject: Subject, goal: Footprint | None) -> Footprint:
    """What the daemon and its processes hold once workers that were told to end have ended."""
    end = time.monotonic() + _SETTLED_S
    while True:
        now = _held(subject)
        done = goal is None or (
            now.processes <= goal.processes and now.descriptors <= goal.descriptors
        )
        if (goal is not None and done) or time.monotonic() > end:
            return now
        if goal is None:
            again = _held(subject)
            if (again.processes, again.descriptors) == (now.processes, now.descriptors):
                return again
        time.sleep(_LOOK_S)


def _held(subject: Subject) -> Footprint:
    return footprint(marked(f"TMPDIR={subject.daemon.folder / 'tmp'}"))


def _size(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
