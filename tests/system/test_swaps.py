# SPDX-License-Identifier: BUSL-1.1
"""Plugins and models are replaced under load, and nobody notices but by better answers."""

import pytest

from mlos_core.errors import LoadFailed, MlosError, PluginBroken

from . import monkey, swaps
from . import stage as stages
from .kills import in_shared_memory

FEW = (
    {"client": "sync", "turns": [("t", "infer"), ("t", "prepare")]},
    {"client": "async", "turns": [("s", "stream"), ("t", "infer")]},
    {"client": "http", "turns": [("t", "infer"), ("s", "stream")], "sizes": 2},
)


@pytest.fixture(autouse=True)
def nothing_is_left():
    before = in_shared_memory()
    yield
    assert in_shared_memory() <= before


@pytest.fixture
def make_stage(daemons, plugin_path):
    """`make_stage(models)` is a daemon that serves them."""
    made = []

    def make(models=("t", "s", "o"), **settings):
        stage = stages.Stage(daemons(), plugin_path, models)
        made.append(stage)
        return stage.start(**settings)

    yield make
    for stage in made:
        stage.close()


def test_a_storm_of_swaps_costs_no_answer(daemons, plugin_path):
    row = swaps.run(daemons(), plugin_path, swaps.changes(5, 7), quiet=0.1, swapping=5.0)
    assert row["faults"] == []
    assert (row["plugin_swaps"], row["model_swaps"], row["swaps_failed"]) == (5, 7, 0)
    assert [row[k] for k in ("failed", "wrong", "lost", "duplicate")] == [0, 0, 0, 0]


def test_a_storm_in_which_processes_are_killed_costs_no_answer(daemons, plugin_path):
    plan = swaps.changes(3, 6)
    row = swaps.run(daemons(), plugin_path, plan, quiet=0.1, swapping=5.0, kill_every=0.3)
    assert row["faults"] == []
    assert row["killed"]
    assert [row[k] for k in ("failed", "wrong", "lost", "duplicate")] == [0, 0, 0, 0]


# --- new versions that are broken -----------------------------------------------------------


PLUGINS = {
    "its import raises": {"import": "raise"},
    "its import ends the process": {"import": "leave"},
    "its import is killed": {"import": "kill"},
    "its import hangs": {"import": "hang"},
    "loading raises": {"load": "raise"},
    "loading hangs": {"load": "hang"},
    "loading is killed": {"load": "kill"},
    "loading ends the process with 0": {"load": "exit"},
    "loading leaves the interpreter": {"load": "leave"},
    "warming up crashes": {"warmup": "segfault"},
    "warming up raises": {"warmup": "raise"},
    "warming up hangs": {"warmup": "hang"},
    "its shapes are wrong": {"warmup": "shapes"},
    "its signature is another one": {"signature": "changed"},
}


def patience(faults):
    """What hangs after its import is waited for as long as the caller says."""
    return {"timeout": 0.5} if "hang" in faults.values() else {}


IMPORT = [name for name, faults in PLUGINS.items() if "import" in faults]


@pytest.fixture
def guarded(make_stage):
    """A stage under load, and at its end the proof that nobody noticed anything."""
    stage = make_stage(("t", "s"), MLOS_LOAD_TIMEOUT="3")
    before = stage.pids()
    with stages.Clients(stage, FEW) as clients:
        yield stage
        assert stage.pids() == before
        clients.wait_more()
        reports = clients.end()
    assert stages.faults_of(reports, stage.history) == []


def test_a_broken_version_of_a_plugin_never_serves_a_request(guarded):
    good = guarded.plugin.number
    for number, (what, faults) in enumerate(PLUGINS.items(), good + 1):
        guarded.plugin.install(number, **faults)
        error = guarded.refused("swap_plugin", name="storm", **patience(faults))
        expected = PluginBroken if what in IMPORT else MlosError
        assert isinstance(error, expected), f"{what}: {error!r}"
        assert error.message, what
        assert error.hint, what
        for model in ("t", "s"):
            info = guarded.call("model", name=model)
            assert info["state"] == "ready", what
            assert [v["candidate"] for v in info["versions"]] == [""], what
    guarded.plugin.install(good)


MODELS = {name: faults for name, faults in PLUGINS.items() if name not in IMPORT}


def test_a_broken_version_of_a_model_never_serves_a_request(guarded):
    for number, (what, faults) in enumerate(MODELS.items(), 100):
        path = guarded.plugin.model(number, **faults)
        error = guarded.refused("swap_model", name="t", path=path, **patience(faults))
        assert error.message, what
        assert error.hint, what
        assert guarded.call("model", name="t")["state"] == "ready", what


def test_a_signature_may_change_where_that_is_said(make_stage):
    stage = make_stage(("t",))
    path = stage.plugin.model(2, signature="changed")
    with pytest.raises(LoadFailed):
        stage.call("swap_model", name="t", path=path)
    info = stage.call("swap_model", name="t", path=path, allow_new_signature=True)
    assert info["signature"]["inputs"][0]["shape"] == [-1, 7]


# --- the judge ------------------------------------------------------------------------------


def test_an_answer_out_of_its_time_is_a_fault():
    history = stages.History()
    history.begins("t", (1, 1), began=0, ready=10)
    history.begins("t", (1, 2), began=20, ready=30)
    assert history.fault("t", (1, 1, 5), first_answered=11, last_sent=29) is None
    assert history.fault("t", (1, 2, 25), first_answered=26, last_sent=99) is None
    assert "after it was replaced" in history.fault("t", (1, 1, 5), 11, last_sent=31)
    assert "never served" in history.fault("t", (1, 3, 5), 11, 12)
    assert "loaded out of its time" in history.fault("t", (1, 1, 15), 16, 17)
    history.begins("t", (1, 1), began=40, ready=50)
    assert history.fault("t", (1, 1, 45), first_answered=46, last_sent=99) is None


# --- everything at once ---------------------------------------------------------------------


def test_who_changes_everything_at_once_is_refused_or_served(daemons, plugin_path):
    row = monkey.run(daemons(), plugin_path, seconds=4.0)
    assert sum(row["calls"].values()) > 20
    assert row["errors"] == []
    assert row["left"] == {}
