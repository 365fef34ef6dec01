# SPDX-License-Identifier: BUSL-1.1
"""Segments as the daemon makes, closes and sweeps them."""

import os
from pathlib import Path

import pytest
from channel_layout import Segment

from mlos_core.errors import ChannelBroken, InvalidInput, OutOfMemory
from mlos_core.ipc import bell, channel
from mlos_core.ipc.messages import Problem

SHM = Path("/dev/shm")


def names():
    return {path.name for path in SHM.glob(f"mlos-{os.getpid()}-*")}


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_segment_has_no_name_and_all_its_memory():
    before = names()
    fd = channel.create(16, 1 << 20, 1 << 20)
    assert names() == before
    stat = os.fstat(fd)
    assert stat.st_blocks * 512 >= stat.st_size > 2 << 20
    assert stat.st_mode & 0o777 == 0o600
    mapping = channel.Mapping(fd, guarded=True)
    assert (mapping.slots, mapping.size) == (16, stat.st_size)
    assert mapping.request_bytes >= 1 << 20
    assert mapping.reply_bytes >= 1 << 20
    os.close(fd)


@pytest.mark.parametrize(
    ("slots", "request_bytes", "reply_bytes"), [(0, 1, 1), (1025, 1, 1), (1, 0, 1), (1, 1, 0)]
)
def test_an_impossible_geometry_is_refused(slots, request_bytes, reply_bytes):
    with pytest.raises(InvalidInput):
        channel.create(slots, request_bytes, reply_bytes)
    with pytest.raises(InvalidInput):
        channel.check_geometry(slots, request_bytes, reply_bytes)


def test_a_full_shm_is_a_clear_error_and_leaves_nothing():
    free = os.statvfs(SHM)
    too_much = free.f_blocks * free.f_frsize * 2
    before, fds = names(), open_files()
    with pytest.raises(OutOfMemory, match="/dev/shm has no room") as caught:
        channel.create(1, too_much, 4096)
    assert "smaller arenas" in caught.value.hint
    assert names() == before
    assert open_files() == fds


def test_the_reason_of_a_closed_channel_is_read():
    fd = channel.create(1, 4096, 4096)
    mapping = channel.Mapping(fd, guarded=False)
    assert mapping.reason() is None
    event_fd = os.eventfd(0, os.EFD_NONBLOCK)
    channel.close(fd, Problem("not_found", "m" * 5000, "h" * 5000), event_fd)
    assert mapping.reason() == Problem("not_found", "m" * 200)
    assert os.eventfd_read(event_fd) == 1
    for _ in range(3):
        os.set_blocking(event_fd, True)  # the client can do that
        os.eventfd_write(event_fd, (1 << 64) - 2)
        channel.close(fd, Problem("not_found", "again"), event_fd)  # a full counter is no harm
        os.eventfd_read(event_fd)
    os.close(event_fd)
    os.close(fd)


def test_a_scribbled_reason_is_still_a_reason():
    fd = channel.create(1, 4096, 4096)
    mapping = channel.Mapping(fd, guarded=False)
    segment = Segment(fd)
    segment.set("state", 77)
    segment.set("reason_len", 1 << 31)
    assert mapping.reason().code == "unavailable"
    segment.close()
    os.close(fd)


def test_closing_a_damaged_channel_does_no_harm():
    fd = channel.create(1, 4096, 4096)
    os.ftruncate(fd, 100)
    channel.close(fd, Problem("x", "y"))
    os.close(fd)


def test_a_mapping_lives_as_long_as_any_view_of_it():
    fd = channel.create(1, 4096, 4096)
    mapping = channel.Mapping(fd, guarded=False)
    view = mapping.segment[:8]
    os.close(fd)
    del mapping
    assert bytes(view) == b"MLOSLCH1"


def test_what_is_no_segment_is_refused():
    with Path("/dev/zero").open("rb") as zero, pytest.raises(ChannelBroken):
        channel.Mapping(zero.fileno(), guarded=True)


def test_names_of_dead_daemons_are_swept_and_of_living_ones_kept(tmp_path):
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitpid(gone, 0)
    for name in (f"mlos-{gone}-aa", f"mlos-{os.getpid()}-bb", "other"):
        (tmp_path / name).touch()
    assert channel.sweep(tmp_path) == [f"mlos-{gone}-aa"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"mlos-{os.getpid()}-bb", "other"]


def test_a_doorbell_cannot_be_cut_short():
    fd = bell.create()
    assert bell.is_sealed(fd)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 0)
    bell.clear_lane(fd, 31)
    os.close(fd)
    assert not bell.is_sealed(fd)
