# SPDX-License-Identifier: BUSL-1.1
"""Who has nothing to do does nothing."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

WINDOW_S = 2.0
CLIENT = """
import sys, time
began = time.perf_counter()
from mlos_core.client import connect
import numpy as np
imported = time.perf_counter()
with connect(sys.argv[1]) as client:
    model = client.model("m")
    model.infer({"x": np.zeros(16, np.float32)})
    done = time.perf_counter()
    print(f"import {1000 * (imported - began):.0f} ms, to the first answer "
          f"{1000 * (done - imported):.0f} ms", flush=True)
    sys.stdin.readline()
"""


def ticks(pid):
    """User and system time of a process and its threads, in ticks of the clock."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def at_rest(pids):
    """The ticks of each process, once a second has gone by without one."""
    end = time.monotonic() + 30
    before = None
    while (now := [ticks(pid) for pid in pids]) != before:
        assert time.monotonic() < end, "they do not come to rest"
        before = now
        time.sleep(1.0)
    return before


def used(pids):
    """Ticks of each in a window. Looking around once a second fills one in some minutes."""
    before = at_rest(pids)
    time.sleep(WINDOW_S)
    return [ticks(pid) - then for pid, then in zip(pids, before, strict=True)]


@pytest.mark.parametrize("http", ["false", "true"])
def test_daemon_worker_and_client_use_no_processor_while_idle(daemons, echo_file, http):
    began = time.perf_counter()
    daemon = daemons().start(MLOS_HTTP=http, MLOS_HTTP_PORT="0")
    print(f"mlosd is ready after {1000 * (time.perf_counter() - began):.0f} ms")
    daemon.call("register", name="m", path=echo_file())
    (worker,) = daemon.call("model", name="m")["workers"]
    client = subprocess.Popen(
        [sys.executable, "-P", "-c", CLIENT, str(daemon.socket)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=dict(os.environ),
    )
    with client:
        try:
            print(client.stdout.readline().decode().strip())
            pids = [daemon.pid, worker["pid"], client.pid]
            windows = [used(pids), used(pids)]
            assert [0, 0, 0] in windows, windows
        finally:
            client.stdin.close()
    assert client.returncode == 0
