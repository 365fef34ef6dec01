# SPDX-License-Identifier: BUSL-1.1
"""The client's loop: warm up, then time one call after the other.

Timed is the call alone, from the array to the number, with `perf_counter_ns` (about 40 ns,
in every sample). Writing the next number into the payload, checking the answer, keeping
the sample and pacing happen between two calls. The garbage collector stays on, as it is
where people call models.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable, Iterator

import msgspec
import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.int64]
EARLY_NS = 100_000
SHORT_S = 20e-6


class Plan(msgspec.Struct, frozen=True):
    """How long one client measures in one round.

    A phase ends after its seconds, but not before `least` calls and not after `most`.
    `period_us` is the time from one call's start to the next one's; 0 is a closed loop.
    """

    warmup_s: float
    budget_s: float
    least: int
    most: int
    period_us: int = 0


class WrongAnswer(Exception):
    """The server's number is not the one that was sent."""


def wait_until(due_ns: int) -> None:
    """Sleep until `due_ns` on the monotonic clock, without burning a core.

    `time.sleep` is `clock_nanosleep` on that clock. It wakes up late by the kernel's timer
    slack, so the last 100 µs go by in short sleeps. Spinning would be more exact, but it
    would keep the core awake that a sparse client leaves idle, which is what is measured.
    """
    while (left := due_ns - time.monotonic_ns()) > 0:
        time.sleep((left - EARLY_NS) / 1e9 if left > 2 * EARLY_NS else min(SHORT_S, left / 1e9))


def turns(seconds: float, least: int, most: int, period_us: int) -> Iterator[float]:
    """The numbers to send, at the pace and for the time that is planned."""
    due = time.monotonic_ns()
    end = due + int(seconds * 1e9)
    for turn in range(1, most + 1):
        if turn > least and time.monotonic_ns() >= end:
            return
        if period_us:
            wait_until(due)
            due = max(due + period_us * 1000, time.monotonic_ns())
        yield float(turn)


def phases(plan: Plan) -> Iterator[tuple[list[int], Iterator[float]]]:
    """Warm-up and measurement: where their samples go, and their turns."""
    yield [], turns(plan.warmup_s, min(plan.least, 20), plan.most, plan.period_us)
    gc.collect()
    gc.freeze()
    yield [], turns(plan.budget_s, plan.least, plan.most, plan.period_us)


def sample(call: Callable[[], float], payload: npt.NDArray[np.uint8], plan: Plan) -> Samples:
    """Time `call`; returns the nanoseconds of each measured call.

    Raises:
        WrongAnswer: a call returned another number than the payload held.
    """
    head, clock = payload[:8].view(np.float64), time.perf_counter_ns
    samples: list[int] = []
    for samples, numbers in phases(plan):
        for number in numbers:
            head[0] = number
            begin = clock()
            answer = call()
            end = clock()
            check(answer, number)
            samples.append(end - begin)
    return np.array(samples, np.int64)


async def sample_async(
    call: Callable[[], Awaitable[float]], payload: npt.NDArray[np.uint8], plan: Plan
) -> Samples:
    """`sample` for a coroutine function."""
    head, clock = payload[:8].view(np.float64), time.perf_counter_ns
    samples: list[int] = []
    for samples, numbers in phases(plan):
        for number in numbers:
            head[0] = number
            begin = clock()
            answer = await call()
            end = clock()
            check(answer, number)
            samples.append(end - begin)
    return np.array(samples, np.int64)


def check(answer: float, number: float) -> None:
    if answer != number:
        raise WrongAnswer(f"the answer is {answer!r}, the payload's number was {number!r}")
