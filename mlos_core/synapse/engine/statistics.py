# SPDX-License-Identifier: BUSL-1.1
"""What the engine counts, under the names that vLLM's metrics have."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from mlos_core.smi import Histogram
from mlos_core.synapse.engine.choice import Choice
from mlos_core.synapse.engine.requests import Request

TOKEN_SECONDS: Final = (
    0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0,
    2.5, 5.0,
)  # fmt: skip
REQUEST_SECONDS: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0,
)  # fmt: skip


class Distribution:
    """A histogram that one thread fills; a reader may be one value behind."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def read(self) -> Histogram:
        """A cumulative snapshot."""
        counts, total = [], 0
        for count in tuple(self._counts):
            total += count
            counts.append(total)
        return Histogram(self._bounds, tuple(counts[:-1]), self._sum, total)


class Counters:
    """Counters and histograms of one engine."""

    def __init__(self) -> None:
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.finished = {"stop": 0, "length": 0, "tool_calls": 0}
        self.first_token = Distribution(REQUEST_SECONDS)
        self.between_tokens = Distribution(TOKEN_SECONDS)
        self.queue = Distribution(REQUEST_SECONDS)
        self.prefill = Distribution(REQUEST_SECONDS)
        self.decode = Distribution(REQUEST_SECONDS)
        self.inference = Distribution(REQUEST_SECONDS)
        self.request = Distribution(REQUEST_SECONDS)
        self.step = Distribution(TOKEN_SECONDS)

    def token(self, request: Request, choice: Choice, now: int) -> None:
        """A choice got a token at `now`."""
        self.generation_tokens += 1
        if choice.last_ns:
            self.between_tokens.add((now - choice.last_ns) * 1e-9)
        elif not request.times.first:
            request.times.first = now
            self.first_token.add((now - request.times.arrived) * 1e-9)
        choice.last_ns = now

    def end(self, request: Request, now: int) -> None:
        """A request got its last token at `now`."""
        times = request.times
        self.queue.add((times.admitted - times.arrived) * 1e-9)
        self.prefill.add((times.first - times.admitted) * 1e-9)
        self.decode.add((now - times.first) * 1e-9)
        self.inference.add((now - times.admitted) * 1e-9)
        self.request.add((now - times.arrived) * 1e-9)
        self.finished[request.choices[0].finish or "stop"] += 1

    def read(self) -> dict[str, float | Histogram]:
        """By name."""
        counters: dict[str, float | Histogram] = {
            "prompt_tokens": self.prompt_tokens,
            "generation_tokens": self.generation_tokens,
            "time_to_first_token_seconds": self.first_token.read(),
            "inter_token_latency_seconds": self.between_tokens.read(),
            "request_queue_time_seconds": self.queue.read(),
            "request_prefill_time_seconds": self.prefill.read(),
            "request_decode_time_seconds": self.decode.read(),
            "request_inference_time_seconds": self.inference.read(),
            "e2e_request_latency_seconds": self.request.read(),
            "step_seconds": self.step.read(),
        }
        for reason, count in self.finished.items():
            counters[f"request_success_{reason}"] = count
        return counters
