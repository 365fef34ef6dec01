# SPDX-License-Identifier: BUSL-1.1
"""Whatever was loaded and unloaded, the machine is as it was."""

from . import cycles


def test_nothing_is_left_of_models_that_came_and_went(daemons, plugin_path):
    row = cycles.run(daemons(), plugin_path, cycles=18, settling=6)
    assert row["failing"] == 6
    assert row["left"] == [], row["left"]
    assert row["growth_percent"] < 3, row


def test_what_is_left_is_told():
    before = {
        "processes": {1: "mlosd"},
        "threads": {1: 3},
        "descriptors": {1: ["/dev/null", "socket"]},
        "segments": 1,
        "names": [],
        "files": [],
    }
    assert cycles.differences(before, before) == []
    for key, value in (
        ("processes", {1: "mlosd", 2: "mlos:m"}),
        ("threads", {1: 4}),
        ("descriptors", {1: ["/dev/null", "pipe", "socket"]}),
        ("segments", 2),
        ("names", ["mlos-1"]),
        ("files", ["left"]),
    ):
        (told,) = cycles.differences(before, {**before, key: value})
        assert told.startswith(key)
