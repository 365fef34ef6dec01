# SPDX-License-Identifier: BUSL-1.1
"""Put the calling process onto processors and a NUMA node.

Memory is preferred on the node, not bound to it (MPOL_PREFERRED): where the node is full a
bound worker would be killed while the neighbour has room, a preferring one is only slower.
Both settings are a thread's own and new threads inherit them, so this is called before the
framework starts its threads. Memory that lies somewhere already stays there.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from mlos_core.errors import InvalidInput, Unsupported
from mlos_core.resources.cpus import (
    ANY_NODE,
    SYSFS,
    check_placement,
    cpus_of_node,
    format_cpus,
    nodes,
)

_MPOL_PREFERRED: Final = 1
_SET_MEMPOLICY: Final = {
    "x86_64": 238,
    "aarch64": 237,
    "riscv64": 237,
    "ppc64le": 261,
    "s390x": 270,
}
_MASK_BITS: Final = 1024


def apply_placement(cpus: Iterable[int] = (), node: int = ANY_NODE, sysfs: Path = SYSFS) -> None:
    """Run on `cpus` from now on, and take memory from `node` while it has some.

    Without `cpus` a node means the processors of that node. On a machine of one node there is
    nothing to choose, and node 0 is always fine.

    Args:
        cpus: processors; none leaves the choice as it is.
        node: NUMA node; -1 leaves memory as it is.
        sysfs: where the machine describes itself.

    Raises:
        InvalidInput: the machine has no such processor or node, or this process may not
            run there.
        Unsupported: the kernel refuses a memory policy.
    """
    wanted = set(cpus)
    check_placement(wanted, node, sysfs)
    if not wanted and node != ANY_NODE:
        wanted = set(cpus_of_node(node, sysfs))
    if wanted:
        _run_on(wanted)
    if node != ANY_NODE and len(nodes(sysfs)) > 1:
        _prefer(node)


def _run_on(wanted: set[int]) -> None:
    try:
        os.sched_setaffinity(0, wanted)
    except OSError as err:
        raise InvalidInput(
            f"a worker cannot run on the processors {format_cpus(wanted)}: {err.strerror}",
            hint=f"this process may run on {format_cpus(os.sched_getaffinity(0))}",
        ) from err
    got = os.sched_getaffinity(0)  # the kernel leaves out what a cpuset forbids
    if got != wanted:
        raise InvalidInput(
            f"of the processors {format_cpus(wanted)} a worker may only use {format_cpus(got)}",
            hint="a cpuset of this container or service leaves out the others",
        )


def _prefer(node: int) -> None:
    number = _SET_MEMPOLICY.get(os.uname().machine)
    if number is None or node >= _MASK_BITS:
        raise Unsupported(
            f"memory on NUMA node {node} cannot be preferred on {os.uname().machine}",
            hint="leave out the NUMA node and give its processors: memory follows them",
        )
    mask = (ctypes.c_ulong * (_MASK_BITS // (8 * ctypes.sizeof(ctypes.c_ulong))))()
    width = 8 * ctypes.sizeof(ctypes.c_ulong)
    mask[node // width] = 1 << (node % width)
    libc = ctypes.CDLL(None, use_errno=True)
    policy = ctypes.c_long(_MPOL_PREFERRED)
    if libc.syscall(ctypes.c_long(number), policy, mask, ctypes.c_ulong(_MASK_BITS + 1)) != 0:
        code = ctypes.get_errno()
        raise Unsupported(
            f"the kernel refuses a memory policy: {errno.errorcode.get(code, code)}",
            hint="leave out the NUMA node, or allow set_mempolicy in the container's profile",
        )
