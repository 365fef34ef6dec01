# SPDX-License-Identifier: BUSL-1.1
"""Keeps every registered model running: what follows when a worker is ready or dies."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from mlos_core.config import Config
from mlos_core.daemon.allocate import Owners
from mlos_core.daemon.channels import Book
from mlos_core.daemon.crew import Crew, close_bell
from mlos_core.daemon.deployment import Deployment, Fleet, Instance
from mlos_core.daemon.entry import ModelEntry
from mlos_core.daemon.host import PluginHost
from mlos_core.daemon.hosts import Hosts, Key
from mlos_core.daemon.loading import Loader
from mlos_core.daemon.logs import Log
from mlos_core.daemon.model import ManagedModel
from mlos_core.daemon.procs import describe_status
from mlos_core.daemon.registry import unknown_model
from mlos_core.daemon.restarts import RestartPolicy
from mlos_core.daemon.tasks import Tasks
from mlos_core.daemon.traffic import Traffic
from mlos_core.daemon.worker import Worker
from mlos_core.errors import AlreadyExists, LoadFailed, MlosError, NotFound, Unavailable

Verify = Callable[[str, int], Awaitable[None]]
_log = Log("supervisor")


class Supervisor:
    """All models.

    `verify` is called with a model's name and the number of a worker of it that says it is
    ready, and returns once that worker has answered through a channel of its own.
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
        self.hosts = Hosts(
            config.load_timeout, lambda message: self.crew.exited(message), config.warm_plugins
        )
        self.crew = Crew(config, owners, self.hosts, self.book, self)
        self.loader = Loader(config, self)
        self.traffic = Traffic(self.book, self.loader, config.drain_timeout)
        self.settled = asyncio.Event()

    def get(self, name: str) -> ManagedModel:
        """The model of that name; raises `NotFound`, naming the nearest one."""
        try:
            return self.models[name]
        except KeyError:
            raise unknown_model(name, self.models) from None

    def resolve(self, name: str, version: str = "") -> tuple[ManagedModel, str]:
        """The model and the version that a client names; `""`: it follows the route.

        `name@version` is a version of `name`, unless it is itself the name of a model.

        Raises:
            NotFound: there is no such model, or no such version of it.
        """
        plain, at, suffix = name.rpartition("@")
        if at and name not in self.models and plain in self.models and not version:
            name, version = plain, suffix
        model = self.get(name)
        if version:
            model.version(version)
        return model, version

    def hosts_in_use(self) -> set[Key]:
        """Plugins whose hosts have to stay."""
        fleets = [fleet for model in self.models.values() for fleet in model.fleets]
        return {(f.entry.plugin, f.entry.python) for f in fleets if f.started}

    async def release_hosts(self) -> None:
        """Stop the hosts that nobody needs."""
        await self.hosts.release(self.hosts_in_use)

    # --- models come and go -----------------------------------------------------------

    def add(self, entry: ModelEntry) -> Deployment:
        """A further model, or a further version of one. Nothing of it runs yet."""
        model = self.models.get(entry.name)
        if model is None:
            model = self.models[entry.name] = ManagedModel(entry.name)
        deployment = model.add(entry, self._policy)
        model.changed()
        return deployment

    def anew(self, deployment: Deployment, entry: ModelEntry | None = None) -> None:
        """A fresh fleet in the place of one whose workers are gone, or never were."""
        deployment.fleet.retire()
        deployment.fleet = Fleet(deployment, entry or deployment.entry, self._policy)
        deployment.model.renamed(deployment)
        deployment.model.changed()

    def begin_candidate(
        self, deployment: Deployment, entry: ModelEntry, host: PluginHost | None = None
    ) -> Fleet:
        """Prepare a fleet beside the one that serves; it takes no channel.

        Raises:
            AlreadyExists: one is being started already.
            Unavailable: it is being unloaded.
        """
        if deployment.candidate is not None:
            raise AlreadyExists(
                f"model {deployment.entry.title!r} is being replaced already",
                hint="wait until that is done",
            )
        if deployment.unloading:
            raise Unavailable(
                f"{deployment.entry.title} is being unloaded", hint="try again in a moment"
            )
        fleet = Fleet(deployment, entry, self._policy, held=True, host=host)
        deployment.candidate = fleet
        return fleet

    async def remove(self, name: str) -> None:
        """Drain the workers of a model, then end its channels; also if who asked hangs up."""
        model = self.get(name)
        error = NotFound(f"model {name!r} is unregistered", hint="register it again")
        model.ending = error
        model.changed()
        await asyncio.shield(self._tasks.spawn(self._remove(model, error), f"remove {name}"))

    async def _remove(self, model: ManagedModel, error: MlosError) -> None:
        for fleet in model.fleets:
            self._retire(fleet)
        await self._wait_empty(model)
        for deployment in model.deployments.values():
            self.loader.sentries.relieve(deployment)
        self.book.drop_model(model, error)
        close_bell(model)
        model.unloaded = True
        if self.models.get(model.name) is model:
            del self.models[model.name]
        model.changed()
        await self.release_hosts()

    async def remove_version(self, deployment: Deployment) -> None:
        """Drain the workers of one version; clients that follow the route go on elsewhere.

        It goes on if who asked hangs up.
        """
        title = deployment.entry.title
        error = NotFound(f"model {title!r} is unregistered", hint="register it again")
        deployment.removed = error
        deployment.model.deployments.pop(deployment.version, None)
        removal = self._tasks.spawn(self._remove_version(deployment, error), f"remove {title}")
        await asyncio.shield(removal)

    async def _remove_version(self, deployment: Deployment, error: MlosError) -> None:
        model = deployment.model
        self.loader.sentries.relieve(deployment)
        for channel in deployment.channels:
            if channel.wanted:
                self.book.drop(channel, error)
        self.traffic.rebalance(model)
        # The channels are another version's before the last worker that looks at them goes.
        await self.traffic.settle(model)
        for fleet in (deployment.fleet, deployment.candidate):
            if fleet is not None:
                self._retire(fleet)
        while deployment.workers:
            await model.next_change()
        self.book.drop_version(deployment, error)
        model.changed()
        await self.release_hosts()

    def _retire(self, fleet: Fleet) -> None:
        fleet.retire()
        for worker in fleet.workers:
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

    def fill(self, fleet: Fleet) -> None:
        """Start a worker in every place that has none."""
        fleet.started = True
        fleet.deployment.unloaded = False
        for instance in fleet.instances:
            if instance.worker is None and instance.timer is None:
                self._start(fleet, instance)
        fleet.model.changed()

    def _start(self, fleet: Fleet, instance: Instance) -> None:
        instance.timer = None
        if fleet.retired or self.crew.stopping or instance.worker is not None:
            return
        try:
            self.crew.start(fleet, instance)
        except MlosError as err:
            self.fail(fleet, err)

    def worker_ready(self, worker: Worker) -> None:
        """It reported that it is ready: see that it answers, then give it the channels.

        A worker that follows others of its fleet gets them at once: requests may wait.
        """
        if worker.state != "ready" or self.crew.stopping:
            return
        if worker.instance is not None:
            worker.instance.restarts.loaded(self._loop.time())
        if worker.fleet.ever_ready and not worker.fleet.held:
            self.admit(worker)
        if not worker.proven and not worker.proving:
            worker.proving = True
            self._tasks.spawn(self._prove(worker), f"prove {worker.spec.model} {worker.owner}")

    def admit(self, worker: Worker) -> None:
        """Give a worker the clients' channels."""
        worker.admitted = True
        self.book.serve_all(worker)

    def worker_served(self, worker: Worker) -> None:
        """It answered a `Serve`."""
        worker.fleet.model.changed()

    async def _prove(self, worker: Worker) -> None:
        model = worker.fleet.model
        try:
            await self._verify(model.name, worker.owner)
        except MlosError as err:
            worker.proving = False
            if worker.owner in model.workers and worker.state == "ready" and not worker.problem:
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
        fleet.deployment.used_at = self._loop.time()
        if worker.instance is not None:
            worker.instance.restarts.proven()
        _log.info("worker_ready", model=worker.spec.model, owner=worker.owner, pid=worker.pid)
        if not fleet.held and not worker.admitted:
            self.admit(worker)
        if fleet is fleet.deployment.fleet:
            self._drain_leftovers(fleet.deployment)
            self.traffic.rebalance(fleet.model)
        fleet.model.changed()

    def promote(self, fleet: Fleet) -> Fleet:
        """The candidate serves in the place of the old fleet, which is returned and drains."""
        deployment = fleet.deployment
        old, deployment.fleet, deployment.candidate = deployment.fleet, fleet, None
        fleet.held = False
        fleet.expects = None
        fleet.forget_samples()
        deployment.model.renamed(deployment)
        self._retire(old)
        _log.info("model_replaced", model=deployment.model.name, version=fleet.entry.version)
        deployment.model.changed()
        return old

    def abandon(self, fleet: Fleet) -> None:
        """The candidate is not taken: what it holds it finishes, the old fleet goes on."""
        if fleet.deployment.candidate is fleet:
            fleet.deployment.candidate = None
        self._retire(fleet)
        fleet.model.changed()

    def unload(self, deployment: Deployment) -> None:
        """Drain what serves a version and what was to; its channels stay."""
        for fleet in (deployment.fleet, deployment.candidate):
            if fleet is not None:
                self._retire(fleet)
        deployment.candidate = None
        deployment.model.changed()

    def _drain_leftovers(self, deployment: Deployment) -> None:
        for worker in deployment.workers:
            if worker.instance is None or (worker.fleet.retired and worker.state != "draining"):
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
        fleet.deployment.restarts += 1
        delay = instance.restarts.died(self._loop.time())
        if fleet.held:
            self.fail(fleet, worker.problem or _ended(worker))
        elif worker.problem is not None and not fleet.ever_ready and _is_final(worker.problem):
            self.fail(fleet, worker.problem)
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
            self.fail(fleet, error)
        else:
            _log.error("instance_given_up", model=name, instance=instance.index, reason=str(error))

    def fail(self, fleet: Fleet, error: MlosError) -> None:
        """A fleet is given up; clients of what it served are told why."""
        deployment = fleet.deployment
        fleet.error = error
        fleet.retire()
        _log.error("model_failed", model=fleet.entry.title, reason=str(error))
        for worker in fleet.workers:
            self.crew.end(worker)
        if fleet is deployment.candidate:
            deployment.candidate = None
        elif fleet is deployment.fleet:
            self.traffic.rebalance(deployment.model)  # who follows the route goes on elsewhere
            self.book.drop_version(deployment, error)
        deployment.model.changed()

    # --- ending -----------------------------------------------------------------------

    async def drain_all(self) -> None:
        """Let every worker finish what it holds, and end it."""
        self.crew.stopping = True
        for model in self.models.values():
            model.ending = Unavailable("the daemon is going down")
            model.changed()
            for worker in list(model.workers.values()):
                self._drain(worker)
            for fleet in model.fleets:
                fleet.retire()
        for model in self.models.values():
            await self._wait_empty(model)

    async def stop(self, *, keep_workers: bool) -> None:
        """Let go of everything; without `keep_workers`, nothing of ours is left running."""
        self.crew.stopping = True
        await self.loader.stop()
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


def _ended(worker: Worker) -> LoadFailed:
    return LoadFailed(
        f"a worker of the new {worker.fleet.entry.title} ended with {_how(worker)}",
        hint="see the daemon's log; the old one goes on",
    )


def _is_final(problem: MlosError) -> bool:
    """Whether trying the same again would only give the same."""
    return problem.fault in ("caller", "model")


def _how(worker: Worker) -> str:
    if worker.problem is not None:
        return worker.problem.message
    if worker.exit_status is None:
        return "an unknown status"
    return describe_status(worker.exit_status)
