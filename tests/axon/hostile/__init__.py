# SPDX-License-Identifier: BUSL-1.1
"""Archives and manifests that nobody honest makes, each with the reason to refuse it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """`make(canary)` gives the bytes; `canary` is a path outside of where they may write.

    `reason` is a regular expression for what the refusal says, `suffix` what the file is
    called and so how it is opened, `limits` are arguments of `Limits`.
    """

    name: str
    make: Callable[[str], bytes]
    reason: str
    suffix: str = ".axon"
    limits: dict[str, Any] = field(default_factory=dict)


def corpus() -> list[Case]:
    """All of them."""
    from . import artifacts, packages, tars, yamls, zips

    return [case for module in (tars, packages, zips, yamls, artifacts) for case in module.CASES]
