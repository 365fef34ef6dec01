# SPDX-License-Identifier: BUSL-1.1
"""The JSON bodies of the routes that are not inference."""

from __future__ import annotations

from typing import Any

import msgspec

from mlos_core.types import Signature


class Register(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model to load. `plugin` empty: chosen by the manifest or the file's suffix.

    `model_id`, `plugin_id` and `model_path` are other words for `name`, `plugin` and `path`;
    `manifest_path` names a manifest file instead of `manifest`. `framework`,
    `execution_format` and `description` are for readers: plugin and manifest decide.
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
    batch: dict[str, int] = {}
    manifest: dict[str, Any] | None = None
    manifest_path: str = ""
    warmup: bool = True
    replace: bool = False
    wait: bool = True
    timeout: float = 60.0
    framework: str = ""
    execution_format: str = ""
    description: str = ""


class Worker(msgspec.Struct):
    """One process that hosts the model."""

    owner: int
    pid: int
    state: str
    restarts: int


class Model(msgspec.Struct):
    """A registered model. `state` is `ready` when it answers; `reason` says why it does not."""

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
    batch: dict[str, int]
    options: dict[str, Any]
    workers: list[Worker]
    restarts: int
    channels: int
    registered_at: float
    manifest: dict[str, Any] | None = None


class Plugin(msgspec.Struct):
    """A plugin that was found; a broken one has a reason."""

    name: str
    state: str
    distribution: str = ""
    version: str = ""
    formats: tuple[str, ...] = ()
    framework: str = ""
    smi_version: int = 0
    reason: str = ""
    traceback: str = ""


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
    """Outputs by name: numbers, or strings, in nested lists."""

    model: str
    outputs: dict[str, Any]
    parameters: dict[str, Any]


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
