# SPDX-License-Identifier: BUSL-1.1
"""Which plugins are installed, told from package metadata alone.

The daemon never imports a plugin: a broken or hostile one can only hurt its own host
process. What a plugin says of itself (formats, SMI version) is known once a host probed it.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any, Final, Literal

import msgspec

from mlos_core.errors import InvalidInput, NotFound, PluginBroken
from mlos_core.ipc.messages import PluginInfo
from mlos_core.smi import ENTRY_POINT_GROUP

OWN_CODE: Final = ("model.py", "python")
"""A folder with this file is code of its own: the words that name its plugin."""

State = Literal["unprobed", "ready", "broken", "conflict"]


class Installed(msgspec.Struct, frozen=True):
    """One entry point: who provides it and where it points."""

    name: str
    distribution: str
    version: str
    target: str


class PluginStatus(msgspec.Struct, frozen=True):
    """What the user sees of a plugin."""

    name: str
    state: State
    distribution: str = ""
    version: str = ""
    formats: tuple[str, ...] = ()
    framework: str = ""
    smi_version: int = 0
    reason: str = ""
    traceback: str = ""


def discover() -> list[Installed]:
    """The entry points that are installed right now, also those of a moment ago."""
    importlib.invalidate_caches()
    found = []
    for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        dist = point.dist
        name = dist.name if dist is not None else "unknown"
        version = dist.version if dist is not None else ""
        found.append(Installed(point.name, name, version, point.value))
    return found


class Catalog:
    """What is known of each plugin name. Pure."""

    def __init__(self) -> None:
        self._installed: dict[str, list[Installed]] = {}
        self._probed: dict[str, tuple[Installed, PluginInfo | PluginStatus]] = {}

    def update(self, installed: Iterable[Installed]) -> None:
        """Take the result of a new discovery; what changed is to be probed again."""
        self._installed = {}
        for item in installed:
            self._installed.setdefault(item.name, []).append(item)
        for name, (item, _) in list(self._probed.items()):
            if self._installed.get(name) != [item]:
                del self._probed[name]

    def names(self) -> list[str]:
        """Every installed name."""
        return sorted(self._installed)

    def probed(self, name: str, info: PluginInfo) -> None:
        """A host imported the plugin."""
        if len(items := self._installed.get(name, [])) == 1:
            self._probed[name] = (items[0], info)

    def broken(self, name: str, reason: str, traceback: str = "") -> None:
        """A host could not use the plugin."""
        if len(items := self._installed.get(name, [])) == 1:
            status = _status(items[0], "broken", reason=reason, traceback=traceback)
            self._probed[name] = (items[0], status)

    def forget(self, name: str) -> None:
        """Probe the plugin again next time."""
        self._probed.pop(name, None)

    def info(self, name: str) -> PluginInfo | None:
        """What the plugin said of itself, if it was probed and works."""
        found = self._probed.get(name)
        return found[1] if found and isinstance(found[1], PluginInfo) else None

    def check(self, name: str) -> None:
        """Raise unless a host may be started for `name`.

        Raises:
            NotFound: nothing installed has that name.
            PluginBroken: two distributions claim it.
        """
        items = self._installed.get(name)
        if not items:
            raise unknown_plugin(name, self._installed)
        if len(items) > 1:
            raise PluginBroken(_conflict(name, items), hint="uninstall all of them but one")

    def status(self, name: str) -> PluginStatus:
        """What the user sees of `name`; it must be installed."""
        items = self._installed[name]
        if len(items) > 1:
            both = ", ".join(sorted(item.distribution for item in items))
            return PluginStatus(name, "conflict", both, reason=_conflict(name, items))
        found = self._probed.get(name)
        if found is None:
            return _status(items[0], "unprobed")
        if isinstance(found[1], PluginStatus):
            return found[1]
        info = found[1]
        return _status(
            items[0],
            "ready",
            formats=info.formats,
            framework=info.framework,
            smi_version=info.smi_version,
        )


def _status(item: Installed, state: State, **rest: Any) -> PluginStatus:
    return PluginStatus(item.name, state, item.distribution, item.version, **rest)


def _conflict(name: str, items: list[Installed]) -> str:
    both = " and ".join(sorted(item.distribution for item in items))
    return f"{both} both claim the plugin name {name!r}"


def unknown_plugin(name: str, known: Iterable[str]) -> NotFound:
    """The error for a plugin nobody installed."""
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {near[0]!r}?" if near else "see `mlosctl plugins` for what is installed"
    return NotFound(f"no plugin is called {name!r}", hint=hint)


# --- choosing a plugin for a model ----------------------------------------------------


def wanted(path: Path, manifest: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Words that tell the plugin of a model, best first: manifest, then file suffixes.

    A `model.py` speaks for the whole folder. Other code in a folder says nothing: repositories
    of weights have some beside them.
    """
    spec = (manifest or {}).get("spec") or {}
    form, framework = spec.get("format") or {}, spec.get("framework") or {}
    words = [form.get("execution_format"), form.get("type"), framework.get("name")]
    files = [item.get("path", "") for item in form.get("execution_files") or []]
    if not files:
        files = [path.name] if not path.is_dir() else sorted(p.name for p in path.iterdir())
    if OWN_CODE[0] in (PurePath(name).name for name in files):
        words += OWN_CODE
    else:
        suffixes = [suffix for name in files for suffix in PurePath(name).suffixes[-1:]]
        words += [s for s in suffixes if s != ".py" or not path.is_dir()]
    seen = dict.fromkeys(str(word).lower() for word in words if word)
    return tuple(seen)


def matches(info: PluginInfo, words: Iterable[str]) -> bool:
    """Whether the plugin loads what one of the words names."""
    formats = {form.lower() for form in info.formats}
    # A framework is given with its version: `onnxruntime 1.20.0`.
    names = {info.name.lower(), *info.framework.lower().split()[:1]}
    return any(word in names or word in formats or f".{word}" in formats for word in words)


def probe_order(names: Iterable[str], words: Iterable[str]) -> list[str]:
    """Names to probe, those called like a word first: often the first one is it."""
    plain = {word.lstrip(".") for word in words}
    return sorted(names, key=lambda name: (name.lower() not in plain, name))


def no_plugin(path: Path, words: Iterable[str], statuses: Iterable[PluginStatus]) -> InvalidInput:
    """The error when no plugin takes the model; one that is broken might have."""
    kinds = ", ".join(words) or "no format"
    broken = [f"{s.name} is broken: {s.reason}" for s in statuses if s.state == "broken"]
    other = "name one with --plugin, or install it; see `mlosctl plugins`"
    return InvalidInput(
        f"no installed plugin loads {path} ({kinds})", hint="; ".join((*broken, other))
    )
