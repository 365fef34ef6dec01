# SPDX-License-Identifier: BUSL-1.1
"""Every check is passed by a plugin that is right, and failed by one that is wrong in that."""

import pytest

from mlos_core.conformance.outcome import sentence
from mlos_core.conformance.suite import CHECKS

FAULTS = {
    "the model loads": ("never",),
    "the same question has the same answer bit for bit": ("counts",),
    "other questions in between change nothing": ("counts",),
    "concurrent clients get each their own answer": ("counts",),
    "answers that are held stay right": ("keeps",),
    "nan and infinity do not end the worker": ("nan",),
    "extreme numbers do not end the worker": ("invalid",),
    "rows sent together are answered like rows sent alone": ("mean", "order"),
    "requests that the runtime joins get their own rows": ("mean", "order"),
    "an empty batch does not end the worker": ("empty",),
    "a stream is the same every time": ("clock",),
    "streams side by side do not mix": ("mixes",),
    "a stream goes on behind a killed worker": ("forgets",),
    "an unknown option is refused by name": ("options",),
    "an unknown device is refused": ("device",),
    "an empty folder is refused": ("anything",),
    "a truncated file does no harm": ("crash",),
    "a file of garbage is refused": ("anything", "crash"),
    "the beginning of a file followed by garbage does no harm": ("crash",),
    "close gives back descriptors threads and memory": ("descriptor", "thread"),
    "unloading ends the worker and gives its memory back": ("process",),
    "no file is left behind": ("file",),
}
STREAMS = [sentence(check) for check in CHECKS["streams"]]


@pytest.mark.parametrize(
    ("name", "fault"), [(name, fault) for name, faults in FAULTS.items() for fault in faults]
)
def test_a_check_fails_where_the_plugin_is_wrong(judge, name, fault):
    found = judge(name, fault)
    assert found.outcome == "fail", found
    assert found.reason


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_check_passes_where_the_plugin_is_right(judge, name):
    found = judge(name, "stream" if name in STREAMS else "")
    assert found.outcome == "pass", found


def test_inputs_that_are_large_find_room_for_all_that_are_held(judge):
    found = judge("answers that are held stay right", "wide")
    assert found.outcome == "pass", found


def test_a_model_that_is_not_batched_skips_batches(judge):
    found = judge("an empty batch does not end the worker", "fixed")
    assert (found.outcome, found.reason) == ("skip", "the model is not batched")


def test_a_model_that_does_not_stream_skips_streams(judge):
    found = judge("a stream is the same every time")
    assert (found.outcome, found.reason) == ("skip", "the model does not stream")


def test_without_a_model_that_loads_the_rest_is_skipped(judge):
    found = judge("answers that are held stay right", "never")
    assert (found.outcome, found.reason) == ("skip", "the model does not load")
