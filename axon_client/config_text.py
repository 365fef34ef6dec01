# SPDX-License-Identifier: BUSL-1.1
"""Values of settings from text: of variables, and of `axon config set`."""

from __future__ import annotations

import os
import re
from typing import Any

from mlos_core.errors import ConfigError

_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}
_AMOUNT = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([kmg]i?)?b?(?:/s)?", re.IGNORECASE)


def convert(key: str, text: str, source: str) -> Any:
    """The value that `text` means for the top-level `key`, or for a registry's field.

    Raises:
        ConfigError: it means none; names `source`.
    """
    field = key.rpartition(".")[2] if key.startswith("registries.") else key.partition(".")[0]
    if field == "offline":
        return _flag(text, key, source)
    if field == "rate_limit":
        return _amount(text, key, source)
    if field == "parallel":
        if not re.fullmatch(r"\d{1,4}", text.strip()):
            raise ConfigError(f"{source}: {key} is a number, not {text!r}")
        return int(text)
    if field == "stores":
        return [part for part in text.split(os.pathsep) if part]
    if key == "mirrors":
        return _mirrors(text, source)
    if field in ("namespaces", "mirrors"):
        return [part for part in re.split(r"[,\s]+", text) if part]
    return text


def _flag(text: str, key: str, source: str) -> bool:
    word = text.strip().lower()
    if word not in _TRUE | _FALSE:
        raise ConfigError(f"{source}: {key} is true or false, not {text!r}")
    return word in _TRUE


def _amount(text: str, key: str, source: str) -> int:
    found = _AMOUNT.fullmatch(text.strip())
    if not found:
        raise ConfigError(f"{source}: {key} is bytes per second, not {text!r}", hint="write 20MB")
    return int(float(found[1]) * _UNITS[(found[2] or "").lower()])


def _mirrors(text: str, source: str) -> dict[str, list[str]]:
    """`https://far/=https://near/,https://nearer/ …`, separated by spaces."""
    mirrors = {}
    for entry in text.split():
        place, sign, others = entry.partition("=")
        if not sign:
            raise ConfigError(f"{source}: a mirror is written PLACE=MIRROR[,MIRROR], not {entry!r}")
        mirrors[place] = [other for other in others.split(",") if other]
    return mirrors
