# SPDX-License-Identifier: BUSL-1.1
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlos_core.daemon.allocate import LANES, LAST_OWNER, Lanes, Owners, OwnersFile
from mlos_core.errors import ConfigError, OutOfMemory, Overloaded


def test_owners_start_at_one_and_ascend(tmp_path):
    owners = OwnersFile(tmp_path / "owners.json").load()
    assert [owners.take() for _ in range(3)] == [1, 2, 3]
    assert owners.next == 4


@given(st.lists(st.integers(0, 700), min_size=1, max_size=5))
def test_no_owner_is_ever_given_out_twice_over_any_number_of_daemons(tmp_path_factory, lives):
    file = OwnersFile(tmp_path_factory.mktemp("owners") / "owners.json")
    given_out = []
    for count in lives:
        owners = file.load()  # the daemon before it was killed without a chance to save
        given_out += [owners.take() for _ in range(count)]
    assert given_out == sorted(set(given_out))


def test_the_reservation_is_on_disk_before_a_number_of_it_is_used():
    reserved = []
    owners = Owners(1, reserved.append, block=4)
    for _ in range(9):
        assert owners.take() < (reserved[-1] if reserved else 0)
    assert reserved == [5, 9, 13]


def test_a_number_seen_alive_is_never_given_out():
    owners = Owners(1, lambda _: None)
    owners.seen(1000)
    assert owners.take() == 1001


def test_the_last_owner_is_the_last(tmp_path):
    owners = Owners(LAST_OWNER, lambda _: None)
    assert owners.take() == LAST_OWNER
    with pytest.raises(OutOfMemory):
        owners.take()


def test_a_damaged_owners_file_stops_the_daemon(tmp_path):
    (tmp_path / "owners.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"owners\.json"):
        OwnersFile(tmp_path / "owners.json").load()


def test_lanes_are_unique_and_come_back():
    lanes = Lanes()
    assert [lanes.take() for _ in range(LANES)] == list(range(LANES))
    with pytest.raises(Overloaded):
        lanes.take()
    lanes.give_back(7)
    assert lanes.take() == 7


def test_an_adopted_lane_is_claimed_once():
    lanes = Lanes()
    assert lanes.claim(0)
    assert not lanes.claim(0)
    assert not lanes.claim(LANES)
    assert lanes.take() == 1
