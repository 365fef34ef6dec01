# SPDX-License-Identifier: BUSL-1.1
"""Finding and importing one plugin, with a reason for everything that can go wrong."""

from __future__ import annotations

import importlib.metadata
import threading
import traceback
from pathlib import Path
from typing import Final

from mlos_core.errors import PluginBroken
from mlos_core.ipc.messages import PluginInfo
from mlos_core.smi import ENTRY_POINT_GROUP, SMI_VERSION, Plugin

_ABOVE: Final = (__file__, "<frozen importlib", str(Path(importlib.__file__ or "").parent))
"""Files that are part of every import, and tell nothing of a plugin."""


def find(name: str) -> importlib.metadata.EntryPoint:
    """The entry point of that name.

    Raises:
        PluginBroken: there is none, or several distributions claim the name.
    """
    every = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    found = [point for point in every if point.name == name]
    if not found:
        names = ", ".join(sorted({point.name for point in every})) or "none"
        raise PluginBroken(f"no plugin {name!r} is installed", hint=f"installed: {names}")
    if len({point.value for point in found}) > 1:
        owners = ", ".join(sorted(_distribution(point)[0] for point in found))
        raise PluginBroken(
            f"several distributions claim the plugin {name!r}",
            hint=f"uninstall all but one of {owners}",
        )
    return found[0]


def load(name: str) -> tuple[Plugin, PluginInfo]:
    """Import and instantiate a plugin and hold it to its contract.

    Raises:
        PluginBroken: with the reason; the plugin's own exception is the cause.
    """
    point = find(name)
    try:
        kind = point.load()
    except BaseException as err:
        raise PluginBroken(f"the plugin {name!r} cannot be imported: {_say(err)}") from err
    _check_contract(name, point.value, kind)
    try:
        plugin: Plugin = kind()
    except BaseException as err:
        raise PluginBroken(f"the plugin {name!r} cannot be created: {_say(err)}") from err
    _check_threads(name)
    _, version = _distribution(point)
    return plugin, PluginInfo(
        name=name,
        version=version,
        smi_version=kind.smi_version,
        formats=tuple(kind.formats),
        framework=str(kind.framework),
    )


def format_cause(error: BaseException) -> str:
    """The traceback of what a plugin raised, from its own first line on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(_ABOVE):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace))


def _check_contract(name: str, value: str, kind: object) -> None:
    if not (isinstance(kind, type) and issubclass(kind, Plugin)):
        raise PluginBroken(
            f"the entry point {name!r} names {value}, which is no subclass of mlos_core.smi.Plugin"
        )
    if kind.smi_version != SMI_VERSION:
        raise PluginBroken(
            f"the plugin {name!r} implements version {kind.smi_version} of the model interface, "
            f"not {SMI_VERSION}",
            hint="install a version of the plugin that fits this mlos-core",
        )
    said = getattr(kind, "name", None)
    if said != name:
        raise PluginBroken(f"the plugin is installed as {name!r} but calls itself {said!r}")


def _check_threads(name: str) -> None:
    """Python threads do not survive the fork of a worker, and their locks stay taken."""
    others = [t.name for t in threading.enumerate() if t is not threading.main_thread()]
    if others:
        raise PluginBroken(
            f"the plugin {name!r} started threads at its import: {', '.join(others)}",
            hint="start them in load(), which runs in the worker",
        )


def _distribution(point: importlib.metadata.EntryPoint) -> tuple[str, str]:
    dist = point.dist
    return (dist.name, dist.version) if dist is not None else (point.value, "unknown")


def _say(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
