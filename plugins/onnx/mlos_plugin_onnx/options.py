# SPDX-License-Identifier: BUSL-1.1
"""What a user may set at registration."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from mlos_core.errors import LoadFailed

Threads = Annotated[int, msgspec.Meta(ge=0, le=1024)]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See the README; None leaves the choice to onnxruntime or to the model file."""

    file: str | None = None
    intra_op_num_threads: Threads | None = None
    inter_op_num_threads: Threads | None = None
    execution_mode: Literal["sequential", "parallel"] = "sequential"
    graph_optimization_level: Literal["disable", "basic", "extended", "layout", "all"] = "all"
    allow_spinning: bool | None = None
    providers: tuple[str, ...] | None = None
    batched: bool | None = None


def parse(given: Mapping[str, Any]) -> Options:
    """Check the user's options; text from a command line is taken as what it spells.

    Raises:
        LoadFailed: an unknown name or an impossible value.
    """
    known = Options.__struct_fields__
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise LoadFailed(
                f"the onnx plugin has no option {name!r}",
                hint=f"did you mean {near[0]!r}?" if near else "it has " + ", ".join(known),
            )
    try:
        return msgspec.convert(dict(given), Options, strict=False)
    except msgspec.ValidationError as err:
        raise LoadFailed(f"bad option for the onnx plugin: {err}") from err
