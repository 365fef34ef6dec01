# SPDX-License-Identifier: BUSL-1.1
"""Keeps every registered model running: what follows when a worker is ready or dies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from mlos_core.config import Config
from mlos_core.daemon import adoption
from mlos_core.daemon.allocate import Owners
from mlos_core.daemon.channels import Book
from mlos_core.daemon.crew import Crew, close_bell
from mlos_core.daemon.host import describe_status
from mlos_core.daemon.hosts import Hosts
from mlos_core.daemon.logs import Log
from mlos_core.daemon.model import Fleet, Instance, ManagedModel
from mlos_core.daemon.registry import ModelEntry, unknown_model
from mlos_core.daemon.restarts import RestartPolicy
from mlos_core.daemon.tasks import Tasks
from mlos_core.daemon.worker import Worker
from mlos_core.errors import AlreadyExists, LoadFailed, MlosError, NotFound, Unavailable

Verify = Callable[[str], Awaitable[None]]
_log = Log("supervisor")


class Supervisor:
    """All models.

    `verify` is called with a model's name after a worker of it said that it is ready, and
    returns once the data plane answered.
    """

    def __init__(self, config: Config, owners: Owners, verify: Verify) -> None:
        self._config = config
        self._verify = verify
        self._loop = asyncio.get_running_loop()
        self._policy = RestartPolicy(
            config.restart_initial, config.restart_max, config.restart_limit, config.healthy_after
        )
        self._tasks = Tasks()
        self.models: dict[str, ManagedModel] = {}
        self.book = Book(config, owners)
        self.hosts = Hosts(config.load_timeout, lambda message: self.crew.exited(message))
        self.crew = Crew(config, owners, self.hosts, self.book, self)
        self.settled = asyncio.Event()

    def get(self, name: str) -> ManagedModel:
        """The model of that name; raises `NotFound`, naming the nearest one."""
        try:
            return self.models[name]
        except KeyError:
            raise unknown_model(name, self.models) from None

    def plugins_in_use(self) -> set[str]:
        """Plugins whose hosts have to stay."""
        fleets = [f for m in self.models.values() for f in (m.fleet, m.candidate) if f]
        return {fleet.entry.plugin for fleet in fleets}

    # --- models come and go -----------------------------------------------------------

    async def restore(self, entries: Iterable[ModelEntry]) -> None:
        """Bring the registered models back: adopt workers that live, start the others."""
        for entry in entries:
            self.models[entry.name] = ManagedModel(entry, self._policy)
        await self._adopt()
        for model in self.models.values():
            for channel in list(model.channels.values()):
                self.book.recover(channel)
            self._fill(model.fleet)
        self.settled.set()

    def add(self, entry: ModelEntry) -> ManagedModel:
        """Start a model that did not run."""
        model = self.models[entry.name] = ManagedModel(entry, self._policy)
        self._fill(model.fleet)
        return model

    def begin_replace(self, entry: ModelEntry) -> Fleet:
        """Start a candidate beside the fleet that serves.

        Raises:
            AlreadyExists: one is being started already.
        """
        model = self.get(entry.name)
        if model.candidate is not None:
            raise AlreadyExists(
                f"model {entry.name!r} is being replaced already", hint="wait until that is done"
            )
        model.candidate = Fleet(model, entry, self._policy)
        self._fill(model.candidate)
        return model.candidate

    async def remove(self, name: str) -> None:
        """Drain the workers of a model, then end its channels."""
        model = self.get(name)
        error = NotFound(f"model {name!r} is unregistered", hint="register it again")
        model.ending = error
        model.changed()
        self._retire_all(model)
        await self._wait_empty(model)
        self.book.drop_model(model, error)
        close_bell(model)
        model.unloaded = True
        if self.models.get(name) is model:
            del self.models[name]
        model.changed()
        await self.hosts.release(self.plugins_in_use())

    def _retire_all(self, model: ManagedModel) -> None:
        for fleet in (model.fleet, model.candidate):
            if fleet is not None:
                fleet.retire()
        for worker in list(model.workers.values()):
            self._drain(worker)

    async def _wait_empty(self, model: ManagedModel) -> None:
        while model.workers:
            # Every worker here has a deadline that ends it, so this cannot hang.
            await model.next_change()

    def _drain(self, worker: Worker) -> None:
        if worker.drain():
            _log.info("worker_drains", model=worker.spec.model, owner=worker.owner)
            timeout = self._loop.call_later(self._config.drain_timeout, worker.kill)
            worker.set_timer("drain", timeout)
        else:
            self.crew.end(worker)

    # --- fleets -----------------------------------------------------------------------

    def _fill(self, fleet: Fleet) -> None:
        fleet.started = True
        for instance in fleet.instances:
            if instance.worker is None and instance.timer is None:
                self._start(fleet, instance)

    def _start(self, fleet: Fleet, instance: Instance) -> None:
        instance.timer = None
        if fleet.retired or self.crew.stopping or instance.worker is not None:
            return
        try:
            self.crew.start(fleet, instance)
        except MlosError as err:
            self._fail(fleet, err)

    def worker_ready(self, worker: Worker) -> None:
        """It reported that it is ready: give it the channels, then see that it answers."""
        if worker.state == "ready" and not self.crew.stopping:
            if worker.instance is not None:
                worker.instance.restarts.loaded(self._loop.time())
            self.book.serve_all(worker)
            self.worker_served(worker)

    def worker_served(self, worker: Worker) -> None:
        """It answered a `Serve`; with the last one the data plane is put to the test."""
        if worker.serves and not worker.asked and not worker.proven and not worker.proving:
            worker.proving = True
            self._tasks.spawn(self._prove(worker), f"prove {worker.spec.model} {worker.owner}")

    async def _prove(self, worker: Worker) -> None:
        model = worker.fleet.model
        try:
            await self._verify(model.name)
        except MlosError as err:
            worker.proving = False
            if worker.owner in model.workers and worker.state == "ready":
                _log.warning("ping_failed", model=model.name, owner=worker.owner, reason=str(err))
                worker.problem = Unavailable(
                    f"model {model.name!r} is loaded, but its channel does not answer: "
                    f"{err.message}",
                    hint=err.hint,
                )
                if worker.instance is not None:
                    worker.instance.restarts.unproven()
                worker.kill()
            return
        if worker.owner in model.workers and worker.state == "ready":
            self._proven(worker)

    def _proven(self, worker: Worker) -> None:
        fleet = worker.fleet
        worker.proven = True
        fleet.ever_ready = True
        if worker.instance is not None:
            worker.instance.restarts.proven()
        _log.info("worker_ready", model=worker.spec.model, owner=worker.owner, pid=worker.pid)
        model = fleet.model
        if fleet is model.candidate:
            self._promote(model, fleet)
        if fleet is model.fleet:
            self._drain_leftovers(model)
        model.changed()

    def _promote(self, model: ManagedModel, candidate: Fleet) -> None:
        old, model.fleet, model.candidate = model.fleet, candidate, None
        old.retire()
        _log.info("model_replaced", model=model.name, version=candidate.entry.version)

    def _drain_leftovers(self, model: ManagedModel) -> None:
        for worker in list(model.workers.values()):
            if worker.instance is None or worker.fleet.retired:
                self._drain(worker)

    def worker_gone(self, worker: Worker) -> None:
        """Its process is gone: start another one now, later, or never."""
        fleet, instance = worker.fleet, worker.instance
        level = _log.info if worker.state == "draining" else _log.warning
        level(
            "worker_gone",
            model=worker.spec.model,
            owner=worker.owner,
            pid=worker.pid,
            how=_how(worker),
        )
        if fleet.retired or instance is None or self.crew.stopping:
            return
        fleet.model.restarts += 1
        delay = instance.restarts.died(self._loop.time())
        if worker.problem is not None and not fleet.ever_ready and _is_final(worker.problem):
            self._fail(fleet, worker.problem)
        elif delay is None:
            self._give_up(fleet, instance, worker)
        elif delay == 0:
            self._start(fleet, instance)
        else:
            instance.timer = self._loop.call_later(delay, self._start, fleet, instance)

    def _give_up(self, fleet: Fleet, instance: Instance, worker: Worker) -> None:
        name, limit = fleet.model.name, self._policy.limit
        error = worker.problem or LoadFailed(
            f"the worker of model {name!r} ended {limit} times before it was ready, "
            f"last with {_how(worker)}",
            hint="see the daemon's log; register the model again to try once more",
        )
        instance.given_up = True
        if all(other.given_up for other in fleet.instances):
            self._fail(fleet, error)
        else:
            _log.error("instance_given_up", model=name, instance=instance.index, reason=str(error))

    def _fail(self, fleet: Fleet, error: MlosError) -> None:
        model = fleet.model
        fleet.error = error
        fleet.retire()
        _log.error("model_failed", model=model.name, reason=str(error))
        for worker in fleet.workers:
            self.crew.end(worker)
        if fleet is model.candidate:
            model.candidate = None
        else:
            self.book.drop_model(model, error)
        model.changed()

    # --- adoption ---------------------------------------------------------------------

    async def _adopt(self) -> None:
        records = adoption.WorkersFile(self._config.workers_file).load()
        lost = []
        for survivor in adoption.survivors(records).values():
            if not self._expect(survivor):
                lost.append(survivor)
        for survivor in lost:
            adoption.kill(survivor)
            adoption.release(survivor)
        while self.crew.adopting:
            await self.crew.adopting[0].fleet.model.next_change()

    def _expect(self, survivor: adoption.Survivor) -> bool:
        model = self.models.get(survivor.record.model)
        if model is None:
            return False
        model.fleet.started = True
        free = next((i for i in model.fleet.instances if i.worker is None), None)
        return self.crew.expect(survivor, model.fleet, free)

    # --- ending -----------------------------------------------------------------------

    async def drain_all(self) -> None:
        """Let every worker finish what it holds, and end it."""
        self.crew.stopping = True
        for model in self.models.values():
            model.ending = Unavailable("the daemon is going down")
            model.changed()
            self._retire_all(model)
        for model in self.models.values():
            await self._wait_empty(model)

    async def stop(self, *, keep_workers: bool) -> None:
        """Let go of everything; without `keep_workers`, nothing of ours is left running."""
        self.crew.stopping = True
        await self._tasks.stop()
        if keep_workers:
            self.crew.let_go()
            self.book.let_go()
        else:
            for worker in self.crew.all():
                self.crew.end(worker)
            for model in self.models.values():
                await self._wait_empty(model)
                self.book.drop_model(model, Unavailable("the daemon was stopped"))
        await self.crew.stop()
        await self.hosts.stop()
        for model in self.models.values():
            close_bell(model)


def _is_final(problem: MlosError) -> bool:
    """Whether trying the same again would only give the same."""
    return problem.fault in ("caller", "model")


def _how(worker: Worker) -> str:
    if worker.problem is not None:
        return worker.problem.message
    if worker.exit_status is None:
        return "an unknown status"
    return describe_status(worker.exit_status)
