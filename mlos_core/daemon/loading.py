# SPDX-License-Identifier: BUSL-1.1
"""Loading and unloading versions: on demand, when idle, and when memory is short."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from mlos_core.config import Config
from mlos_core.daemon.deployment import Deployment, Fleet
from mlos_core.daemon.logs import Log
from mlos_core.daemon.model import ManagedModel
from mlos_core.daemon.sentries import Sentries
from mlos_core.daemon.tasks import Tasks
from mlos_core.errors import DeadlineExceeded, MlosError, Unavailable
from mlos_core.resources.budget import Budget, Loaded
from mlos_core.resources.memory import estimate, pss_of
from mlos_core.resources.nvml import choose

if TYPE_CHECKING:
    from mlos_core.daemon.supervisor import Supervisor

_PERIOD: Final = (0.05, 5.0)
_STATS_TIMEOUT: Final = 1.0
_log = Log("loading")


class Loader:
    """Decides what is in memory; the supervisor starts and drains."""

    def __init__(self, config: Config, supervisor: Supervisor) -> None:
        self._config = config
        self._supervisor = supervisor
        self._budget = Budget(config.memory_budget)
        self._admission = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks()
        self._waking: dict[Deployment, asyncio.Task[None]] = {}
        self.sentries = Sentries(self.wake)

    def start(self) -> None:
        """Begin to look after idle models."""
        self._tasks.spawn(self._keep(), "keep alive")

    async def stop(self) -> None:
        """No more loading or unloading."""
        self.sentries.stop()
        await self._tasks.stop()

    # --- loading ----------------------------------------------------------------------

    def wake(self, deployment: Deployment) -> None:
        """A request came for a version that is not loaded."""
        if deployment not in self._waking:
            name = f"wake {deployment.entry.title}"
            task = self._waking[deployment] = self._tasks.spawn(self._wake(deployment), name)
            task.add_done_callback(lambda _: self._waking.pop(deployment, None))

    async def _wake(self, deployment: Deployment) -> None:
        try:
            await self.begin(deployment)
        except MlosError as err:
            # Whoever waits in a channel must hear of it; the next one may have more luck.
            _log.warning("not_loaded", model=deployment.entry.title, reason=str(err))
            self._supervisor.book.drop_version(deployment, err)

    async def begin(self, deployment: Deployment) -> None:
        """Start the workers of a version that is not loaded.

        Raises:
            OutOfMemory: the budget has no room, and nothing that may go makes enough.
            MlosError: it is being unregistered.
        """
        while deployment.unloading:  # which ends: its workers are killed in the end
            await deployment.model.next_change()
        async with self._admission:
            if deployment.ending is not None:
                deployment.raise_if_over()
            if deployment.error is not None:
                self._supervisor.anew(deployment)
            if deployment.fleet.started:
                return
            await self._make_room(deployment.fleet)
            await self.place(deployment.fleet)
            self.sentries.relieve(deployment)
            deployment.used_at = self._loop.time()
            _log.info("model_loads", model=deployment.entry.title)
            self._supervisor.fill(deployment.fleet)
        self.measure_soon(deployment)

    async def load(self, deployment: Deployment, within: float) -> None:
        """Load a version and wait until it is ready.

        Raises:
            MlosError: why it is not.
        """
        await self.begin(deployment)
        model = deployment.model
        await model.wait_until(
            lambda: deployment.state == "ready" or deployment.asleep, within, deployment
        )
        if deployment.asleep:
            raise Unavailable(
                f"{deployment.entry.title} was unloaded while it loaded", hint="load it again"
            )

    async def admit(self, fleet: Fleet) -> None:
        """Make room for a fleet beside the one that serves, and find its device.

        Raises:
            OutOfMemory: the budget has no room for both.
            MlosError: as `place`.
        """
        async with self._admission:
            await self._make_room(fleet)
            await self.place(fleet)

    async def place(self, fleet: Fleet) -> None:
        """Find the device that its registration asks for.

        Raises:
            MlosError: there is none of that kind, or it has no room; never another kind instead.
        """
        wanted = fleet.entry.device
        if wanted != "cpu":
            fleet.device = await asyncio.to_thread(choose, wanted, fleet.entry.memory)

    # --- memory -----------------------------------------------------------------------

    async def _make_room(self, fleet: Fleet) -> None:
        if not self._budget.limit:
            return
        await self._look_at_use(self._everything())
        loaded = [one for d in self._everything() for one in self._loaded(d, fleet)]
        title = fleet.entry.title
        going = set(self._budget.admit(self._need(fleet), loaded, title=title))
        # Looked up before the first wait: a model may be unregistered while another one drains.
        for evicted in [d for d in self._everything() if (d.entry.name, d.version) in going]:
            _log.info("model_makes_room", model=evicted.entry.title, for_=title)
            await self.unload(evicted)

    def _need(self, fleet: Fleet) -> int:
        deployment, entry = fleet.deployment, fleet.entry
        measured = deployment.memory if entry.path == deployment.entry.path else 0
        return measured or entry.memory or estimate(entry.path) * entry.instances

    def _loaded(self, deployment: Deployment, coming: Fleet) -> list[Loaded]:
        """What a version holds, and what is being loaded beside it, but for the fleet to come."""
        entry, candidate = deployment.entry, deployment.candidate
        reason = ""
        if candidate is not None:
            reason = "is being swapped"
        elif entry.load == "now" and entry.keep_alive < 0:
            reason = "is loaded for good"
        elif deployment.state != "ready":
            reason = f"is {deployment.state}"
        fleets = [fleet for fleet in (deployment.fleet, candidate) if fleet not in (None, coming)]
        return [
            Loaded(
                entry.name,
                entry.version,
                self._need(fleet),
                deployment.used_at,
                evictable=not reason,
                reason=reason,
            )
            for fleet in fleets
            if fleet is not None and (fleet.started or fleet is candidate)
        ]

    def measure_soon(self, deployment: Deployment) -> None:
        """Note what a version takes once it is ready."""
        self._tasks.spawn(self._measure_when_ready(deployment), "measure")

    async def _measure_when_ready(self, deployment: Deployment) -> None:
        try:
            await deployment.model.wait_until(
                lambda: deployment.state == "ready", self._config.load_timeout, deployment
            )
        except MlosError:
            return
        pids = [worker.pid for worker in deployment.fleet.workers if worker.pid]
        held = await asyncio.to_thread(pss_of, pids)
        if held and deployment.state == "ready":
            deployment.memory = sum(held.values())

    # --- unloading --------------------------------------------------------------------

    async def unload(self, deployment: Deployment) -> None:
        """Drain the workers of a version; it stays registered, and its channels open.

        Raises:
            DeadlineExceeded: they did not end, although they were told to and then killed.
        """
        if deployment.asleep or deployment.unloading:
            return
        deployment.unloading = True
        self._supervisor.unload(deployment)
        title = deployment.entry.title
        # Who asked may hang up: half an unload would be a version that nothing starts again.
        task = self._tasks.spawn(self._unload(deployment), f"unload {title}")
        try:
            async with asyncio.timeout(self._config.drain_timeout * 2):
                await asyncio.shield(task)
        except TimeoutError:
            raise DeadlineExceeded(
                f"the workers of {title!r} do not end, although they were killed",
                hint="see what they wait for in the kernel; the unload goes on",
            ) from None
        await self._supervisor.release_hosts()

    async def _unload(self, deployment: Deployment) -> None:
        supervisor, model = self._supervisor, deployment.model
        try:
            while any(worker.fleet.retired for worker in deployment.workers):
                await model.next_change()
        finally:
            deployment.unloading = False
        if not deployment.fleet.retired:
            return  # a swap that had begun before has put another fleet in its place
        if deployment.ending is None:
            supervisor.anew(deployment)
        deployment.unloaded = True
        _log.info("model_unloaded", model=deployment.entry.title)
        self.sentries.look(deployment)
        model.changed()
        self._tasks.spawn(supervisor.release_hosts(), "release hosts")

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._period())
            self.sentries.look_around()
            mortal = [d for d in self._everything() if d.entry.keep_alive >= 0]
            ready = [d for d in mortal if d.state == "ready"]
            await self._look_at_use(ready)
            now = self._loop.time()
            for deployment in ready:
                idle = now - deployment.used_at >= deployment.entry.keep_alive
                if idle and deployment.candidate is None and deployment.state == "ready":
                    await self._let_go(deployment)

    async def _let_go(self, deployment: Deployment) -> None:
        try:
            await self.unload(deployment)
        except MlosError as err:
            _log.error("not_unloaded", model=deployment.entry.title, reason=str(err))

    def _period(self) -> float:
        shortest = min(
            (d.entry.keep_alive for d in self._everything() if d.entry.keep_alive >= 0),
            default=_PERIOD[1],
        )
        return min(max(shortest / 4, _PERIOD[0]), _PERIOD[1])

    def _everything(self) -> list[Deployment]:
        models: list[ManagedModel] = list(self._supervisor.models.values())
        return [deployment for model in models for deployment in model.deployments.values()]

    async def _look_at_use(self, deployments: list[Deployment]) -> None:
        """Note which of them had requests since the last look, or have some now."""
        workers = [w for d in deployments for w in d.workers if w.state == "ready"]
        if workers:
            await asyncio.gather(*(worker.ask_stats(_STATS_TIMEOUT) for worker in workers))
        now = self._loop.time()
        for deployment in deployments:
            living = [worker.stats for worker in deployment.workers]
            seen = deployment.past.total.requests + sum(one.requests for one in living)
            busy = any(one.running or one.pending for one in living)
            if seen != deployment.requests_seen or busy:
                deployment.used_at = now
            deployment.requests_seen = seen
