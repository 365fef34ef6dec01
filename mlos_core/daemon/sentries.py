# SPDX-License-Identifier: BUSL-1.1
"""One sentry for each unloaded version that clients still have channels to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from mlos_core.daemon.deployment import Deployment
from mlos_core.daemon.logs import Log
from mlos_core.errors import MlosError
from mlos_core.ipc import bell
from mlos_core.ipc.sentry import Sentry

_log = Log("sentries")


class _Post:
    """A sentry, its thread, and what it looks at."""

    def __init__(self, deployment: Deployment, called: Callable[[], None]) -> None:
        self.channels = frozenset(channel.id for channel in deployment.channels)
        self._model = deployment.model
        self._lane = self._model.lanes.take()
        try:
            segments = [channel.segment for channel in deployment.channels]
            self._sentry = Sentry(self._model.bell, self._lane, segments)
        except BaseException:
            self._model.lanes.give_back(self._lane)
            raise
        self._called = called
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._watch, name="sentry", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        if self._sentry.wait():
            self._loop.call_soon_threadsafe(self._called)

    def stop(self) -> None:
        self._sentry.stop()
        self._thread.join()
        self._sentry.close()
        bell.clear_lane(self._model.bell, self._lane)
        self._model.lanes.give_back(self._lane)


class Sentries:
    """Calls `wanted` with a version that is not loaded when a request for it comes."""

    def __init__(self, wanted: Callable[[Deployment], None]) -> None:
        self._wanted = wanted
        self._posts: dict[Deployment, _Post] = {}

    def look(self, deployment: Deployment) -> None:
        """Have a sentry stand where one is needed, looking at what there is to look at."""
        post = self._posts.get(deployment)
        needed = deployment.asleep and not deployment.unloading and bool(deployment.channels)
        if post is not None:
            if needed and post.channels == {channel.id for channel in deployment.channels}:
                return
            self.relieve(deployment)
        if not needed or deployment.model.bell < 0:
            return
        try:
            self._posts[deployment] = _Post(deployment, lambda: self._called(deployment))
        except MlosError as err:
            _log.error("no_sentry", model=deployment.entry.title, reason=str(err))

    def _called(self, deployment: Deployment) -> None:
        if deployment in self._posts:
            self.relieve(deployment)
            self._wanted(deployment)

    def relieve(self, deployment: Deployment) -> None:
        """Its workers look themselves from now on."""
        post = self._posts.pop(deployment, None)
        if post is not None:
            post.stop()

    def look_around(self) -> None:
        """Look at every post again: channels have gone, or models."""
        for deployment in list(self._posts):
            self.look(deployment)

    def stop(self) -> None:
        """All of them go."""
        for deployment in list(self._posts):
            self.relieve(deployment)
