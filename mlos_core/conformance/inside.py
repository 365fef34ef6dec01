# SPDX-License-Identifier: BUSL-1.1
"""The part of the suite that runs in the plugin's own interpreter, in a process of its own.

`python -P -m mlos_core.conformance.inside JOB REPORT`: JOB is a JSON file with a `Job`, and a
`Report` is written to REPORT, since frameworks print what they like.
"""

from __future__ import annotations

import gc
import importlib.metadata
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from mlos_core.errors import MlosError
from mlos_core.smi import (
    ENTRY_POINT_GROUP,
    SMI_VERSION,
    EngineModel,
    EngineRequest,
    Model,
    ModelPackage,
    Plugin,
)
from mlos_core.types import BYTES, DTYPES, Array


class Job(msgspec.Struct):
    """Look at the plugin; with `cycles`, also load, ask and close a model that often; with
    `refuses`, see whether loading is refused."""

    plugin: str
    example: str = ""
    cycles: int = 0
    refuses: bool = False
    path: str = ""
    device: str = "cpu"
    options: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    inputs: dict[str, tuple[str, tuple[int, ...], bytes]] = {}


class Held(msgspec.Struct):
    """What the process held after a cycle."""

    descriptors: int
    threads: int
    resident: int


class Report(msgspec.Struct):
    """What was found. `problems` break the contract; `example` is the path of the example."""

    distribution: str = ""
    version: str = ""
    framework: str = ""
    formats: tuple[str, ...] = ()
    problems: list[str] = []
    threads: list[str] = []
    example: str = ""
    written: list[str] = []
    held: list[Held] = []
    refusal: str = ""


def look(job: Job) -> Report:
    """Import the plugin and hold it to its contract; write its example."""
    report = Report()
    found = list(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP))
    points = [point for point in found if point.name == job.plugin]
    if len(points) != 1:
        names = ", ".join(sorted(point.name for point in found)) or "none"
        report.problems.append(f"{len(points)} installed plugins are called so; there are {names}")
        return report
    dist = points[0].dist
    if dist is not None:
        report.distribution, report.version = dist.name, dist.version
    try:
        kind = points[0].load()
        report.problems += _contract(job.plugin, kind)
        if report.problems:
            return report
        plugin: Plugin = kind()
        report.framework, report.formats = str(kind.framework), tuple(kind.formats)
    except BaseException as err:
        report.problems.append(f"it cannot be imported: {type(err).__name__}: {err}")
        return report
    main = threading.main_thread()
    report.threads = [t.name for t in threading.enumerate() if t is not main]
    if job.example:
        _example(plugin, Path(job.example), report)
    if job.refuses:
        report.refusal = _refusal(plugin, job)
    if job.cycles:
        report.held = [_cycle(plugin, job) for _ in range(job.cycles)]
    return report


def _contract(name: str, kind: object) -> list[str]:
    if not (isinstance(kind, type) and issubclass(kind, Plugin)):
        return ["the entry point names no subclass of mlos_core.smi.Plugin"]
    problems = []
    if getattr(kind, "name", None) != name:
        problems.append(f"it is installed as {name!r} but calls itself {kind.name!r}")
    if kind.smi_version != SMI_VERSION:
        problems.append(f"it implements version {kind.smi_version} of the interface")
    if not (isinstance(kind.formats, tuple) and all(isinstance(f, str) for f in kind.formats)):
        problems.append("its formats are no tuple of strings")
    elif odd := [f for f in kind.formats if "." not in f or f != f.lower() or "/" in f]:
        problems.append(f"the format {odd[0]!r} is no lower-case suffix with its dot")
    return problems


def _example(plugin: Plugin, folder: Path, report: Report) -> None:
    try:
        package = plugin.example(folder)
    except BaseException as err:
        report.problems.append(f"example() raised {type(err).__name__}: {err}")
        return
    if package is not None:
        report.example = str(package.path)
    report.written = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def _refusal(plugin: Plugin, job: Job) -> str:
    try:
        plugin.load(ModelPackage("refused", "1", Path(job.path)), job.device, job.options).close()
    except MlosError as err:
        return str(err)
    return ""


# --- load, ask, close -------------------------------------------------------------------------


def _cycle(plugin: Plugin, job: Job) -> Held:
    path = Path(job.path)
    package = ModelPackage("cycle", "1", path)
    model = plugin.load(package, job.device, job.options)
    try:
        _ask(model, _arrays(job), job.parameters)
    finally:
        model.close()
    del model
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    held = os.listdir("/proc/self/fd"), os.listdir("/proc/self/task")  # noqa: PTH208
    return Held(len(held[0]), len(held[1]), pages * os.sysconf("SC_PAGE_SIZE"))


def _arrays(job: Job) -> dict[str, Array]:
    made = {}
    for name, (dtype, shape, data) in job.inputs.items():
        if dtype == BYTES:
            array = np.empty(len(items := msgspec.msgpack.decode(data)), object)
            array[:] = items
        else:
            array = np.frombuffer(data, DTYPES[dtype])
        array.flags.writeable = False
        made[name] = array.reshape(shape)
    return made


def _ask(model: Model, inputs: Mapping[str, Array], parameters: dict[str, Any]) -> None:
    if not isinstance(model, EngineModel):
        model.infer(inputs, _allocate)
        return
    model.submit(EngineRequest(1, dict(inputs), parameters))
    while not any(event.final or event.error for event in model.step()):
        pass


def _allocate(_: str, dtype: str, shape: tuple[int, ...]) -> Array:
    return np.empty(shape, DTYPES.get(dtype, object))


def main() -> None:
    """Entry point of the process."""
    job = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Job)
    Path(sys.argv[2]).write_bytes(msgspec.json.encode(look(job)))


if __name__ == "__main__":
    main()
