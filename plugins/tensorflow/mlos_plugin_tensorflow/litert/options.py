# SPDX-License-Identifier: BUSL-1.1
"""What a user may set at registration."""

from __future__ import annotations

from typing import Annotated

import msgspec


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See the README; None leaves the choice to LiteRT or to the model."""

    file: str | None = None
    signature: str | None = None
    num_threads: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None
    keep_state: bool = False
    batched: bool | None = None
