# SPDX-License-Identifier: BUSL-1.1
"""What a user may set at registration."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

Threads = Annotated[int, msgspec.Meta(ge=0, le=1024)]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See the README; None leaves the choice to TensorFlow or to the model."""

    file: str | None = None
    signature: str | None = None
    builder: str | None = None
    builder_options: dict[str, Any] = {}
    inputs: str | None = None
    imports: tuple[str, ...] = ()
    safe_mode: bool = True
    intra_op_threads: Threads | None = None
    inter_op_threads: Threads | None = None
    fuse: bool = True
    batched: bool | None = None
