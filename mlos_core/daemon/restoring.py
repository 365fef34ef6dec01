# SPDX-License-Identifier: BUSL-1.1
"""What a daemon does first: it adopts the workers that the last one left, and starts the others."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mlos_core.daemon import adoption
from mlos_core.daemon.deployment import Deployment
from mlos_core.daemon.registry import Registry
from mlos_core.daemon.supervisor import Supervisor
from mlos_core.errors import MlosError


async def restore(supervisor: Supervisor, registry: Registry, workers_file: Path) -> None:
    """Bring the registered models back.

    Args:
        workers_file: where the last daemon noted its workers.
    """
    for entry in registry:
        deployment = supervisor.add(entry)
        deployment.model.route = registry.route(entry.name)
        before = registry.previous(entry.name, entry.version)
        deployment.previous = before.version or "?" if before else ""
    await _adopt(supervisor, workers_file)
    for model in supervisor.models.values():
        for channel in list(model.channels.values()):
            supervisor.book.recover(channel)
            supervisor.book.move(channel, channel.deployment)
        for deployment in model.deployments.values():
            if deployment.fleet.started:
                supervisor.fill(deployment.fleet)
            elif deployment.entry.load == "now":
                await _load(supervisor, deployment)
    supervisor.settled.set()
    supervisor.crew.settled = True
    supervisor.loader.start()
    await supervisor.hosts.warm_up()


async def _load(supervisor: Supervisor, deployment: Deployment) -> None:
    try:
        await supervisor.loader.begin(deployment)
    except MlosError as err:
        supervisor.fail(deployment.fleet, err)


async def _adopt(supervisor: Supervisor, workers_file: Path) -> None:
    records = adoption.WorkersFile(workers_file).load()
    lost = []
    for survivor in adoption.survivors(records).values():
        if not _expect(supervisor, survivor):
            lost.append(survivor)
    for survivor in lost:
        adoption.kill(survivor)
    for survivor in lost:
        # What it held is not touched before it is certainly gone.
        await asyncio.to_thread(adoption.wait_ended, survivor)
        adoption.release(survivor)
    while supervisor.crew.adopting:
        await supervisor.crew.adopting[0].fleet.model.next_change()


def _expect(supervisor: Supervisor, survivor: adoption.Survivor) -> bool:
    record = survivor.record
    model = supervisor.models.get(record.model)
    deployment = model.deployments.get(record.version) if model is not None else None
    if deployment is None or deployment.entry.registered_at != record.registered_at:
        return False  # of a version that was never promoted, or that is gone
    fleet = deployment.fleet
    fleet.started = fleet.ever_ready = True
    free = next((i for i in fleet.instances if i.worker is None), None)
    return supervisor.crew.expect(survivor, fleet, free)
