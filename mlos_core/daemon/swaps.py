# SPDX-License-Identifier: BUSL-1.1
"""Replacing what serves while traffic flows.

A swap has five moments. The candidates load and warm beside what serves, and take no channel.
When every one of them is proven they join: they get the channels that the old fleets serve.
In the canary window, if there is one, both serve. Then the candidates take the place of the
old fleets, which stop claiming, finish what they hold, and leave. Until that moment anything
that goes wrong ends the candidates, and the old fleets have noticed nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from mlos_core.config import Config
from mlos_core.daemon.deployment import Deployment, Fleet
from mlos_core.daemon.entry import ModelEntry
from mlos_core.daemon.host import PluginHost
from mlos_core.daemon.logs import Log
from mlos_core.daemon.supervisor import Supervisor
from mlos_core.errors import DeadlineExceeded, InvalidInput, ModelFailed, Unavailable

LONGEST_CANARY: Final = 7 * 24 * 3600
_LOOK: Final = 0.1
_ENOUGH: Final = 5
"""Failures after which a canary is judged before its window ends."""
_STATS_TIMEOUT: Final = 1.0
_LEAVE_TIMEOUT: Final = 10.0
_log = Log("swaps")


class Change(msgspec.Struct, frozen=True):
    """What one version is to be replaced by. `host` is where its workers come from."""

    deployment: Deployment
    entry: ModelEntry
    host: PluginHost | None = None


class Canary(msgspec.Struct, frozen=True):
    """How long both serve, and which share of failures of the new ones is too much."""

    seconds: float = 0.0
    max_error_rate: float = 0.05


def canary_of(seconds: float, max_error_rate: float) -> Canary:
    """A canary as a user asks for it; raises `InvalidInput` for an impossible one."""
    if not (0 <= seconds <= LONGEST_CANARY and 0 <= max_error_rate <= 1):
        raise InvalidInput(
            "the canary's window or error rate is not possible",
            hint=f"canary is seconds, from 0 to {LONGEST_CANARY}; max_error_rate lies between 0 "
            "and 1",
        )
    return Canary(seconds, max_error_rate)


class Swaps:
    """Carries swaps out, all of their changes or none."""

    def __init__(self, config: Config, supervisor: Supervisor) -> None:
        self._config = config
        self._supervisor = supervisor
        self._loop = asyncio.get_running_loop()

    async def swap(
        self,
        changes: Sequence[Change],
        canary: Canary,
        within: float,
        *,
        same_signature: bool = True,
        promoted: Callable[[], None] = lambda: None,
    ) -> None:
        """Replace all of them.

        Args:
            changes: at most one of each version.
            canary: the trial under real traffic.
            within: seconds until every candidate must be proven.
            same_signature: refuse candidates that clients of the old ones cannot use.
            promoted: called in the moment in which the candidates have taken over.

        Raises:
            MlosError: why the candidates were given up; what served goes on as it was.
        """
        fleets: list[Fleet] = []
        try:
            for change in changes:
                fleets.append(await self._begin(change, same_signature))
            end = self._loop.time() + within
            for fleet in fleets:
                await self._wait(fleet, lambda fleet=fleet: fleet.all_proven, end)  # type: ignore[misc]
            await self._join(fleets, end)
            await self._watch(fleets, canary)
            for fleet in fleets:  # one may have been unloaded while another was waited for
                _raise_if_over(fleet)
        except BaseException as err:
            for fleet in fleets:
                self._supervisor.abandon(fleet)
            _log.warning("swap_rolled_back", models=_titles(fleets), reason=str(err))
            if isinstance(err, Exception):
                await self._see_off(fleets)
            raise
        old = [self._supervisor.promote(fleet) for fleet in fleets]
        promoted()
        await self._see_off(old)
        for fleet in fleets:
            self._supervisor.loader.measure_soon(fleet.deployment)

    async def _begin(self, change: Change, same_signature: bool) -> Fleet:
        deployment = change.deployment
        fleet = self._supervisor.begin_candidate(deployment, change.entry, change.host)
        if same_signature:
            fleet.expects = deployment.signature
        try:
            if same_signature:  # what the old one answered need not fit another signature
                fleet.samples = await self._samples(deployment)
            await self._supervisor.loader.admit(fleet)
            _raise_if_over(fleet)
        except BaseException:
            self._supervisor.abandon(fleet)
            raise
        self._supervisor.fill(fleet)
        return fleet

    async def _samples(self, deployment: Deployment) -> int:
        """A memory file of requests that the serving workers remember; -1: none."""
        for worker in deployment.fleet.workers:
            if worker.serves:
                return await worker.ask_samples(_STATS_TIMEOUT)
        return -1

    async def _wait(self, fleet: Fleet, predicate: Callable[[], bool], end: float) -> None:
        while not predicate():
            _raise_if_over(fleet)
            try:
                async with asyncio.timeout_at(end):
                    await fleet.model.next_change()
            except TimeoutError:
                raise DeadlineExceeded(
                    f"the new {fleet.entry.title} was not ready in time",
                    hint="give it more time with --timeout; the old one goes on",
                ) from None

    async def _join(self, fleets: Sequence[Fleet], end: float) -> None:
        for fleet in fleets:
            for worker in fleet.workers:
                self._supervisor.admit(worker)
        for fleet in fleets:
            await self._wait(fleet, lambda fleet=fleet: fleet.joined, end)  # type: ignore[misc]
            _raise_if_over(fleet)

    # --- the trial --------------------------------------------------------------------

    async def _watch(self, fleets: Sequence[Fleet], canary: Canary) -> None:
        end = self._loop.time() + canary.seconds
        while canary.seconds > 0:
            left = end - self._loop.time()
            await asyncio.sleep(max(0.0, min(_LOOK, left)))
            for fleet in fleets:
                _raise_if_over(fleet)
                await self._judge(fleet, canary, last=left <= _LOOK)
            if left <= _LOOK:
                return

    async def _judge(self, fleet: Fleet, canary: Canary, *, last: bool) -> None:
        asked = (worker.ask_stats(_STATS_TIMEOUT) for worker in fleet.workers)
        stats = await asyncio.gather(*asked)
        requests = sum(one.requests for one in stats)
        failures = sum(one.failures for one in stats)
        if not last and failures < _ENOUGH:
            return
        if failures > canary.max_error_rate * requests:
            raise ModelFailed(
                f"the new {fleet.entry.title} failed {failures} of {requests} requests in its "
                "trial and was taken back",
                hint="see the daemon's log; the old one goes on",
            )

    # --- the end ----------------------------------------------------------------------

    async def _see_off(self, fleets: Sequence[Fleet]) -> None:
        """Wait until the workers that go claim nothing more; what they hold they may finish."""
        for fleet in fleets:
            end = self._loop.time() + _LEAVE_TIMEOUT
            while any(not worker.left for worker in fleet.workers):
                try:
                    async with asyncio.timeout_at(end):
                        await fleet.model.next_change()
                except TimeoutError:
                    _log.warning("old_worker_lingers", model=fleet.entry.title)
                    break


def _raise_if_over(fleet: Fleet) -> None:
    for error in (fleet.deployment.ending, fleet.error):
        if error is not None:
            raise type(error)(error.message, hint=error.hint)
    if fleet.retired:
        raise Unavailable(
            f"the new {fleet.entry.title} was given up, for the model was unloaded meanwhile",
            hint="swap it again",
        )


def _titles(fleets: Sequence[Fleet]) -> str:
    return ",".join(fleet.entry.title for fleet in fleets)
