# SPDX-License-Identifier: BUSL-1.1
"""The plugin under test: what was asked for, and a private daemon to try it on."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec
import numpy as np

from mlos_core.client import Client, Model, connect
from mlos_core.conformance import comparing, values
from mlos_core.conformance.inside import Job, Report
from mlos_core.conformance.outcome import Failed, Skipped
from mlos_core.conformance.values import Inputs
from mlos_core.errors import MlosError
from mlos_core.types import Array, Signature, dtype_name

CRASHED: Final = frozenset({"unavailable", "quarantined", "channel_broken"})
"""Codes of errors that say: the worker died over it."""
_ODD_TIMEOUT: Final = 5.0
"""Seconds for what may be endless, like counting to the largest number."""
NAME: Final = "subject"
_ARENA: Final = 8 << 20
_GENERATE: Final = {"max_tokens": 24, "temperature": 0, "seed": 1}


class Target(msgspec.Struct, frozen=True):
    """What is to be checked, and on which model; `inputs` are ones the model surely takes."""

    plugin: str
    model: Path | None = None
    options: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    device: str = "cpu"
    python: str = ""
    inputs: dict[str, Array] | None = None
    timeout: float = 60.0


class Daemon(Protocol):
    """A daemon that nobody else uses."""

    socket: Path
    folder: Path
    pid: int


class Subject:
    """What the checks work with. `close` it at the end."""

    def __init__(self, target: Target, daemon: Daemon) -> None:
        self.target = target
        self.daemon = daemon
        self.client: Client = connect(daemon.socket, timeout=target.timeout)
        self.report = Report(problems=["it was not looked at"])
        self.path: Path | None = target.model
        self._handle: Model | None = None
        self._inputs: Inputs | None = None
        self._size = 0
        self.parameters = target.parameters
        """What goes with every request: as given, or what makes an LLM brief and sober."""
        self.at_first: set[str] = set()
        """Temporary files that there were before a model was loaded."""
        self._numbers = itertools.count()

    def close(self) -> None:
        """Leave the daemon."""
        self.client.close()

    # --- the plugin's own interpreter ---------------------------------------------------------

    def look(self, **fields: Any) -> Report:
        """What `inside` finds.

        Raises:
            Failed: its process hung or died.
        """
        target = self.target
        folder = Path(tempfile.mkdtemp(prefix="inside-", dir=self.daemon.folder))
        common = {"device": target.device, "options": target.options}
        job = Job(target.plugin, **{**common, "parameters": self.parameters, **fields})
        (folder / "job").write_bytes(msgspec.json.encode(job))
        command = [interpreter(target.python), "-P", "-m", "mlos_core.conformance.inside"]
        try:
            done = subprocess.run(
                [*command, str(folder / "job"), str(folder / "report")],
                capture_output=True,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "TMPDIR": str(self.daemon.folder / "tmp")},
                timeout=target.timeout * 3,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"no answer within {target.timeout * 3:g} s") from None
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            raise Failed(f"exit status {done.returncode}: {lines[-1] if lines else 'no word'}")
        return msgspec.json.decode((folder / "report").read_bytes(), type=Report)

    def encoded(self, inputs: Mapping[str, Array]) -> dict[str, tuple[str, Any, bytes]]:
        """Inputs as a `Job` has them."""
        return {name: (dtype_name(a), a.shape, _raw(a)) for name, a in inputs.items()}

    def temporary_files(self) -> set[str]:
        """What lies in the folder for temporary files of the daemon and its processes."""
        return set(os.listdir(self.daemon.folder / "tmp"))  # noqa: PTH208

    # --- models -------------------------------------------------------------------------------

    def register(self, name: str, path: Path | None = None, **params: Any) -> dict[str, Any]:
        """Load the model, or the one at `path`, as `name`.

        Raises:
            MlosError: as the service says.
        """
        target = self.target
        given = {"options": target.options, "device": target.device, **params}
        if target.python:
            given["python"] = target.python
        info: dict[str, Any] = self.client.call(
            "register",
            patience=target.timeout + 30.0,
            name=name,
            path=str(path or self.needs_path()),
            plugin=target.plugin,
            timeout=target.timeout,
            **given,
        )
        return info

    def unregister(self, name: str) -> None:
        """Take the model away; one that is not there is fine."""
        with contextlib.suppress(MlosError):
            self.client.call("unregister", patience=self.target.timeout, name=name)

    @contextlib.contextmanager
    def serving(self, **params: Any) -> Iterator[tuple[str, Model]]:
        """The model under a name of its own, for one check."""
        name = f"{NAME}-{next(self._numbers)}"
        self.register(name, **params)
        handle = self.handle(name)
        try:
            yield name, handle
        finally:
            handle.close()
            self.unregister(name)

    def handle(self, name: str, client: Client | None = None, room: int = 0) -> Model:
        """A handle on a model, with a deadline for every request and at least `room` bytes."""
        size = max(room, _ARENA)
        return (client or self.client).model(
            name, request_bytes=size, reply_bytes=size, timeout=self.target.timeout
        )

    def needs_path(self) -> Path:
        """The model's path; skips the check if there is none."""
        if self.path is None:
            raise Skipped("the plugin brings no example and no --model is given")
        return self.path

    @property
    def model(self) -> Model:
        """A handle on the model that serves all checks; skips the check if it does not load."""
        if self._handle is None:
            raise Skipped("the model does not load")
        return self._handle

    def serve(self) -> None:
        """Load the model that serves all checks."""
        self.register(NAME)
        self._handle = self.handle(NAME)
        if "generate" in self._handle.signature.tasks and not self.parameters:
            self.parameters = _GENERATE

    def retire(self) -> None:
        """Take that model away."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None
        self.unregister(NAME)

    @property
    def signature(self) -> Signature:
        """The model's."""
        return self.model.signature

    def workers(self, name: str = NAME) -> list[int]:
        """The processes that serve a model."""
        info = self.client.call("model", name=name)
        return [worker["pid"] for worker in info["workers"]]

    def kill(self, name: str) -> None:
        """End a model's workers as the kernel would."""
        for pid in self.workers(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # --- questions ----------------------------------------------------------------------------

    def ask(self, inputs: Mapping[str, Array], model: Model | None = None) -> dict[str, Array]:
        """The answer, copied out of shared memory."""
        handle = model or self.model
        with handle.infer(inputs, parameters=self.parameters) as result:
            return dict(result.copy())

    @property
    def inputs(self) -> Inputs:
        """Inputs that the model answers: the user's, or found by trying sizes.

        Raises:
            Skipped: none are found.
        """
        if self.target.inputs is not None:
            return dict(self.target.inputs)
        if self._inputs is None:
            self._inputs = self._find_inputs()
        return self._inputs

    def _find_inputs(self) -> Inputs:
        signature = self.signature
        last: MlosError | None = None
        for names in values.choices(signature):
            for size in values.SIZES:
                inputs = values.make(signature, names, size, rows=2)
                try:
                    self.ask(inputs)
                except MlosError as err:
                    last = err
                    continue
                self._size = size
                return inputs
        raise Skipped(f"no inputs were found that it answers ({last}); give some with --inputs")

    def variant(self, seed: int) -> Inputs:
        """Other inputs of the same form."""
        if self.target.inputs is not None:
            return values.changed(self.target.inputs, seed)
        names = frozenset(self.inputs)
        return values.make(self.signature, names, self._size, seed, rows=2)

    def rows(self, count: int, seed: int = 9) -> Inputs:
        """That many rows for a batched model, each another one."""
        if self.target.inputs is not None:
            return values.changed(values.tiled(self.target.inputs, count), seed)
        names = frozenset(self.inputs)
        return values.make(self.signature, names, self._size, seed, rows=count)

    def survives(self, inputs: Mapping[str, Array]) -> str:
        """Ask what may be refused: the error's code, or nothing; the worker must live on.

        Raises:
            Failed: the worker died or hung over it, or answers wrongly afterwards.
        """
        before, want = self.workers(), self.ask(self.inputs)
        code = ""
        try:
            limit = min(self.target.timeout, _ODD_TIMEOUT)
            self.model.infer(inputs, parameters=self.parameters, timeout=limit).release()
        except MlosError as err:
            code = err.code
            if code in CRASHED:
                raise Failed(f"the worker does not survive it: {err}") from None
        if self.workers() != before:
            raise Failed("the worker died over it")
        if wrong := comparing.difference(self.ask(self.inputs), want):
            raise Failed(f"afterwards the answer to another question is different: {wrong}")
        return code

    # --- conditions ---------------------------------------------------------------------------

    def only_batched(self) -> None:
        """Skip the check for models without a batch dimension."""
        if not self.signature.batched:
            raise Skipped("the model is not batched")

    def only_streaming(self) -> None:
        """Skip the check for models that do not stream."""
        if not self.signature.streaming:
            raise Skipped("the model does not stream")


def interpreter(python: str) -> str:
    """The Python binary of a virtual environment's folder, of itself, or of this process."""
    if not python:
        return sys.executable
    path = Path(python)
    return str(path / "bin" / "python") if path.is_dir() else str(path)


def _raw(array: Array) -> bytes:
    if array.dtype.kind in "OSU":
        items = [i.encode() if isinstance(i, str) else bytes(i) for i in array.reshape(-1)]
        return msgspec.msgpack.encode(items)
    return np.ascontiguousarray(array).tobytes()
