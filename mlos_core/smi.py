# SPDX-License-Identifier: BUSL-1.1
"""The Standard Model Interface: what a plugin implements.

A plugin knows its framework and nothing about channels, slots or sockets. It is found
through the entry-point group `mlos.plugins`; the entry point names a `Plugin` subclass.
`docs/plugins.md` shows a complete one.
"""

from __future__ import annotations

import abc
import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

import msgspec

from mlos_core.errors import LoadFailed
from mlos_core.types import Array, Signature

SMI_VERSION = 1
ENTRY_POINT_GROUP = "mlos.plugins"

Allocate = Callable[[str, str, tuple[int, ...]], Array]
"""`allocate(output_name, dtype, shape)` gives a writable C-contiguous array that already
lies where the client will read it. An output returned in any other memory is copied."""


class ModelPackage(msgspec.Struct, frozen=True):
    """What is to be loaded: a file or a folder, and what its manifest says of it.

    `threads` is how many threads one computation may use; 0 leaves it to the plugin. An
    option of the plugin's own that says so counts more.
    """

    name: str
    version: str
    path: Path
    manifest: dict[str, Any] | None = None
    threads: int = 0


class TensorModel(abc.ABC):
    """A model that maps named tensors to named tensors, one call at a time."""

    signature: Signature

    @abc.abstractmethod
    def infer(self, batch: Mapping[str, Array], allocate: Allocate) -> Mapping[str, Array]:
        """Compute all outputs for `batch`.

        The inputs have passed `check_inputs`, are read-only and valid during the call
        only. Where the signature is batched, dimension 0 may be the sum of several
        requests, and dimension 0 of each output must have the same size.

        Raises:
            MlosError: to answer with that error; any other exception is `ModelFailed`.
        """

    def close(self) -> None:
        """Free what the framework holds. Called once, after the last `infer`."""


class EngineRequest(msgspec.Struct, frozen=True):
    """One request to an engine model.

    `resume_from` events were already delivered by a worker that is gone: the engine
    continues behind them, with the same events as an undisturbed run. `journal` holds the
    notes (`Event.note`) of the first of them, of all where no note was too long and the
    journal was not full: an engine that keeps its state in notes need not compute again what
    they tell, and computes the rest without sending it.

    `key` is 64 bits that are the same at every attempt and differ between requests: what a
    default seed is made of. `owner` is who asks; what one owner sent must not show in what
    another gets, nor in how fast.
    """

    id: int
    inputs: dict[str, Array]
    parameters: dict[str, Any]
    resume_from: int = 0
    key: int = 0
    owner: str = ""
    journal: tuple[bytes, ...] = ()


class Event(msgspec.Struct, frozen=True):
    """One step's news of one request.

    `data` is msgpack-encodable and goes into the request's stream, in order. The last
    event of a request has `final` set; its `outputs` and `parameters` become the
    reply. `error` ends the request with that error instead. `note`, at most 255 bytes, is
    kept beside the stream for the case that another worker must go on with it.
    """

    id: int
    data: Any = None
    final: bool = False
    outputs: dict[str, Array] = {}
    parameters: dict[str, Any] = {}
    error: Exception | None = None
    note: bytes | None = None


class Histogram(msgspec.Struct, frozen=True):
    """A cumulative histogram as Prometheus knows it: `counts[i]` values were at most
    `buckets[i]`, `count` were seen in all, and their sum is `sum`."""

    buckets: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float = 0.0
    count: int = 0


Statistics = dict[str, float | Histogram]
LEVELS: Final = frozenset({"num_requests_running", "num_requests_waiting", "kv_cache_usage_perc"})
"""The statistics that are levels: they go with their worker. All others are counters."""


class EngineModel(abc.ABC):
    """A model that works stepwise on many requests at once (an LLM, for one)."""

    signature: Signature

    @abc.abstractmethod
    def submit(self, request: EngineRequest) -> None:
        """Take the request in. Inputs are only valid during this call: copy what is kept.

        Raises:
            Overloaded: no room; any `MlosError` is the request's answer.
        """

    @abc.abstractmethod
    def cancel(self, id: int) -> None:
        """Forget the request; no further event may name it. Unknown ids are ignored."""

    @abc.abstractmethod
    def step(self) -> Sequence[Event]:
        """Advance every running request once. Called only while some request runs."""

    def pause(self, id: int) -> None:
        """The reader of this stream is behind: produce nothing for it until `resume`."""

    def resume(self, id: int) -> None:
        """The reader has caught up."""

    def statistics(self) -> Statistics:
        """Counters, and levels (`LEVELS`), by name.

        Called by another thread than `step`; must not wait for it. Several workers' numbers
        are added up, but for names in `_perc`, of which the highest is shown.
        """
        return {}

    def close(self) -> None:
        """Free what the engine holds. Called once."""


Model = TensorModel | EngineModel


class Plugin(abc.ABC):
    """One framework. The class is instantiated once, in the plugin host."""

    name: ClassVar[str]
    smi_version: ClassVar[int] = SMI_VERSION
    formats: ClassVar[tuple[str, ...]] = ()
    """File suffixes this plugin loads, with the dot: `(".onnx",)`."""
    framework: ClassVar[str] = ""
    """Name and version of what it brings along, for people: `onnxruntime 1.20.0`."""

    @abc.abstractmethod
    def load(self, package: ModelPackage, device: str, options: Mapping[str, Any]) -> Model:
        """Load the model. Runs in the worker process, after the fork.

        Args:
            package: file or folder to load.
            device: `cpu`, or `cuda:N`.
            options: what the user gave at registration; unknown keys are an error.

        Raises:
            LoadFailed: with the reason and what to do.
        """

    def example(self, folder: Path) -> ModelPackage | None:
        """A small model to try this plugin with, written into the empty `folder`.

        `mlosctl plugins check` runs its suite on it. `None`: the plugin brings none, and
        the user names a model of their own.
        """
        return None


Options = TypeVar("Options", bound=msgspec.Struct)


def parse_options(kind: type[Options], given: Mapping[str, Any], whose: str) -> Options:
    """The options a user gave, as `kind`; text from a command line is taken as what it spells.

    Raises:
        LoadFailed: an unknown name, with the nearest known one, or an impossible value.
    """
    known = kind.__struct_fields__
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise LoadFailed(
                f"the {whose} has no option {name!r}",
                hint=f"did you mean {near[0]!r}?" if near else "it has " + ", ".join(known),
            )
    try:
        return msgspec.convert(dict(given), kind, strict=False)
    except msgspec.ValidationError as err:
        raise LoadFailed(f"bad option for the {whose}: {err}") from err
