# SPDX-License-Identifier: BUSL-1.1
"""Deaths at chosen lines, and a small storm; see `crash_points` and `install_storm`."""

import importlib.util
import os
from pathlib import Path

import pytest

from axon_client import net
from tests.axon import crash_points

STORM = Path(__file__).resolve().parent.parent / "system" / "install_storm.py"
EVERY = {"install": 43, "replace": 43, "uninstall": 19, "gc": 19}


@pytest.fixture
def rig(tmp_path, monkeypatch):
    monkeypatch.setattr(net, "download", net.download)  # put back afterwards
    monkeypatch.setattr(os, "fsync", os.fsync)
    return crash_points.Rig(tmp_path)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("operation", sorted(crash_points.OPERATIONS))
def test_a_process_that_dies_at_any_line_harms_nothing(rig, operation):
    total = rig.lines(operation)
    for at in range(1, total + 1, EVERY[operation]):
        rig.die(operation, at)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_rig_that_is_wrong_is_noticed(rig, monkeypatch):
    """The storm of deaths would not see a fault if its own checks saw none."""
    monkeypatch.setattr(crash_points, "check_tidy", lambda store, where: None)
    rig.fresh()
    store = crash_points.Store(rig.home, layers=())
    victim = next(iter(store.blobs.iterdir()))
    victim.chmod(0o600)
    victim.write_bytes(b"damaged")
    with pytest.raises(AssertionError, match="here"):
        crash_points.check_sound(store, "gc", "here")


def test_a_storm_of_installations_leaves_a_sound_store_and_fetches_nothing_twice(tmp_path):
    spec = importlib.util.spec_from_file_location("install_storm", STORM)
    storm = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(storm)
    made = storm.one_round(
        tmp_path, 7, processes=6, models=3, blobs=6, most_bytes=200_000, kill_every=0.05
    )
    assert made.again <= made.allowed
