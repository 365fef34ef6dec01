# SPDX-License-Identifier: BUSL-1.1
"""What a user may set at registration."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

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
