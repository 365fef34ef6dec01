# SPDX-License-Identifier: BUSL-1.1
import msgspec
import pytest

from mlos_core.daemon.entry import ModelEntry
from mlos_core.errors import InvalidInput
from mlos_core.ipc.messages import BatchPolicy
from mlos_core.worker.queue_loop import queues


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"max_batch_size": 32, "max_queue_delay_us": 500, "preferred_batch_sizes": [8, 16]},
        {"max_queue_size": 4, "when_full": "reject", "queue_timeout_us": 1000},
        {"priority_levels": 3, "default_priority": 2, "preserve_ordering": True},
    ],
)
def test_a_policy_comes_from_what_a_user_writes(given):
    msgspec.convert(given, BatchPolicy).check()


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"max_batch_size": 0}, "max_batch_size"),
        ({"max_batch_size": 1 << 20}, "max_batch_size"),
        ({"max_queue_delay_us": -1}, "max_queue_delay_us"),
        ({"max_batch_size": 8, "preferred_batch_sizes": (4, 9)}, "preferred_batch_sizes"),
        ({"max_batch_size": 8, "preferred_batch_sizes": (0,)}, "preferred_batch_sizes"),
        ({"max_queue_size": -1}, "max_queue_size"),
        ({"when_full": "panic"}, "when_full"),
        ({"when_full": "reject"}, "without a limit"),
        ({"queue_timeout_us": -5}, "queue_timeout_us"),
        ({"queue_timeout_us": 100, "max_queue_delay_us": 100}, "time out"),
        ({"priority_levels": -1}, "priority_levels"),
        ({"priority_levels": 2, "default_priority": 3}, "default_priority"),
        ({"default_priority": 1}, "default_priority"),
    ],
)
def test_an_impossible_policy_is_refused_with_the_reason(given, word):
    with pytest.raises(InvalidInput, match=word) as caught:
        BatchPolicy(**given).check()
    assert caught.value.hint


@pytest.mark.parametrize(
    ("given", "batched", "expected"),
    [
        ({}, True, False),
        ({"max_batch_size": 8}, True, True),
        ({"max_batch_size": 8}, False, False),
        ({"priority_levels": 2}, False, True),
        ({"queue_timeout_us": 5}, False, True),
        ({"max_queue_size": 5}, False, False),
        ({"max_queue_size": 5, "when_full": "reject"}, False, True),
        ({"preserve_ordering": True}, True, False),
    ],
)
def test_only_a_policy_that_chooses_needs_a_queue(given, batched, expected):
    assert queues(BatchPolicy(**given), batched=batched) is expected


def test_several_instances_cannot_keep_an_order():
    policy = BatchPolicy(preserve_ordering=True)
    ModelEntry("m", "/models/m", "echo", batch=policy).check()
    with pytest.raises(InvalidInput, match="order"):
        ModelEntry("m", "/models/m", "echo", batch=policy, instances=2).check()
