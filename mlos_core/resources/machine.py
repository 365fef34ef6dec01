# SPDX-License-Identifier: BUSL-1.1
"""What this machine has, all in one, for who decides where a model is to run."""

from __future__ import annotations

import msgspec

from mlos_core.resources.cpus import cpus_of_node, format_cpus, nodes, online_cpus
from mlos_core.resources.memory import available
from mlos_core.resources.nvml import Gpu, inventory


class Machine(msgspec.Struct, frozen=True):
    """`cpus` as `--cpus` takes them, `nodes` the processors of each NUMA node, `available` the
    bytes that new processes may take, `no_gpu` why there is no GPU."""

    cpus: str
    nodes: dict[int, str]
    available: int
    gpus: tuple[Gpu, ...]
    no_gpu: str


def machine() -> Machine:
    """This machine as it is now, as far as this process may see it."""
    seen = inventory()
    return Machine(
        cpus=format_cpus(online_cpus()),
        nodes={node: format_cpus(cpus_of_node(node)) for node in nodes()},
        available=available(),
        gpus=seen.gpus,
        no_gpu=seen.reason,
    )
