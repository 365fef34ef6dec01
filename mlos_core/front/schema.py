# SPDX-License-Identifier: BUSL-1.1
"""The JSON bodies of the routes that are not inference."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from mlos_core.types import Signature


class Register(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model to load. `plugin` empty: chosen by the manifest or the file's suffix.

    `model_id`, `plugin_id` and `model_path` are other words for `name`, `plugin` and `path`;
    `manifest_path` names a manifest file instead of `manifest`. `framework`,
    `execution_format` and `description` are for readers: plugin and manifest decide.

    `add` serves this version beside those there are, `replace` instead of what has the name.
    `load` is `now` or `demand` (by the first request), `keep_alive` the seconds without a request
    until it is unloaded (-1: never), `memory` the bytes it takes if that is known (0: measured).
    `cpus` is a list such as `0-3,8`, `python` a venv or interpreter that hosts the plugin,
    `warmup_inputs` the path of an .npz file.
    """

    name: str = ""
    model_id: str = ""
    path: str = ""
    model_path: str = ""
    plugin: str = ""
    plugin_id: str = ""
    version: str = ""
    device: str = "cpu"
    options: dict[str, Any] = {}
    instances: int = 1
    batch: dict[str, Any] = {}
    manifest: dict[str, Any] | None = None
    manifest_path: str = ""
    warmup: bool = True
    replace: bool = False
    add: bool = False
    python: str = ""
    threads: int = 0
    cpus: str = ""
    numa_node: int = -1
    load: Literal["now", "demand"] = "now"
    keep_alive: float = -1.0
    memory: int = 0
    warmup_inputs: str = ""
    wait: bool = True
    timeout: float = 60.0
    framework: str = ""
    execution_format: str = ""
    description: str = ""


class Swap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What takes the place of a version while it is asked; what is not given stays as it is.

    `version` is the one replaced (default: the one the route favours), `new_version` what the new
    one is called. For `canary` seconds both serve, and more than `max_error_rate` failures of
    the new one roll it back. Other inputs or outputs are refused unless `allow_new_signature`.
    """

    version: str = ""
    path: str = ""
    new_version: str = ""
    plugin: str = ""
    options: dict[str, Any] | None = None
    warmup_inputs: str = ""
    canary: float = 0.0
    max_error_rate: float = 0.05
    allow_new_signature: bool = False
    timeout: float = 300.0


class Rollback(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which version goes back to what it was before its last swap."""

    version: str = ""
    timeout: float = 300.0


class RouteChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`version` pins one, `weights` shares the requests out; with neither the latest serves."""

    version: str = ""
    weights: dict[str, float] | None = None


class Load(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which version to load; with `wait`, the answer comes once it is ready."""

    version: str = ""
    wait: bool = True
    timeout: float = 60.0


class Unload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which version to unload."""

    version: str = ""


class PluginSwap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`python` names the venv or interpreter whose plugin it is, if not the daemon's own."""

    python: str = ""
    canary: float = 0.0
    max_error_rate: float = 0.05
    timeout: float = 300.0


class PluginSwapped(msgspec.Struct):
    """Which code serves now, and which models moved to it."""

    plugin: str
    from_version: str
    to_version: str
    models: list[str]
    seconds: float


class Worker(msgspec.Struct):
    """One process that hosts the model."""

    owner: int
    pid: int
    state: str
    restarts: int
    version: str = ""


class Route(msgspec.Struct):
    """`kind` is `latest`, `pinned` or `weighted`; `weights` of the versions that get requests."""

    kind: str
    weights: dict[str, float]


class Version(msgspec.Struct):
    """One version of a model. `state` is registered, loading, warming, ready, draining, failed or
    unloaded.

    `weight` is its share of the requests that follow the route, `memory` what its workers take
    in bytes (0: not measured yet), `previous` the version a rollback gives back (`?`: one
    without a version), `candidate` the state of what is to take its place.
    """

    version: str
    state: str
    reason: str
    hint: str
    path: str
    plugin: str
    python: str
    weight: float
    workers: int
    instances: int
    load: str
    keep_alive: float
    memory: int
    previous: str
    candidate: str


class Model(msgspec.Struct):
    """A registered model. `state` is `ready` when it answers; `reason` says why it does not.

    What is said of one version is said of the one that the route favours.
    """

    name: str
    version: str
    plugin: str
    path: str
    device: str
    state: str
    reason: str
    hint: str
    signature: Signature | None
    instances: int
    batch: dict[str, Any]
    options: dict[str, Any]
    workers: list[Worker]
    restarts: int
    channels: int
    registered_at: float
    manifest: dict[str, Any] | None = None
    python: str = ""
    route: Route | None = None
    versions: list[Version] = []


class Plugin(msgspec.Struct):
    """A plugin that was found; a broken one has a reason.

    `python` is the interpreter it is installed for, if not the daemon's own; `warm` says that a
    host has it imported, so that a worker starts at once.
    """

    name: str
    state: str
    distribution: str = ""
    version: str = ""
    formats: tuple[str, ...] = ()
    framework: str = ""
    smi_version: int = 0
    reason: str = ""
    traceback: str = ""
    python: str = ""
    warm: bool = False
    workers: int = 0


class Registered(msgspec.Struct):
    """What the original Core's register route answers."""

    status: str
    model_id: str
    model: Any


class ModelStatus(msgspec.Struct):
    """A model's state and counters."""

    model_id: str
    status: str
    reason: str
    model: Any
    stats: Any


class Prediction(msgspec.Struct):
    """Outputs by name: numbers, or strings, in nested lists.

    `version` is there where the request named one or a weighted route picked it.
    """

    model: str
    outputs: dict[str, Any]
    parameters: dict[str, Any]
    version: str = ""


class Health(msgspec.Struct):
    """`ok`, or what is missing."""

    status: str
    detail: Any = None


class Statistics(msgspec.Struct):
    """The daemon's state and the counters of every model."""

    server: Any
    models: dict[str, Any]


class ErrorDetail(msgspec.Struct):
    """`code` is for programs, `message` says what happened, `hint` what to do."""

    code: str
    message: str
    hint: str


class ErrorBody(msgspec.Struct):
    """Every answer with a status from 400 on."""

    error: ErrorDetail
