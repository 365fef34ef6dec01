# SPDX-License-Identifier: BUSL-1.1
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlos_core.errors import OutOfMemory
from mlos_core.resources.budget import Budget, Loaded

MIB = 1 << 20


def loaded(name, mib, used=0.0, evictable=True, reason=""):
    return Loaded(name, "1", mib * MIB, used, evictable, reason)


def test_without_a_limit_everything_fits():
    assert Budget(0).admit(1 << 50, [loaded("a", 100)]) == []


def test_what_fits_unloads_nobody():
    assert Budget(300 * MIB).admit(200 * MIB, [loaded("a", 100)]) == []


def test_the_longest_unused_goes_first():
    models = [loaded("new", 100, 9.0), loaded("old", 100, 1.0), loaded("mid", 100, 5.0)]
    assert Budget(300 * MIB).admit(150 * MIB, models) == [("old", "1"), ("mid", "1")]


def test_what_a_later_choice_makes_superfluous_stays():
    models = [loaded("small", 10, 1.0), loaded("large", 200, 2.0)]
    assert Budget(210 * MIB).admit(100 * MIB, models) == [("large", "1")]


def test_what_may_not_go_stays_however_old():
    models = [loaded("busy", 100, 0.0, evictable=False), loaded("idle", 100, 9.0)]
    assert Budget(200 * MIB).admit(MIB, models) == [("idle", "1")]


def test_the_machine_counts_beside_the_budget():
    models = [loaded("a", 100, 1.0), loaded("b", 100, 2.0)]
    assert Budget(0).admit(50 * MIB, models, available=10 * MIB) == [("a", "1")]
    assert Budget(1000 * MIB).admit(150 * MIB, models, available=10 * MIB) == [
        ("a", "1"),
        ("b", "1"),
    ]
    assert Budget(0).admit(50 * MIB, models, available=50 * MIB) == []


def test_a_refusal_shows_the_arithmetic():
    models = [
        loaded("llama", 600, 1.0, evictable=False, reason="answers requests"),
        loaded("silero", 2, 2.0),
    ]
    with pytest.raises(OutOfMemory) as refused:
        Budget(1024 * MIB).admit(512 * MIB, models, title="efficientnet@2.0")
    assert refused.value.message == (
        "efficientnet@2.0 needs 512.0 MiB; 602.0 MiB of the budget of 1.0 GiB are used (422.0 MiB "
        "left); unloading can free 2.0 MiB: silero@1 2.0 MiB; what stays: llama@1 600.0 MiB "
        "answers requests"
    )
    assert "mlosctl models unload" in refused.value.hint


def test_what_never_fits_says_how_large_the_budget_must_be():
    with pytest.raises(OutOfMemory) as refused:
        Budget(100 * MIB).admit(200 * MIB, [], available=1 << 40)
    assert "raise memory_budget to 200.0 MiB" in refused.value.hint
    assert "the machine has 1.0 TiB left" in refused.value.message


def test_many_models_do_not_make_the_message_endless():
    models = [loaded(f"m{i}", 1, evictable=False) for i in range(50)]
    with pytest.raises(OutOfMemory, match="and 42 more"):
        Budget(50 * MIB).admit(MIB, models)


@settings(deadline=None)
@given(
    st.integers(0, 50),
    st.integers(1, 100),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5), st.booleans()), max_size=8),
)
def test_an_admission_makes_room_and_takes_no_superfluous_one(need, limit, given_models):
    models = [
        Loaded(f"m{i}", "", size, float(used), evictable)
        for i, (size, used, evictable) in enumerate(given_models)
    ]
    left = limit - sum(m.bytes for m in models)
    may = sum(m.bytes for m in models if m.evictable)
    try:
        going = {name for name, _ in Budget(limit).admit(need, models)}
    except OutOfMemory:
        assert left + may < need
        return
    sizes = [m.bytes for m in models if m.name in going]
    assert all(m.evictable for m in models if m.name in going)
    assert left + sum(sizes) >= need
    assert all(left + sum(sizes) - size < need for size in sizes)


def test_where_nothing_may_go_the_message_says_so():
    with pytest.raises(OutOfMemory, match="nothing may be unloaded for it; what stays: a@1"):
        Budget(100 * MIB).admit(50 * MIB, [loaded("a", 80, evictable=False)])
    with pytest.raises(OutOfMemory) as refused:
        Budget(100 * MIB).admit(150 * MIB, [])
    assert "unload" not in refused.value.message
