# SPDX-License-Identifier: BUSL-1.1
"""What the daemon's operations have in common: what they work on, and when they may."""

from __future__ import annotations

import asyncio

from mlos_core.config import Config
from mlos_core.daemon.registry import Registry, RegistryFile
from mlos_core.daemon.supervisor import Supervisor
from mlos_core.daemon.swaps import Swaps
from mlos_core.errors import DeadlineExceeded, Unavailable


class Operations:
    """The registry, its file, and the supervisor that carries out what it says."""

    def __init__(self, config: Config, registry: Registry, file: RegistryFile) -> None:
        self._config = config
        self._registry = registry
        self._file = file
        self._supervisor: Supervisor | None = None
        self._swapping: Swaps | None = None
        self.stopping = False

    def attach(self, supervisor: Supervisor) -> None:
        """The supervisor and the service need each other."""
        self._supervisor = supervisor
        self._swapping = Swaps(self._config, supervisor)

    @property
    def supervisor(self) -> Supervisor:
        """Who runs the models."""
        if self._supervisor is None:
            raise starting()
        return self._supervisor

    @property
    def _swaps(self) -> Swaps:
        if self._swapping is None:
            raise starting()
        return self._swapping

    def _save(self) -> None:
        self._file.save(self._registry)

    def _refuse_if_stopping(self) -> None:
        if self.stopping:
            raise Unavailable("the daemon is going down", hint="wait for the next one")

    async def _settled(self, within: float) -> None:
        try:
            async with asyncio.timeout(within):
                await self.supervisor.settled.wait()
        except TimeoutError:
            raise DeadlineExceeded("the daemon is still starting", hint="try again") from None


def starting() -> Unavailable:
    """The error for what is asked too early."""
    return Unavailable("the daemon is starting", hint="try again in a moment")
