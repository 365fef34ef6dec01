# SPDX-License-Identifier: BUSL-1.1
"""A channel without a daemon; see `channel_rig`."""

import pytest
from channel_rig import Rig


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.close()


@pytest.fixture
def stepped(rig):
    """A model's handle, and the port of its worker, which the test steps by hand."""
    fds = rig.channel()
    return rig.model(fds), rig.port(fds)


@pytest.fixture
def served(rig):
    """A model's handle; a process of its own serves it."""
    fds = rig.channel()
    rig.serve([fds])
    return rig.model(fds)
