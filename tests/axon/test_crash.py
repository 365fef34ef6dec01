# SPDX-License-Identifier: BUSL-1.1
"""Deaths at chosen lines, and a small storm; see `crash_points` and `install_storm`."""

import importlib.util
import os
from pathlib import Path

import pytest

from axon_client import net
from axon_client.store import disk
from tests.axon import crash_points

STORM = Path(__file__).resolve().parent.parent / "system" / "install_storm.py"
EVERY = {"install": 43, "replace": 43, "step aside": 67, "uninstall": 19, "gc": 19}


@pytest.fixture
def rigged(tmp_path, monkeypatch):
    """Make a rig; what it puts in place of the real functions is taken back afterwards."""
    for module, name in ((net, "download"), (os, "fsync"), (disk, "hard_link")):
        monkeypatch.setattr(module, name, getattr(module, name))
    return lambda links=True: crash_points.Rig(tmp_path, links)


@pytest.fixture
def rig(rigged):
    return rigged()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("operation", sorted(crash_points.OPERATIONS))
def test_a_process_that_dies_at_any_line_harms_nothing(rig, operation):
    total = rig.lines(operation)
    for at in range(1, total + 1, EVERY[operation]):
        rig.die(operation, at)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_nor_does_it_where_there_are_no_hard_links(rigged):
    rig = rigged(links=False)
    total = rig.lines("install")
    for at in range(20, total + 1, 120):
        rig.die("install", at)


def test_a_store_that_is_not_sound_is_noticed(rig):
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
