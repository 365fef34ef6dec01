# SPDX-License-Identifier: BUSL-1.1
"""What a registry answers to somebody it does not know: `WWW-Authenticate`."""

from __future__ import annotations

import re
from typing import Final

import msgspec

_MOST: Final = 8192
_SCHEME: Final = re.compile(r"[\s,]*([A-Za-z][A-Za-z0-9-]*)(?=\s|,|$)(?!\s*=)")
_PARAMETER: Final = re.compile(r'[\s,]*([A-Za-z_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')


class Challenge(msgspec.Struct, frozen=True):
    """One way to prove who one is: `basic`, or `bearer` with where tokens are made."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


def parse(header: str) -> list[Challenge]:
    """The challenges in a header, in their order; what cannot be read ends it."""
    found: list[Challenge] = []
    at, header = 0, header[:_MOST]
    while scheme := _SCHEME.match(header, at):
        at = scheme.end()
        values: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, at):
            at = parameter.end()
            quoted = parameter[2]
            value = parameter[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            values.setdefault(parameter[1].lower(), value)
        known = {name: values[name] for name in ("realm", "service", "scope") if name in values}
        found.append(Challenge(scheme[1].lower(), **known))
    return found
