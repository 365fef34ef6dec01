# SPDX-License-Identifier: BUSL-1.1
"""Execution providers: which were asked for, and whether they are there.

Onnxruntime falls back to the CPU where a provider does not start, or fails later. Whoever
asked for one would wonder why the model is slow; here that is an error, always.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import onnxruntime as ort

from mlos_core.errors import LoadFailed
from mlos_plugin_onnx.options import Pairs, Wanted

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
_SUFFIX: Final = "ExecutionProvider"

Provider = tuple[str, dict[str, str]]
"""Onnxruntime's name, and its options."""


def providers_for(device: str, wanted: Wanted) -> list[Provider]:
    """The providers to ask for, each known to be in this onnxruntime.

    Args:
        device: `cpu`, or `cuda` or `cuda:N`.
        wanted: the option, see `read`; None leaves it to the device.

    Raises:
        LoadFailed: one is not there, or the device is none that onnxruntime knows.
    """
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or not (index or "0").isdecimal():
        raise LoadFailed(f"the onnx plugin knows no device {device!r}", hint="use cpu or cuda:0")
    usual: list[Provider] = [(CUDA, {}), (CPU, {})] if kind == "cuda" else [(CPU, {})]
    chosen = usual if wanted is None else read(wanted)
    if kind == "cuda":
        _place(chosen, index or "0", device)
    _check_known([name for name, _ in chosen])
    return chosen


def read(wanted: Wanted) -> list[Provider]:
    """Names and options, from a list or from text.

    A list holds names or pairs of name and options. Text names the same like this:
    `cuda:device_id=1:use_tf32=0,cpu`.

    Raises:
        LoadFailed: it says something else, or nothing.
    """
    try:
        chosen = _of_text(wanted) if isinstance(wanted, str) else _of_list(wanted or ())
    except ValueError as err:
        raise LoadFailed(
            f"the option providers cannot be read: {err}",
            hint="write cuda:device_id=1,cpu or a list of names and [name, {option: value}]",
        ) from err
    names = [name for name, _ in chosen]
    if not names or len(set(names)) < len(names):
        raise LoadFailed("the option providers must name each provider once, and at least one")
    return chosen


def _of_text(text: str) -> list[Provider]:
    return [_of_word(word) for word in text.split(",")]


def _of_word(word: str) -> Provider:
    name, *settings = word.strip().split(":")
    pairs = [setting.partition("=") for setting in settings]
    if not all(key and equals for key, equals, _ in pairs):
        raise ValueError(f"{word!r} is not NAME:OPTION=VALUE")
    return full_name(name), {key: value for key, _, value in pairs}


def _of_list(items: Pairs) -> list[Provider]:
    pairs = [(item, {}) if isinstance(item, str) else item for item in items]
    return [(full_name(n), {k: _spelt(v) for k, v in given.items()}) for n, given in pairs]


def _spelt(value: Any) -> str:
    """Onnxruntime takes options as text, with 1 and 0 for true and false."""
    return str(int(value)) if isinstance(value, bool) else str(value)


def full_name(name: str) -> str:
    """`CUDAExecutionProvider` for `cuda`; a name that onnxruntime does not know stays."""
    short = name.strip().lower().removesuffix(_SUFFIX.lower())
    names: list[str] = ort.get_all_providers()
    known = {one.removesuffix(_SUFFIX).lower(): one for one in names}
    return known.get(short, name.strip())


def _place(chosen: Sequence[Provider], index: str, device: str) -> None:
    """The device's number goes to CUDA, which must be among the providers."""
    options = dict(chosen).get(CUDA)
    if options is None:
        names = ", ".join(name for name, _ in chosen)
        raise LoadFailed(
            f"the device is {device}, but the providers are {names}",
            hint="name cuda among the providers, or register with device cpu",
        )
    if options.setdefault("device_id", index) != index:
        raise LoadFailed(
            f"the device is {device}, but CUDA's option device_id is {options['device_id']}",
            hint="say it in one place",
        )


def _check_known(names: Sequence[str]) -> None:
    available = ort.get_available_providers()
    for name in names:
        if name not in available:
            raise LoadFailed(
                f"this onnxruntime has no provider {name!r}",
                hint=f"it has {', '.join(available)}; onnxruntime-gpu brings CUDA",
            )


def check_started(asked: Sequence[Provider], used: Sequence[str]) -> None:
    """Raise `LoadFailed` if onnxruntime has left out a provider that was asked for.

    Args:
        asked: what `providers_for` gave.
        used: what the session says it has.
    """
    for name, _ in asked:
        if name not in used:
            raise LoadFailed(
                f"the provider {name!r} did not start; onnxruntime would use {', '.join(used)}",
                hint="check the driver and the libraries it needs, or register with device cpu",
            )
