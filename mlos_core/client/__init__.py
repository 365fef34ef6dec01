# SPDX-License-Identifier: BUSL-1.1
"""The client: `connect()`, then `client.model(name).infer({...})`.

Light on purpose: it loads NumPy, msgspec and the channel, nothing else. The asyncio half is
loaded when it is first asked for; asyncio alone would double the time of the import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlos_core.client.client import Client, connect
from mlos_core.client.future import Future
from mlos_core.client.model import Model
from mlos_core.client.prepared import Prepared
from mlos_core.client.result import Result
from mlos_core.client.stream import Stream

if TYPE_CHECKING:
    from mlos_core.client.aio import AsyncClient, AsyncModel, connect_async

__all__ = [
    "AsyncClient",
    "AsyncModel",
    "Client",
    "Future",
    "Model",
    "Prepared",
    "Result",
    "Stream",
    "connect",
    "connect_async",
]


def __getattr__(name: str) -> Any:
    if name not in ("AsyncClient", "AsyncModel", "connect_async"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mlos_core.client import aio

    return getattr(aio, name)
