# SPDX-License-Identifier: BUSL-1.1
"""The client: `connect()`, then `client.model(name).infer({...})`.

Light on purpose: it loads NumPy, msgspec and the channel, nothing else.
"""

from mlos_core.client.aio import AsyncClient, AsyncModel, connect_async
from mlos_core.client.model import Client, Future, Model, Prepared, Stream, connect
from mlos_core.client.result import Result

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
