# SPDX-License-Identifier: BUSL-1.1
"""The crash build, once for all tests here."""

import os

import pytest

from tests import crash


@pytest.fixture(scope="session")
def crash_build(tmp_path_factory):
    """The environment of processes that use the build with crash points."""
    return crash.build(tmp_path_factory.mktemp("crash"))


@pytest.fixture
def crashing(daemons, crash_build):
    """`crashing()` makes a daemon of that build."""

    def make(**environ):
        path = os.pathsep.join((crash_build["PYTHONPATH"], os.environ.get("PYTHONPATH", "")))
        return daemons(**{**crash_build, "PYTHONPATH": path.rstrip(os.pathsep), **environ})

    return make
