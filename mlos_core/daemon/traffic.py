# SPDX-License-Identifier: BUSL-1.1
"""Which version of a model each channel goes to, and moving channels when that changes."""

from __future__ import annotations

import asyncio

from mlos_core.daemon.channels import Book
from mlos_core.daemon.deployment import Deployment
from mlos_core.daemon.entry import Route
from mlos_core.daemon.loading import Loader
from mlos_core.daemon.logs import Log
from mlos_core.daemon.model import ManagedModel
from mlos_core.daemon.route import assign, moves

_log = Log("traffic")


class Traffic:
    """Applies the routes of all models."""

    def __init__(self, book: Book, loader: Loader, drain_timeout: float) -> None:
        self._book = book
        self._loader = loader
        self._drain_timeout = drain_timeout

    def version_for(self, model: ManagedModel, wanted: str = "") -> Deployment:
        """The version that one more channel goes to; raises `NotFound` if it wants none of them."""
        if wanted:
            return model.version(wanted)
        counts = {d.version: len(d.channels) for d in model.deployments.values()}
        return model.deployments[assign(counts, model.shares)]

    def rebalance(self, model: ManagedModel) -> None:
        """Channels that follow the route are spread over its versions by weight."""
        following = [c for c in model.channels.values() if not c.wanted and not c.only]
        counts = dict.fromkeys((c.deployment.version for c in following), 0)
        for channel in following:
            counts[channel.deployment.version] += 1
        for source, target in moves(counts, model.shares):
            channel = next(c for c in following if c.deployment.version == source)
            following.remove(channel)
            self._book.move(channel, model.deployments[target])
        for deployment in model.deployments.values():
            if deployment.asleep and any(channel.served for channel in deployment.channels):
                self._loader.wake(deployment)  # another version still answers what is its own
            else:
                self._loader.sentries.look(deployment)
        model.changed()

    def set_route(self, model: ManagedModel, route: Route) -> None:
        """Another route; the channels that follow it move at once."""
        model.route = route
        self.rebalance(model)

    async def settle(self, model: ManagedModel) -> None:
        """Wait until no channel is looked at by another version than its own, or nobody else
        is there to look at it. Bounded by the drain timeout."""

        def settled() -> bool:
            workers = {worker.owner: worker for worker in model.workers.values()}
            return not any(
                workers[owner].fleet.deployment is not channel.deployment
                for channel in model.channels.values()
                for owner in channel.served
                if owner in workers
            )

        try:
            async with asyncio.timeout(self._drain_timeout):
                while not settled():
                    await model.next_change()
        except TimeoutError:
            _log.warning("channels_unsettled", model=model.name)
