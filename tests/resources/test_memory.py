# SPDX-License-Identifier: BUSL-1.1
import os

import pytest

from mlos_core.errors import NotFound
from mlos_core.resources import memory

GIB = 1 << 30


def rollup(proc, pid, **fields):
    folder = proc / str(pid)
    folder.mkdir()
    lines = [f"{name}: {kib:8d} kB\n" for name, kib in fields.items()]
    (folder / "smaps_rollup").write_text(
        "5581-7ffd ---p 00000000 00:00 0 [rollup]\n" + "".join(lines)
    )


def test_shares_are_summed_per_process_and_the_dead_are_left_out(tmp_path):
    rollup(tmp_path, 5, Rss=100, Pss=40, Private_Clean=1, Private_Dirty=2)
    rollup(tmp_path, 6, Rss=100, Pss=30, Private_Clean=0, Private_Dirty=0)
    assert memory.pss_of([5, 6, 7], tmp_path) == {5: 40 << 10, 6: 30 << 10}


def test_this_process_holds_memory():
    pid = os.getpid()
    assert memory.pss_of([pid])[pid] > 0


def test_an_estimate_counts_every_file_once(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.bin").write_bytes(bytes(1000))
    (tmp_path / "deep" / "b.bin").write_bytes(bytes(200))
    (tmp_path / "link.bin").symlink_to("a.bin")
    (tmp_path / "deep" / "hard.bin").hardlink_to(tmp_path / "a.bin")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert memory.estimate(tmp_path, factor=1.0) == 1200
    assert memory.estimate(tmp_path) == 1200 * memory.ESTIMATE_FACTOR
    assert memory.estimate(tmp_path / "a.bin", factor=2.0) == 2000


def test_an_estimate_of_nothing_is_an_error(tmp_path):
    with pytest.raises(NotFound, match="nothing at"):
        memory.estimate(tmp_path / "absent")


@pytest.fixture
def machine(tmp_path):
    """8 GiB left on the machine; a cgroup in a cgroup."""
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\nHugePages: 0\n")
    (proc / "self" / "cgroup").write_text("4:memory:/old\n0::/outer/inner\n")
    (cgroups / "outer" / "inner").mkdir(parents=True)
    return proc, cgroups


def limit(folder, most, used, droppable=0):
    (folder / "memory.max").write_text(f"{most}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {droppable}\nactive_file 7\n")


def test_without_a_limit_the_machine_says_what_is_left(machine):
    proc, cgroups = machine
    limit(cgroups / "outer" / "inner", "max", GIB)
    assert memory.available(proc, cgroups) == 8 * GIB


def test_the_tightest_cgroup_counts_and_page_cache_can_go(machine):
    proc, cgroups = machine
    limit(cgroups / "outer", 4 * GIB, 3 * GIB, droppable=GIB // 2)
    limit(cgroups / "outer" / "inner", 6 * GIB, GIB)
    assert memory.available(proc, cgroups) == GIB + GIB // 2


def test_a_group_over_its_limit_leaves_nothing(machine):
    proc, cgroups = machine
    limit(cgroups / "outer", GIB, 2 * GIB)
    assert memory.available(proc, cgroups) == 0


def test_this_machine_has_memory_left():
    assert memory.available() > 0
