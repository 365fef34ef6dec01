# SPDX-License-Identifier: BUSL-1.1
"""One version of a model as the daemon runs it, and the fleets of workers it runs on.

A fleet is the workers of one registration on one generation of its plugin's host. While a
version is swapped there are two: the candidate takes no channel before it is proven, and the
old one drains once the candidate serves them all.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Literal

from mlos_core.daemon.counters import Ledger
from mlos_core.daemon.entry import ModelEntry
from mlos_core.daemon.restarts import RestartPolicy, Restarts
from mlos_core.daemon.worker import Worker
from mlos_core.errors import MlosError
from mlos_core.types import Signature

if TYPE_CHECKING:
    from mlos_core.daemon.channels import Channel
    from mlos_core.daemon.host import PluginHost
    from mlos_core.daemon.model import ManagedModel

State = Literal["registered", "loading", "warming", "ready", "draining", "failed", "unloaded"]


class Instance:
    """One of a fleet's places for a worker."""

    def __init__(self, index: int, policy: RestartPolicy) -> None:
        self.index = index
        self.restarts = Restarts(policy)
        self.worker: Worker | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.given_up = False


class Fleet:
    """The workers of one registration.

    `held` fleets take no channel yet: what joins, and when, a swap decides. `host` is the
    plugin host to fork from; none means the current one of the plugin. `expects` is the
    signature that clients rely on, `device` the one its workers get, `samples` a memory file
    of requests to warm with, which belongs to the fleet.
    """

    def __init__(
        self,
        deployment: Deployment,
        entry: ModelEntry,
        policy: RestartPolicy,
        *,
        held: bool = False,
        host: PluginHost | None = None,
    ) -> None:
        self.deployment = deployment
        self.entry = entry
        self.instances = [Instance(index, policy) for index in range(entry.instances)]
        self.held = held
        self.host = host
        self.device = entry.device
        self.expects: Signature | None = None
        self.samples = -1
        self.started = False
        self.ever_ready = False
        self.retired = False
        self.error: MlosError | None = None

    @property
    def model(self) -> ManagedModel:
        """Whose version this is."""
        return self.deployment.model

    @property
    def workers(self) -> list[Worker]:
        """Its workers that live."""
        return [worker for worker in self.model.workers.values() if worker.fleet is self]

    @property
    def proven(self) -> bool:
        """Whether one of its workers serves and was proven."""
        return any(worker.proven and worker.serves for worker in self.workers)

    @property
    def all_proven(self) -> bool:
        """Whether every place that is not given up has a worker that serves and was proven."""
        places = [instance for instance in self.instances if not instance.given_up]
        workers = [instance.worker for instance in places]
        return bool(places) and all(w is not None and w.proven and w.serves for w in workers)

    @property
    def joined(self) -> bool:
        """Whether its workers have said that they serve all channels they were given."""
        return not any(worker.asked for worker in self.workers)

    @property
    def signature(self) -> Signature | None:
        """As one of its workers reported it."""
        found = (worker.signature for worker in self.workers)
        return next((signature for signature in found if signature is not None), None)

    def retire(self) -> None:
        """No further start; its workers end as they will."""
        self.retired = True
        for instance in self.instances:
            if instance.timer is not None:
                instance.timer.cancel()
                instance.timer = None
        self.forget_samples()

    def forget_samples(self) -> None:
        """Whoever starts from now on is warmed with zeros: its forerunners serve already."""
        if self.samples >= 0:
            os.close(self.samples)
            self.samples = -1


class Deployment:
    """One version of a model.

    `used_at` is when it last had a request, as far as is known, on the event loop's clock;
    `memory` what its workers take, in bytes, 0 before it was measured.
    """

    def __init__(self, model: ManagedModel, entry: ModelEntry, policy: RestartPolicy) -> None:
        self.model = model
        self.fleet = Fleet(self, entry, policy)
        self.candidate: Fleet | None = None
        self.unloading = False
        self.unloaded = False
        self.removed: MlosError | None = None
        self.previous = ""
        self.used_at = asyncio.get_running_loop().time()
        self.requests_seen = 0
        self.memory = 0
        self.restarts = 0
        self.past = Ledger()
        self._signature: Signature | None = None

    @property
    def entry(self) -> ModelEntry:
        """The registration that serves."""
        return self.fleet.entry

    @property
    def version(self) -> str:
        """As registered."""
        return self.fleet.entry.version

    @property
    def error(self) -> MlosError | None:
        """Why it failed, if it did."""
        return self.fleet.error

    @property
    def ending(self) -> MlosError | None:
        """Why it goes, if it does."""
        return self.removed or self.model.ending

    @property
    def signature(self) -> Signature | None:
        """As a worker of the serving fleet reported it, also after it was unloaded."""
        self._signature = self.fleet.signature or self._signature
        return self._signature

    @property
    def state(self) -> State:
        """What the user is told."""
        if self.model.unloaded:
            return "unloaded"
        if self.ending is not None or self.unloading:
            return "draining"
        if self.error is not None:
            return "failed"
        if self.fleet.proven:
            return "ready"
        if not self.fleet.started:
            return "unloaded" if self.unloaded else "registered"
        states = {worker.state for worker in self.fleet.workers}
        return "warming" if states & {"warming", "ready"} else "loading"

    @property
    def asleep(self) -> bool:
        """Not loaded, and nothing is wrong: the next request loads it."""
        return not self.fleet.started and self.error is None and self.ending is None

    @property
    def routable(self) -> bool:
        """Whether requests may be sent its way: it serves, or can be loaded."""
        able = self.fleet.ever_ready or self.unloaded or self.entry.load == "demand"
        return able and self.error is None and self.ending is None

    @property
    def workers(self) -> list[Worker]:
        """Its workers that live, of both fleets and of those that drain."""
        return [w for w in self.model.workers.values() if w.fleet.deployment is self]

    @property
    def channels(self) -> list[Channel]:
        """The channels it answers."""
        return [c for c in self.model.channels.values() if c.deployment is self]

    def fold(self, worker: Worker) -> None:
        """Keep the counters of a worker that is gone."""
        self.past.fold(worker.spec.version, worker.stats)
        self.past.keep(self.served)

    @property
    def served(self) -> list[str]:
        """The versions that its workers serve: two while one takes the other's place."""
        versions = [self.version, *(worker.spec.version for worker in self.workers)]
        return list(dict.fromkeys(versions))

    def raise_if_over(self) -> None:
        """Raise if it will never be ready: it failed, or it goes."""
        for error in (self.ending, self.error):
            if error is not None:
                raise type(error)(error.message, hint=error.hint)
