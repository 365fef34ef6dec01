# SPDX-License-Identifier: BUSL-1.1
"""One process dies at one crash point; the others go on. Run under the crash build:

    python crash_case.py SIDE POINT

It dies at its first pass, and another one at its second. The process that dies is forked
from this one: a worker with requests in its hands, or a client with requests under way.
"""

import os
import select
import signal
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from channel_layout import FILLED, TAKEN, Segment
from channel_rig import PATIENCE, Rig, serve_one, step

from mlos_core.ipc.native import check, ffi, lib

SIZES = (0, 3, 600, 3, 2000, 1)
EVENTS = 5


def points():
    names, at = [], lib.mlos_crash_points()
    while at[0] != ffi.NULL:
        names.append(ffi.string(at[0]).decode())
        at += 1
    return names


def arm(point, passes):
    check(lib.mlos_crash_arm(point.encode(), passes))


def child(rig, act):
    """Fork; the child does `act` until it is killed."""
    pid = os.fork()
    if pid == 0:
        try:
            act()
        finally:
            os._exit(3)
    rig.pids.append(pid)
    return pid


def died_by_sigkill(rig, pid):
    status = rig.wait(pid)
    assert os.WIFSIGNALED(status), f"the process ended with {status}: the point was not passed"
    assert os.WTERMSIG(status) == signal.SIGKILL


# --- a worker dies ------------------------------------------------------------------------


def submit_all(model):
    futures = [
        (model.submit({"x": np.arange(float(n)) + i}), np.arange(float(n)) + i)
        for i, n in enumerate(SIZES)
    ]
    return futures, model.stream({"x": np.zeros(2)}, parameters={"events": EVENTS})


def check_all(futures, stream):
    assert list(stream) == [{"number": n} for n in range(EVENTS)]
    for future, x in futures:
        with future.result() as result:
            assert np.array_equal(result["y"], 2 * x + 1)


def orphans_for(point, rig, fds):
    """Deaths that must come before: only a successor adopts and reclaims."""
    before = {"ADOPT": "POPPED", "RECLAIM": "AFTER_TAKE"}.get(point.rpartition("_")[2])
    owner = 1
    if before:
        for owner in (1, 2):

            def die(owner=owner):
                arm(before, 1)
                port = rig.port(fds, owner=owner)
                while True:
                    port.poll()

            died_by_sigkill(rig, child(rig, die))
    return owner + 1


def worker_dies(point, passes):
    rig = Rig()
    fds, other = rig.channel(slots=16, event_bytes=256), rig.channel()
    model, neighbour = rig.model(fds), rig.model(other)
    futures, stream = submit_all(model)
    owner = orphans_for(point, rig, fds)

    def serve():
        arm(point, passes)
        port = rig.port(fds, owner=owner, lane=1)
        port.recover(0, owner, ())
        while True:
            serve_one(port.next(0.01))

    died_by_sigkill(rig, child(rig, serve))
    port = rig.port(fds, other, owner=owner + 1)
    port.recover(0, owner + 1, ())
    asked = neighbour.submit({"x": np.zeros(3)})
    ran = step(port)
    check_all(futures, stream)
    assert (asked.result()["y"] == 1).all()
    counters = port.counters()
    assert counters["answered"] == ran, "something was answered by force"
    assert counters["lost"] == 0
    assert step(port) == 0, "something was run once more"
    futures, stream = submit_all(model)  # and everything goes on
    step(port)
    check_all(futures, stream)
    settled(fds, model)
    rig.close()


def settled(fds, model):
    """No slot hangs, no memory is lost."""
    segment = Segment(fds[0])
    assert all(segment.state(slot) not in (FILLED, TAKEN) for slot in range(segment.slots))
    segment.close()
    link = model._link
    link.reap()
    while link._evict():
        pass
    usage = model.usage()
    assert usage["slots_free"] == usage["slots"]
    assert usage["request_bytes_used"] == 0


# --- a client dies ------------------------------------------------------------------------


def client_dies(point, passes):
    rig = Rig()
    fds, other = rig.channel(slots=2), rig.channel()
    neighbour = rig.model(other)
    port = rig.port(fds, other)

    def ask():
        model = rig.model(fds)
        arm(point, passes)
        for size in range(1, 100):
            futures = [model.submit({"x": np.zeros(size)}) for _ in range(2)]
            for future in futures:
                future.result()

    pid = child(rig, ask)
    pidfd = os.pidfd_open(pid)
    asked = [(neighbour.submit({"x": np.full(3, float(n))}), n) for n in range(5)]
    while not select.select([pidfd], [], [], 0)[0]:
        step(port, patience=2)
    os.close(pidfd)
    died_by_sigkill(rig, pid)
    step(port)
    for future, number in asked:
        assert (future.result()["y"] == 2 * number + 1).all()
    port.detach(0)
    step(port)
    assert port.channels() == [1], "the dead client's channel was not let go"
    again = rig.channel()
    assert port.attach(os.dup(again[0]), os.dup(again[1])) == 0
    future = rig.model(again).submit({"x": np.zeros(2)})
    step(port)
    assert (future.result()["y"] == 1).all()
    settled(other, neighbour)
    rig.close()


def main():
    signal.alarm(int(2 * PATIENCE))  # a hang is a failure
    if sys.argv[1:] == ["--list"]:
        print(*points(), sep="\n")
        return
    side, point = sys.argv[1:]
    for passes in (1, 2):
        {"client": client_dies, "worker": worker_dies}[side](point, passes)


if __name__ == "__main__":
    main()
