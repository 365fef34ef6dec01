# SPDX-License-Identifier: BUSL-1.1
"""The table of channels: those that are let go while requests of theirs are held."""

import os

import pytest

from mlos_core.ipc.messages import Serve
from mlos_core.worker.channels import Channels


class FakePort:
    """Gives places away and remembers who is to be told when one is free."""

    def __init__(self):
        self.gone = {}
        self._next = 0

    def attach(self, fd, event_fd, owner):
        os.close(fd)
        os.close(event_fd)
        self._next += 1
        return self._next - 1

    def detach(self, index, *, finish=False, gone=lambda: None):
        self.gone[index] = gone


@pytest.fixture
def descriptors():
    """`descriptors()` are three of which the last is remembered; `descriptors.open` counts."""

    class Descriptors:
        def __init__(self):
            self._made = []

        def __call__(self):
            fds = [os.memfd_create("x") for _ in range(3)]
            self._made.append((fds[2], os.fstat(fds[2]).st_ino))
            return fds

        @property
        def open(self):
            return sum(map(self._is_open, self._made))

        def _is_open(self, made):
            try:
                return os.fstat(made[0]).st_ino == made[1]
            except OSError:
                return False

    return Descriptors()


def test_a_channel_that_comes_and_goes_while_it_is_held_leaves_nothing_behind(descriptors):
    port, told = FakePort(), []
    channels = Channels(port)
    for _ in range(2):
        channels.attach(Serve("c", 1, 1), descriptors())
        channels.release("c", told.append)
    channels.attach(Serve("c", 1, 1), descriptors())
    assert descriptors.open == 3
    for index in (1, 0):
        port.gone[index]()
        assert not channels.released(told.pop())  # it is served again
    assert descriptors.open == 1
    channels.release("c", told.append)
    port.gone[2]()
    assert channels.released(told.pop())
    assert descriptors.open == 0


def test_a_channel_is_let_go_only_with_the_last_request_that_is_held_of_it(descriptors):
    port, told = FakePort(), []
    channels = Channels(port)
    for _ in range(2):
        channels.attach(Serve("c", 1, 1), descriptors())
        channels.release("c", told.append)
    port.gone[0]()
    assert not channels.released(told.pop())
    port.gone[1]()
    assert channels.released(told.pop())


def test_the_end_of_a_client_ends_what_is_held_of_all_its_times(descriptors):
    port = FakePort()
    channels = Channels(port)
    for _ in range(2):
        channels.attach(Serve("c", 1, 1), descriptors())
        channels.release("c", lambda name: None)
    port.gone.clear()
    channels.detach("c")
    assert set(port.gone) == {0, 1}
    assert descriptors.open == 0
