# SPDX-License-Identifier: BUSL-1.1
"""A `predict` that yields, or that wants a request's parameters.

Each running request is a generator, advanced by one value per step, so streams run side by
side. A successor that is to continue a stream runs its generator from the start and keeps
the values to itself that the client already has: with the same inputs and parameters they
are the same, as long as `predict` draws nothing from elsewhere.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from mlos_core.errors import LoadFailed, MlosError, Overloaded
from mlos_core.smi import EngineModel, EngineRequest, Event
from mlos_core.types import DTYPES, Array
from mlos_plugin_python.blame import failed, log
from mlos_plugin_python.contract import PARAMETERS, Contract
from mlos_plugin_python.outputs import collect
from mlos_plugin_python.tensors import arguments, close
from mlos_plugin_python.values import to_event

MAX_STREAMS: Final = 64


class _Stream:
    """One request on its way; `skip` values were delivered before."""

    def __init__(self, values: Iterator[Any], skip: int) -> None:
        self.values = values
        self.skip = skip
        self.paused = False
        self.yielded: list[Any] = []


class PredictEngine(EngineModel):
    """The user's object behind the stepwise interface."""

    def __init__(self, model: Any, contract: Contract, file: Path) -> None:
        self.signature = contract.signature
        self._model = model
        self._contract = contract
        self._file = file
        self._limit = _limit(model)
        self._streams: dict[int, _Stream] = {}

    def submit(self, request: EngineRequest) -> None:
        """Make the request's generator; nothing of it runs yet."""
        if len(self._streams) >= self._limit:
            raise Overloaded(
                f"{self._limit} requests run already", hint="try again, or raise max_streams"
            )
        kept = {name: array.copy() for name, array in request.inputs.items()}
        given = arguments(kept, self._contract)
        if self._contract.parameters:
            given[PARAMETERS] = dict(request.parameters)
        self._streams[request.id] = _Stream(self._start(given), request.resume_from)

    def _start(self, given: dict[str, Any]) -> Iterator[Any]:
        if self._contract.streaming:
            values: Iterator[Any] = self._model.predict(**given)
            return values
        return self._once(given)

    def _once(self, given: dict[str, Any]) -> Generator[Any, None, Any]:
        """A `predict` without yields as a generator without values."""
        return self._model.predict(**given)
        yield

    def cancel(self, id: int) -> None:
        """Close the generator: its `finally` blocks run."""
        stream = self._streams.pop(id, None)
        if stream is not None:
            _close(stream)

    def pause(self, id: int) -> None:
        """Let the stream stand still."""
        if id in self._streams:
            self._streams[id].paused = True

    def resume(self, id: int) -> None:
        """Let it go on."""
        if id in self._streams:
            self._streams[id].paused = False

    def step(self) -> Sequence[Event]:
        """One value of each stream that is not paused."""
        running = [(id, s) for id, s in self._streams.items() if not s.paused]
        return [event for id, s in running if (event := self._advance(id, s)) is not None]

    def _advance(self, id: int, stream: _Stream) -> Event | None:
        try:
            value = next(stream.values)
            # What is None says nothing: it is no event, today or after a crash.
            return None if value is None else self._news(id, stream, value)
        except StopIteration as end:
            return self._end(id, stream, end.value)
        except BaseException as err:
            self.cancel(id)
            return Event(id, error=failed(err, self._file.parent))

    def _news(self, id: int, stream: _Stream, value: Any) -> Event | None:
        data = to_event(value)
        if self._contract.shape == "yielded":
            stream.yielded.append(value)
        if stream.skip:
            stream.skip -= 1
            return None
        return Event(id, data)

    def _end(self, id: int, stream: _Stream, returned: Any) -> Event:
        self.cancel(id)
        whole = stream.yielded if self._contract.shape == "yielded" else returned
        try:
            return Event(id, final=True, outputs=collect(whole, self._contract, _allocate))
        except MlosError as err:
            return Event(id, error=err)

    def close(self) -> None:
        """Close what runs, and the object."""
        for id in list(self._streams):
            self.cancel(id)
        close(self._model, self._file)
        self._model = None


def _limit(model: Any) -> int:
    limit = getattr(model, "max_streams", MAX_STREAMS)
    if not isinstance(limit, int) or limit < 1:
        raise LoadFailed(f"max_streams is {limit!r}", hint="give a number above 0, or leave it out")
    return limit


def _allocate(_: str, dtype: str, shape: tuple[int, ...]) -> Array:
    return np.empty(shape, DTYPES[dtype])


def _close(stream: _Stream) -> None:
    try:
        if isinstance(stream.values, Generator):
            stream.values.close()
    except BaseException:
        log.exception("a cancelled predict raised")
