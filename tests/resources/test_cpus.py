# SPDX-License-Identifier: BUSL-1.1
import os

import pytest

from mlos_core.errors import InvalidInput
from mlos_core.resources import cpus
from mlos_core.resources.placement import apply_placement


@pytest.fixture
def machine(tmp_path):
    """Two nodes of four processors, and one that is memory only."""
    for node, listed in enumerate(("0-3", "4-7", "")):
        folder = tmp_path / "node" / f"node{node}"
        folder.mkdir(parents=True)
        (folder / "cpulist").write_text(listed + "\n")
    (tmp_path / "node" / "possible").write_text("0-2\n")
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "online").write_text("0-7\n")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", ()),
        ("0-3,8", (0, 1, 2, 3, 8)),
        (" 8 , 0-1,1", (0, 1, 8)),
        ("5", (5,)),
        ("8191", (8191,)),
    ],
)
def test_lists_of_processors_are_read(text, numbers):
    assert cpus.parse_cpus(text) == numbers


@pytest.mark.parametrize("text", ["a", "3-1", "-1", "0-", "1.5", "0-9999999", "8192", "0;1"])
def test_what_is_no_list_is_refused(text):
    with pytest.raises(InvalidInput, match="names no processors"):
        cpus.parse_cpus(text)


def test_lists_are_written_with_ranges():
    assert cpus.format_cpus([8, 0, 1, 2, 3, 10, 11]) == "0-3,8,10-11"
    assert cpus.format_cpus([]) == ""


def test_a_node_has_its_processors(machine):
    assert cpus.nodes(machine) == (0, 1, 2)
    assert cpus.cpus_of_node(1, machine) == (4, 5, 6, 7)
    assert cpus.cpus_of_node(2, machine) == ()


def test_without_numa_everything_is_node_0(tmp_path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "online").write_text("0-1\n")
    assert cpus.nodes(tmp_path) == (0,)
    assert cpus.cpus_of_node(0, tmp_path) == (0, 1)
    cpus.check_placement((1,), 0, tmp_path)


@pytest.mark.parametrize(
    ("wanted", "node", "has"),
    [
        ((7, 9, 10), -1, "0-7"),
        ((), 3, r"node 0 \(processors 0-3\)"),
        ((0, 1), 1, r"node 1 \(processors 4-7\)"),
    ],
)
def test_a_placement_that_cannot_be_names_what_the_machine_has(machine, wanted, node, has):
    with pytest.raises(InvalidInput, match=has):
        cpus.check_placement(wanted, node, machine)


@pytest.mark.parametrize(("wanted", "node"), [((), -1), ((0, 7), -1), ((4,), 1), ((0,), 2)])
def test_a_placement_that_can_be_passes(machine, wanted, node):
    cpus.check_placement(wanted, node, machine)


def test_this_process_runs_where_it_was_placed():
    before = os.sched_getaffinity(0)
    one = min(before)
    try:
        apply_placement((one,), cpus.nodes()[0])
        assert os.sched_getaffinity(0) == {one}
    finally:
        os.sched_setaffinity(0, before)


def test_nothing_asked_for_changes_nothing():
    before = os.sched_getaffinity(0)
    apply_placement()
    assert os.sched_getaffinity(0) == before


def test_a_placement_that_cannot_be_changes_nothing(machine):
    before = os.sched_getaffinity(0)
    with pytest.raises(InvalidInput, match="no processor 8000"):
        apply_placement((8000,), -1, machine)
    assert os.sched_getaffinity(0) == before
