# SPDX-License-Identifier: BUSL-1.1
"""Values of options that are more than text: sizes, times, processors, weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from mlos_core.errors import InvalidInput
from mlos_core.resources.cpus import parse_cpus
from mlos_core.resources.units import parse_seconds, parse_size

if TYPE_CHECKING:
    _Kind = click.ParamType[Any]
else:
    _Kind = click.ParamType  # not generic in older versions


class Parsed(_Kind):
    """What `parse` makes of the text; what it refuses is an error of usage."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value; a default that is none already passes as it is."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except InvalidInput as error:
            self.fail(str(error), param, ctx)


def _cpus(text: str) -> str:
    parse_cpus(text)
    return text


def _weight(text: str) -> tuple[str, float | None]:
    """`2.0=10` and `2.0=10%` as a version and its weight; `2.0` alone has none."""
    version, equals, number = text.partition("=")
    if not equals:
        return version, None
    try:
        return version, float(number.removesuffix("%"))
    except ValueError:
        raise InvalidInput(
            f"{text!r} is no weight of a version", hint="write e.g. 1.0=90 2.0=10"
        ) from None


SIZE = Parsed("size", parse_size)
SECONDS = Parsed("seconds", parse_seconds)
CPUS = Parsed("cpus", _cpus)
WEIGHT = Parsed("version", _weight)
