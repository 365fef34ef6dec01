# SPDX-License-Identifier: BUSL-1.1
import os
import subprocess
import sys

from mlos_core.daemon import adoption, procs
from mlos_core.daemon.adoption import Record, WorkersFile


def sleeper():
    return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)


def record(pid, started, owner=1):
    return Record(owner, 0, pid, started, "echo")


def test_a_process_is_known_by_pid_and_start_time():
    with sleeper() as process:
        started = procs.start_time(process.pid)
        fd = procs.open_if_same(process.pid, started)
        assert fd >= 0
        assert not procs.ended(fd)
        assert procs.open_if_same(process.pid, started + 1) == -1
        procs.kill(fd)
        process.wait()
        assert procs.ended(fd)
        procs.kill(fd)
        os.close(fd)
        assert procs.open_if_same(process.pid, started) == -1


def test_a_zombie_is_not_alive():
    with sleeper() as process:
        started = procs.start_time(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert procs.open_if_same(process.pid, started) == -1


def test_only_workers_that_still_live_survive(tmp_path):
    file = WorkersFile(tmp_path / "workers.json")
    with sleeper() as process:
        started = procs.start_time(process.pid)
        file.save([record(process.pid, started), record(os.getpid(), 1, owner=2)])
        found = adoption.survivors(file.load())
        assert [s.record.owner for s in found.values()] == [1]
        adoption.kill(found[process.pid])
        adoption.release(found[process.pid])


def test_a_damaged_workers_file_means_no_survivors(tmp_path):
    (tmp_path / "workers.json").write_text("nonsense")
    assert WorkersFile(tmp_path / "workers.json").load() == []
    assert WorkersFile(tmp_path / "absent.json").load() == []
