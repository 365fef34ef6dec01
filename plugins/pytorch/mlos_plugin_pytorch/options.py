# SPDX-License-Identifier: BUSL-1.1
"""What a user may set at registration."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from mlos_core.errors import LoadFailed

Threads = Annotated[int, msgspec.Meta(ge=1, le=1024)]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See the README; None leaves the choice to torch or to the model file."""

    file: str | None = None
    inputs: str | None = None
    outputs: str | None = None
    batched: bool | None = None
    method: str = "forward"
    reset: str | None = None
    keep_state: bool = False
    module: str | None = None
    arguments: dict[str, Any] = {}
    weights_only: bool = False
    key: str | None = None
    copy_inputs: bool | None = None
    threads: Threads | None = None
    interop_threads: Threads | None = None


_OF_PICKLES: Final = ("weights_only", "key")
_OF_CODE: Final = ("module", "arguments", *_OF_PICKLES)
_WITHOUT_USE: Final = {
    "safetensors": _OF_PICKLES,
    "torchscript": _OF_CODE,
    "exported": (*_OF_CODE, "method", "reset"),
}
_NAMES: Final = {
    "safetensors": "a safetensors file",
    "torchscript": "TorchScript",
    "exported": "an exported program",
}


def check_use(options: Options, kind: str, title: str) -> None:
    """Refuse an option that files of this kind have no use for.

    Raises:
        LoadFailed: one was given.
    """
    for name in _WITHOUT_USE.get(kind, ()):
        if getattr(options, name) != getattr(Options(), name):
            raise LoadFailed(
                f"the option {name} has no use here: {title} is {_NAMES[kind]}",
                hint="leave it out",
            )
