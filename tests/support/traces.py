# SPDX-License-Identifier: BUSL-1.1
"""What a daemon and all that it started have of the machine, read from /proc.

The processes of a daemon are those that have its run folder in their environment: also those
whose parents are gone.
"""

import os
from pathlib import Path

SHARED = Path("/dev/shm")


def processes(run_dir):
    """The pids of a daemon, its hosts and its workers, without those that have ended."""
    mark = f"MLOS_RUN_DIR={run_dir}\0".encode()
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if mark in (entry / "environ").read_bytes() + b"\0":
                    found.add(int(entry.name))
            except OSError:
                continue
    return found


def pss(pid):
    """Bytes of memory that count as this process's; what is shared counts in parts."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def name_of(pid):
    return Path(f"/proc/{pid}/comm").read_text().strip()


def descriptors(pid):
    """What it has open; places in a socket's or pipe's list do not matter."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(str(entry.readlink()).partition(":[")[0])
        except OSError:
            continue
    return sorted(found)


def threads(pid):
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())


def segments(pids):
    """Shared memory without a name that these processes have mapped."""
    found = set()
    for pid in pids:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            fields = line.split(maxsplit=5)
            if len(fields) == 6 and fields[5].startswith(("/dev/shm/", "/memfd:")):
                found.add((fields[3], fields[4]))
    return len(found)


def files(*folders):
    """Every file in these folders, by name."""
    return sorted(str(file) for folder in folders for file in Path(folder).rglob("*"))


def meminfo():
    """Bytes by name, of the whole machine."""
    rows = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows}


def names():
    """What has a name in /dev/shm."""
    return sorted(entry.name for entry in SHARED.iterdir())


def shared_memory_used():
    """Bytes in /dev/shm, named or not."""
    info = os.statvfs(SHARED)
    return (info.f_blocks - info.f_bfree) * info.f_frsize


def snapshot(run_dir, *folders):
    """All of it; `folders` are looked through for files."""
    pids = processes(run_dir)
    return {
        "processes": {pid: name_of(pid) for pid in sorted(pids)},
        "pss": {pid: pss(pid) for pid in sorted(pids)},
        "threads": {pid: threads(pid) for pid in sorted(pids)},
        "descriptors": {pid: descriptors(pid) for pid in sorted(pids)},
        "segments": segments(pids),
        "names": names(),
        "shared_memory": shared_memory_used(),
        "files": files(*folders),
        "available": meminfo()["MemAvailable"],
    }
