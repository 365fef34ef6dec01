# SPDX-License-Identifier: BUSL-1.1
"""The engine model: many streams, one number each per step.

The number at a position is a function of prompt, seed and position and of nothing else.
That is the whole secret of resuming: a successor starts at position `resume_from`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence

import msgspec
import numpy as np

from mlos_core.errors import InvalidInput, Overloaded
from mlos_core.smi import EngineModel, EngineRequest, Event
from mlos_core.types import BYTES, Signature, TensorSpec
from mlos_plugin_echo.description import Description

MAX_COUNT = 1_000_000


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a request may ask for."""

    count: int = 16
    seed: int = 0


def number_at(prompt: bytes, seed: int, position: int) -> int:
    """The stream's number at `position`: 32 bits of a hash."""
    digest = hashlib.blake2b(prompt, digest_size=4, key=b"%d:%d" % (seed, position)).digest()
    return int.from_bytes(digest, "little")


class _Stream:
    def __init__(self, prompt: bytes, parameters: Parameters, position: int) -> None:
        self.prompt = prompt
        self.seed = parameters.seed
        self.count = parameters.count
        self.position = position
        self.paused = False

    def numbers(self) -> list[int]:
        return [number_at(self.prompt, self.seed, at) for at in range(self.count)]


class StreamModel(EngineModel):
    """An engine whose every step gives each running stream its next number."""

    def __init__(self, description: Description) -> None:
        self.signature = Signature(
            inputs=(TensorSpec("prompt", BYTES, (1,)),),
            outputs=(TensorSpec("numbers", "int64", (-1,)),),
            streaming=True,
        )
        self._capacity = description.capacity
        self._step_seconds = description.step_seconds
        self._streams: dict[int, _Stream] = {}

    def submit(self, request: EngineRequest) -> None:
        """Take a stream in; see `Parameters` for what it may ask for."""
        if len(self._streams) >= self._capacity:
            raise Overloaded(
                f"{self._capacity} streams run already", hint="try again when one has ended"
            )
        try:
            parameters = msgspec.convert(request.parameters, Parameters)
        except msgspec.ValidationError as err:
            raise InvalidInput(
                f"bad parameters: {err}", hint="the model knows count and seed, both integers"
            ) from err
        if not 0 <= parameters.count <= MAX_COUNT:
            raise InvalidInput(f"count must be from 0 to {MAX_COUNT}")
        prompt = bytes(request.inputs["prompt"].item(0))
        self._streams[request.id] = _Stream(prompt, parameters, request.resume_from)

    def cancel(self, id: int) -> None:
        """Forget the stream."""
        self._streams.pop(id, None)

    def pause(self, id: int) -> None:
        """Let the stream stand still."""
        self._streams[id].paused = True

    def resume(self, id: int) -> None:
        """Let it go on."""
        self._streams[id].paused = False

    def step(self) -> Sequence[Event]:
        """One number for each stream that is not paused."""
        if self._step_seconds:
            time.sleep(self._step_seconds)
        events = [self._advance(id, s) for id, s in self._streams.items() if not s.paused]
        for event in events:
            if event.final:
                del self._streams[event.id]
        return events

    def _advance(self, id: int, stream: _Stream) -> Event:
        if stream.position >= stream.count:
            return Event(id, final=True, outputs={"numbers": np.array(stream.numbers(), np.int64)})
        number = number_at(stream.prompt, stream.seed, stream.position)
        stream.position += 1
        # A real engine would note what it cannot compute again for nothing: its tokens.
        return Event(id, data=number, note=number.to_bytes(4, "little"))
