# SPDX-License-Identifier: BUSL-1.1
"""A process is killed at every crash point, and the others go on; see `crash_case.py`."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CRASH_H = HERE.parents[1] / "csrc" / "ipc" / "crash.h"


def load_build():
    spec = importlib.util.spec_from_file_location("crash_build", HERE.parent / "crash.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.build


def points():
    """(side, point) of every crash point, as the header's comments name the side."""
    found = []
    text = CRASH_H.read_text()
    for name, moves, side in re.findall(r"X\(([A-Z]+)(, \w+, \w+)?\)\s*/\* (client|worker):", text):
        names = [f"BEFORE_{name}", f"AFTER_{name}"] if moves else [name]
        found += [(side, point) for point in names]
    return found


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Run `crash_case.py` under the build with crash points; what it prints."""
    environ = {**os.environ, **load_build()(tmp_path_factory.mktemp("crash-build"))}

    def case(*arguments):
        done = subprocess.run(
            [sys.executable, "-P", str(HERE / "crash_case.py"), *map(str, arguments)],
            env=environ,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return case


def test_every_crash_point_of_the_build_is_in_these_tests(run):
    assert sorted(run("--list").split()) == sorted(point for _, point in points())


@pytest.mark.parametrize(("side", "point"), points())
def test_a_death_at_the_point_costs_nobody_an_answer(run, side, point):
    run(side, point)
