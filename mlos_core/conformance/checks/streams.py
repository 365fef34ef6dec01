# SPDX-License-Identifier: BUSL-1.1
"""Streams: the same events every time, side by side, and behind a crash."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from mlos_core.client import Model
from mlos_core.conformance import comparing
from mlos_core.conformance.outcome import Failed, Skipped
from mlos_core.conformance.subject import Subject
from mlos_core.conformance.values import Inputs
from mlos_core.types import Array

_STREAMS: Final = 4
_LOOK_S: Final = 0.02
Told = tuple[list[Any], dict[str, Array]]


def a_stream_is_the_same_every_time(subject: Subject) -> str:
    """Events and final answer."""
    subject.only_streaming()
    first = _listen(subject, subject.model, subject.inputs)
    _compare(_listen(subject, subject.model, subject.inputs), first)
    if wrong := comparing.difference(subject.ask(subject.inputs), first[1]):
        raise Failed(f"asked without a stream, {wrong}")
    return f"{len(first[0])} events"


def streams_side_by_side_do_not_mix(subject: Subject) -> None:
    """Each is as it is alone."""
    subject.only_streaming()
    questions = [subject.variant(seed) for seed in range(_STREAMS)]
    alone = [_listen(subject, subject.model, inputs) for inputs in questions]
    with ThreadPoolExecutor(_STREAMS) as pool:
        jobs = [pool.submit(_listen, subject, subject.model, inputs) for inputs in questions]
        for job, want in zip(jobs, alone, strict=True):
            _compare(job.result(), want)


def a_stream_that_is_left_early_is_cancelled(subject: Subject) -> str:
    """And the model is as it was."""
    subject.only_streaming()
    want = _listen(subject, subject.model, subject.inputs)
    with subject.serving() as (name, model):
        for _ in range(_STREAMS):
            with model.stream(subject.inputs, parameters=subject.parameters) as stream:
                next(iter(stream), None)
        _compare(_listen(subject, model, subject.inputs), want)
        cancelled = _count(subject, name, "cancelled")
    return f"{cancelled} of {_STREAMS} were cancelled, the rest had ended"


def a_stream_goes_on_behind_a_killed_worker(subject: Subject) -> str:
    """With the same events as an undisturbed one."""
    subject.only_streaming()
    want = _listen(subject, subject.model, subject.inputs)
    if len(want[0]) < 2:
        raise Skipped("the stream is too short; give a longer one with --parameter")
    with subject.serving() as (name, model):
        streams = [
            model.stream(subject.inputs, parameters=subject.parameters) for _ in range(_STREAMS)
        ]
        heads = [[next(stream)] for stream in streams]
        subject.kill(name)
        for stream, head in zip(streams, heads, strict=True):
            _compare(([*head, *stream], dict(stream.result.copy())), want)
        recovered = _count(subject, name, "recovered")
    return f"{recovered} of {_STREAMS} were taken up, the rest had ended"


def _listen(subject: Subject, model: Model, inputs: Inputs) -> Told:
    with model.stream(inputs, parameters=subject.parameters) as stream:
        events = list(stream)
        return events, dict(stream.result.copy())


def _compare(got: Told, want: Told) -> None:
    if got[0] != want[0]:
        at = next((i for i, (a, b) in enumerate(zip(*(got[0], want[0]))) if a != b), None)  # noqa: B905
        where = f"event {at}" if at is not None else f"{len(got[0])} events, not {len(want[0])}"
        raise Failed(f"the stream differs: {where}")
    if wrong := comparing.difference(got[1], want[1]):
        raise Failed(f"the final answer differs: {wrong}")


def _count(subject: Subject, name: str, what: str) -> int:
    """A counter of the model, once it has stood still for a moment."""
    before, now = -1, 0
    while now != before:
        before = now
        time.sleep(_LOOK_S)
        now = int(subject.client.call("stats", name=name)[name][what])
    return now
