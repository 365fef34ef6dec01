# SPDX-License-Identifier: BUSL-1.1
"""The errors that only a package manager has; all others come from `mlos_core.errors`."""

from __future__ import annotations

from mlos_core.errors import MlosError


class IntegrityError(
    MlosError, code="integrity", fault="environment", http=500, grpc="DATA_LOSS", exit=74
):
    """Bytes are not the ones their digest promises, or an archive is not safe to unpack."""


class InUse(
    MlosError, code="in_use", fault="caller", http=409, grpc="FAILED_PRECONDITION", exit=77
):
    """Something is not removed, because something else needs it."""
