# SPDX-License-Identifier: BUSL-1.1
"""The same call three ways, taken in turns so that all see the same machine."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec
import numpy as np

from mlos_core.client import Model
from mlos_core.errors import MlosError, PluginBroken, Unavailable
from mlos_core.types import Array

Call = Callable[[], Any]
_WARM: Final = 10
_HTTP_TIMEOUT: Final = 30.0


class Timing(msgspec.Struct, frozen=True):
    """Microseconds of one way."""

    way: str
    median_us: float
    p99_us: float
    calls: int


def measure(ways: Mapping[str, Call], rounds: int) -> list[Timing]:
    """Call each way `rounds` times, in turns, after a warm-up."""
    for call in ways.values():
        for _ in range(_WARM):
            call()
    taken: dict[str, list[int]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, call in ways.items():
            start = time.perf_counter_ns()
            call()
            taken[way].append(time.perf_counter_ns() - start)
    return [_timing(way, spans) for way, spans in taken.items()]


def _timing(way: str, spans: list[int]) -> Timing:
    median, p99 = np.percentile(np.array(spans) / 1000.0, [50, 99])
    return Timing(way, round(float(median), 1), round(float(p99), 1), len(spans))


def in_process(path: str, inputs: Mapping[str, Array]) -> Call:
    """onnxruntime here, with the thread count that the plugin takes by itself.

    Raises:
        PluginBroken: onnxruntime does not import.
    """
    try:
        import onnxruntime
    except ImportError as err:
        raise PluginBroken(
            f"onnxruntime does not import: {err}", hint="pip install mlos-plugin-onnx"
        ) from err
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, dict(inputs))


def channel(model: Model, inputs: Mapping[str, Array]) -> Call:
    """Through shared memory: arrays in, arrays out."""

    def call() -> None:
        with model.infer(inputs):
            pass

    return call


@contextlib.contextmanager
def over_http(address: str, name: str, inputs: Mapping[str, Array]) -> Iterator[Call]:
    """Through the HTTP front end, as JSON, on one connection that is kept open."""
    parts = urllib.parse.urlsplit(address)
    connection = http.client.HTTPConnection(
        parts.hostname or "", parts.port or 80, timeout=_HTTP_TIMEOUT
    )
    body = {"model_id": name, "input": {key: array.tolist() for key, array in inputs.items()}}
    encoded = json.dumps(body).encode()

    def call() -> None:
        connection.request(
            "POST", "/api/v1/inference", encoded, {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise MlosError(f"HTTP answered {answer.status}: {content[:200]!r}")

    try:
        yield call
    except OSError as err:
        raise Unavailable(f"HTTP at {address}: {err}") from err
    finally:
        connection.close()
