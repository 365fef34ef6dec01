# SPDX-License-Identifier: BUSL-1.1
"""The build of the extension in which processes can be ended at chosen moments.

`build(folder)` gives the environment of processes that shall use it. With `MLOS_CRASH_AT`
in it, every worker arms itself (see `native.arm_from_environment`); a client calls
`lib.mlos_crash_arm`.
"""

import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "csrc"
MODULE = "_channel_crash"
CLIENT_TRANSITIONS = ("FILL", "RELEASE")
WORKER_TRANSITIONS = ("TAKE", "ADOPT", "RECLAIM", "ANSWER")
CLIENT_STEPS = ("PUSHED", "RUNG")
WORKER_STEPS = ("POPPED", "ALLOCATED", "NOTED", "EMITTING", "EMITTED", "MARKED", "WOKEN")


def _points(transitions, steps):
    return tuple(f"{when}_{name}" for name in transitions for when in ("BEFORE", "AFTER")) + steps


CLIENT_POINTS = _points(CLIENT_TRANSITIONS, CLIENT_STEPS)
WORKER_POINTS = _points(WORKER_TRANSITIONS, WORKER_STEPS)


def build(folder):
    """Build it in `folder`; the environment variables that make a process use it."""
    options = ["-DMLOS_CRASH_POINTS=ON", "-DMLOS_SYNAPSE=OFF", f"-DMLOS_MODULE={MODULE}"]
    options += [f"-DPython_EXECUTABLE={sys.executable}"]
    for command in (
        ["cmake", "-S", str(SOURCE), "-B", str(folder), *options],
        ["cmake", "--build", str(folder), "-j2"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    return environment(folder)


def environment(folder):
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    return {"PYTHONPATH": path, "MLOS_CHANNEL_MODULE": MODULE}


def plan(points, most=40):
    """`MLOS_CRASH_AT` for workers that take turns at `points`, each after up to `most` passes.

    What only a successor passes, it passes seldom: there the first passes count.
    """
    rare = ("ADOPT", "RECLAIM")
    return ",".join(f"{p}:~{2 if p.endswith(rare) else most}" for p in points)
