# SPDX-License-Identifier: BUSL-1.1
"""Who waits for requests where no worker is."""

import os
import threading

import numpy as np
from channel_layout import Segment

from mlos_core.ipc.sentry import Sentry

X = {"x": np.zeros(2)}


class Watch:
    """A sentry that waits in a thread; `seen` is what its wait returned."""

    def __init__(self, rig, *segments):
        self.sentry = Sentry(rig.bell_fd, 5, segments)
        self.seen = None
        self._thread = threading.Thread(target=self._wait)
        self._thread.start()

    def _wait(self):
        self.seen = self.sentry.wait()

    def ended(self):
        self._thread.join(30)
        assert not self._thread.is_alive()
        self.sentry.close()
        return self.seen


def test_a_sentry_sees_a_request_and_leaves_it_alone(rig):
    fds = rig.channel()
    model, watch = rig.model(fds), Watch(rig, fds[0])
    future = model.submit(X)
    assert watch.ended() is True
    request = rig.port(fds).poll()
    request.answer({"y": np.ones(2)})
    future.result()


def test_a_sentry_that_is_stopped_saw_nothing(rig):
    watch = Watch(rig, rig.channel()[0])
    watch.sentry.stop()
    assert watch.ended() is False


def test_a_sentry_sees_what_a_killed_worker_left(rig):
    fds = rig.channel()
    model = rig.model(fds)
    future = model.submit(X)
    worker = rig.serve([fds], lambda request: os.kill(os.getpid(), 9))
    assert rig.wait(worker) == 9
    assert Watch(rig, fds[0]).ended() is True
    port = rig.port(fds, owner=2)
    port.recover(0, 2, ())
    port.poll().answer({"y": np.ones(2)})
    future.result()


def test_a_client_that_scribbles_on_the_lanes_is_seen_all_the_same(rig):
    fds = rig.channel()
    model, watch = rig.model(fds), Watch(rig, fds[0])
    segment = Segment(fds[0])
    segment.set("lanes", 0)
    future = model.submit(X)
    assert watch.ended() is True
    segment.close()
    rig.port(fds).poll().answer({"y": np.ones(2)})
    future.result()
