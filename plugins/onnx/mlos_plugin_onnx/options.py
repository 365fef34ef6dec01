# SPDX-License-Identifier: BUSL-1.1
"""What a user may set at registration."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

Threads = Annotated[int, msgspec.Meta(ge=0, le=1024)]
Pairs = tuple[str | tuple[str, dict[str, Any]], ...]
Wanted = str | Pairs | None
"""Execution providers, as `providers.read` understands them."""


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See the README; None leaves the choice to onnxruntime or to the model file."""

    file: str | None = None
    intra_op_num_threads: Threads | None = None
    inter_op_num_threads: Threads | None = None
    execution_mode: Literal["sequential", "parallel"] = "sequential"
    graph_optimization_level: Literal["disable", "basic", "extended", "layout", "all"] = "all"
    allow_spinning: bool | None = None
    providers: Wanted = None
    batched: bool | None = None
    profile: str | None = None
