# SPDX-License-Identifier: BUSL-1.1
"""A model as the daemon runs it: its versions, their workers' doorbell, its channels."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from mlos_core.daemon.allocate import Lanes
from mlos_core.daemon.deployment import Deployment, Fleet, State
from mlos_core.daemon.entry import ModelEntry, Route, version_key
from mlos_core.daemon.registry import unknown_version
from mlos_core.daemon.restarts import RestartPolicy
from mlos_core.daemon.route import Chooser
from mlos_core.daemon.worker import Worker
from mlos_core.errors import DeadlineExceeded, MlosError
from mlos_core.types import Signature

if TYPE_CHECKING:
    from mlos_core.daemon.channels import Channel


class ManagedModel:
    """A registered name with everything that runs for it.

    All versions share one doorbell, so that a channel can go from one to another.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.bell = -1
        self.lanes = Lanes()
        self.workers: dict[int, Worker] = {}
        self.channels: dict[str, Channel] = {}
        self.deployments: dict[str, Deployment] = {}
        self.route = Route()
        self.ending: MlosError | None = None
        self.unloaded = False
        self.chooser: tuple[dict[str, float], Chooser] | None = None
        self._waiters: set[asyncio.Future[None]] = set()

    # --- versions ---------------------------------------------------------------------

    def add(self, entry: ModelEntry, policy: RestartPolicy) -> Deployment:
        """A further version; nothing of it runs yet."""
        deployment = self.deployments[entry.version] = Deployment(self, entry, policy)
        return deployment

    def renamed(self, deployment: Deployment) -> None:
        """What it serves has another version now."""
        for version, other in list(self.deployments.items()):
            if other is deployment:
                del self.deployments[version]
        self.deployments[deployment.version] = deployment

    @property
    def shares(self) -> dict[str, float]:
        """The weight of each version that the route gives anything to.

        One that never was ready, or has failed, gets nothing while there are others.
        """
        able = [version for version, d in self.deployments.items() if d.routable]
        return self.route.shares(able or self.deployments)

    @property
    def main(self) -> Deployment:
        """The version the route favours."""
        shares = self.shares
        return self.deployments[max(shares, key=lambda v: (shares[v], version_key(v)))]

    def version(self, version: str) -> Deployment:
        """That version; `""` is the one the route favours.

        Raises:
            NotFound: there is none; the hint names those there are.
        """
        if not version:
            return self.deployments.get("") or self.main
        try:
            return self.deployments[version]
        except KeyError:
            raise unknown_version(self.name, version, self.deployments) from None

    @property
    def fleets(self) -> list[Fleet]:
        """Those that serve, and the candidates."""
        both = [(d.fleet, d.candidate) for d in self.deployments.values()]
        return [fleet for pair in both for fleet in pair if fleet is not None]

    # --- what the route's favourite says for the model ----------------------------------

    @property
    def entry(self) -> ModelEntry:
        """The registration that serves."""
        return self.main.entry

    @property
    def error(self) -> MlosError | None:
        """Why it failed, if it did."""
        return self.main.error

    @property
    def signature(self) -> Signature | None:
        """As a worker reported it."""
        return self.main.signature

    @property
    def state(self) -> State:
        """What the user is told."""
        return self.main.state

    @property
    def restarts(self) -> int:
        """Starts of workers in the place of others that had died."""
        return sum(deployment.restarts for deployment in self.deployments.values())

    def alive(self) -> tuple[int, ...]:
        """Owners that are not known dead."""
        return tuple(sorted(self.workers))

    # --- waiting ----------------------------------------------------------------------

    def changed(self) -> None:
        """Let everybody who waits look again."""
        for future in self._waiters:
            if not future.done():
                future.set_result(None)

    async def wait_until(
        self,
        predicate: Callable[[], bool],
        within: float,
        deployment: Deployment | None = None,
    ) -> None:
        """Wait until `predicate()`.

        Raises:
            MlosError: the reason why the version (default: the favourite) failed or goes.
            DeadlineExceeded: neither happened `within` seconds.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + within
        while not predicate():
            whose = deployment or self.main
            whose.raise_if_over()
            try:
                async with asyncio.timeout_at(end):
                    await self.next_change()
            except TimeoutError:
                raise DeadlineExceeded(
                    f"model {whose.entry.title!r} is still {whose.state} after {within:g} s",
                    hint="give it more time, or see `mlosctl models` and the daemon's log",
                ) from None

    async def next_change(self) -> None:
        """Return at the next change."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(future)
        try:
            await future
        finally:
            self._waiters.discard(future)
