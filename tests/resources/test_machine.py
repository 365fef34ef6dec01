# SPDX-License-Identifier: BUSL-1.1
import os

from mlos_core.resources.cpus import parse_cpus
from mlos_core.resources.machine import machine


def test_this_machine_is_described():
    here = machine()
    everywhere = ",".join(filter(None, here.nodes.values()))
    assert set(parse_cpus(everywhere)) == set(parse_cpus(here.cpus)) >= os.sched_getaffinity(0)
    assert here.available > 0
    assert bool(here.gpus) != bool(here.no_gpu)
