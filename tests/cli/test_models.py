# SPDX-License-Identifier: BUSL-1.1
"""What `mlosctl models` and `register` ask the daemon for, and what they show of its answers."""

import io
import json
import sys
import threading

import pytest
from click.testing import CliRunner
from control_daemon import ControlDaemon
from rich.console import Console

from mlos_core.cli import complete, progress, render, render_models
from mlos_core.cli.context import Context
from mlos_core.cli.mlosctl import mlosctl
from mlos_core.cli.progress import state_text
from mlos_core.client import connect
from mlos_core.errors import LoadFailed, NotFound
from mlos_core.resources.machine import Machine


def version(name, weight, **values):
    return {
        "version": name,
        "state": "ready",
        "reason": "",
        "path": f"/models/{name}",
        "plugin": "onnx",
        "weight": weight,
        "workers": 1,
        "load": "now",
        "keep_alive": -1.0,
        "memory": 3 << 20,
        "previous": "",
        "candidate": "",
        **values,
    }


def model(name, *versions, route="latest", **values):
    return {
        "name": name,
        "version": versions[0]["version"],
        "plugin": "onnx",
        "path": "/models/x",
        "device": "cpu",
        "state": "ready",
        "reason": "",
        "hint": "",
        "signature": {
            "inputs": [{"name": "x", "dtype": "float32", "shape": [-1, 4]}],
            "outputs": [],
        },
        "instances": 1,
        "batch": {"max_batch_size": 8, "max_queue_delay_us": 0},
        "options": {"opt": 3},
        "workers": [{"owner": 5, "pid": 1234, "state": "ready", "restarts": 0, "version": ""}],
        "restarts": 0,
        "channels": 2,
        "registered_at": 1.7e9,
        "manifest": None,
        "route": {"kind": route, "weights": {v["version"]: v["weight"] for v in versions}},
        "versions": list(versions),
        **values,
    }


SHARED = model("cat", version("1.0", 0.9), version("2.0", 0.1, memory=0), route="weighted")
SINGLE = model("dog", version("", 1.0, load="demand", keep_alive=300.0, previous="1.1"))
CHANGES = {
    "register",
    "unregister",
    "swap_model",
    "rollback_model",
    "route_model",
    "load_model",
    "unload_model",
}


class Asked:
    """The daemon of these tests: remembers what it was asked to change."""

    def __init__(self):
        self.calls = []
        self.error = None

    def __call__(self, method, params):
        if method == "models":
            return [SHARED, SINGLE]
        if method == "model" and params["name"] not in ("cat", "dog"):
            raise NotFound(f"no model {params['name']}", hint="did you mean 'cat'?")
        if method in CHANGES:
            self.calls.append((method, params))
            if self.error is not None:
                raise self.error
        return SINGLE if params["name"] == "dog" else SHARED


@pytest.fixture
def asked():
    return Asked()


@pytest.fixture
def run(asked, tmp_path):
    """`run(*words)` in this process; `.exit_code`, `.stdout`, `.stderr`."""
    daemon = ControlDaemon(tmp_path / "s", asked)

    def call(*words):
        return CliRunner().invoke(mlosctl, ["--socket", daemon.path, *words])

    yield call
    daemon.stop()


def good(done):
    assert done.exit_code == 0, done.output
    return done.stdout


def lines_of(text, word):
    return [line for line in text.splitlines() if word in line]


# --- looking -----------------------------------------------------------------------------


def test_models_are_listed_with_a_line_for_each_version(run):
    text = good(run("models"))
    assert "90 %" in lines_of(text, "1.0")[0]
    assert "10 %" in lines_of(text, "2.0")[0]
    assert "3.0 MiB" in lines_of(text, "1.0")[0]
    assert "latest" in lines_of(text, "dog")[0]
    assert len(lines_of(text, "cat")) == 1


@pytest.mark.parametrize("words", [("models", "dog"), ("models", "show", "dog")])
def test_one_model_is_shown_with_route_versions_and_workers(run, words):
    text = good(run(*words))
    assert "x: float32[?, 4]" in text
    assert "opt=3" in text
    assert "1234" in text
    assert "on demand" in text
    assert "300 s" in text
    assert "1.1" in text


@pytest.mark.parametrize(
    "words",
    [
        ("--json", "models"),
        ("models", "--json"),
        ("models", "list", "--json"),
    ],
)
def test_the_list_is_json_wherever_that_is_asked_for(run, words):
    assert [info["name"] for info in json.loads(good(run(*words)))] == ["cat", "dog"]


@pytest.mark.parametrize(
    "words",
    [("models", "cat", "--json"), ("models", "--json", "cat"), ("models", "show", "cat", "--json")],
)
def test_one_model_is_json_wherever_that_is_asked_for(run, words):
    assert json.loads(good(run(*words)))["name"] == "cat"


def test_an_unknown_model_is_an_error_with_a_hint(run):
    done = run("models", "kat")
    assert done.exit_code == 66
    assert "did you mean 'cat'?" in done.stderr


def test_a_misspelt_command_is_no_model(run):
    done = run("models", "swpa", "cat")
    assert done.exit_code == 2
    assert "Did you mean 'swap'?" in done.stderr


@pytest.mark.parametrize(
    ("info", "text"),
    [
        (SHARED, "1.0 ready, 2.0 ready"),
        (model("m", version("", 1.0, state="loading")), "m loading"),
        (model("m", version("1", 1.0, candidate="warming")), "1 ready, its successor warming"),
    ],
)
def test_what_happens_to_a_model_is_said_in_words(info, text):
    assert state_text(info) == text


def test_a_narrow_terminal_gets_reasons_but_no_signatures():
    broken = model("m", version("1", 1.0, state="failed", reason="no such file"))
    lines = {width: shown(render_models.table([SINGLE, broken], width)) for width in (80, 200)}
    assert "no such file" in lines[80]
    assert "float32" not in lines[80]
    assert "float32" in lines[200]


def test_a_device_is_told_where_it_is_not_the_processor():
    assert "device" not in shown(render_models.table([SINGLE], 80))
    assert "cuda:1" in shown(render_models.table([SINGLE, {**SHARED, "device": "cuda:1"}], 80))


def shown(table):
    out = io.StringIO()
    Console(file=out, width=200).print(table)
    return out.getvalue()


def test_on_a_terminal_one_sees_what_happens_meanwhile(asked, tmp_path, monkeypatch):
    lines, seen = [], threading.Event()

    class Line:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, text):
            lines.append(text)
            seen.set()

    monkeypatch.setattr(progress, "_EVERY_S", 0.001)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(progress.Console, "status", lambda *_: Line())
    daemon = ControlDaemon(tmp_path / "s", asked)
    try:
        with (
            connect(daemon.path) as client,
            progress.watching(Context(), client, "swap cat", "cat"),
        ):
            assert seen.wait(30)
    finally:
        daemon.stop()
    assert lines[0].startswith("swap cat, 1.0 ready, 2.0 ready, ")


def test_the_status_says_what_the_machine_has():
    values = {
        "version": "1",
        "pid": 7,
        "uptime_s": 1.0,
        "ready": True,
        "socket": "/s",
        "http": [],
        "models": 0,
        "workers": 0,
        "clients": 0,
        "channels": 0,
        "memory": {"channels": 0, "resident": 0, "shm_free": 0},
    }
    here = Machine("0-7", {0: "0-3", 1: "4-7"}, 3 << 30, (), "no NVIDIA driver answers")
    text = shown(render.status(values, here))
    for part in ("processors 0-7, 3.0 GiB", "1: processors 4-7", "no NVIDIA driver answers"):
        assert part in text


# --- changing ----------------------------------------------------------------------------


def test_a_swap_passes_everything_on(run, asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = "models swap cat --path new.onnx --version 1.0 --new-version 3.0 --plugin other"
    words += " --option a=1 --warmup-inputs in.npz --canary 2m --max-error-rate 0.1"
    good(run(*words.split(), "--allow-new-signature", "--timeout", "60"))
    assert asked.calls == [
        (
            "swap_model",
            {
                "name": "cat",
                "path": str(tmp_path / "new.onnx"),
                "version": "1.0",
                "new_version": "3.0",
                "plugin": "other",
                "options": {"a": 1},
                "warmup_inputs": str(tmp_path / "in.npz"),
                "canary": 120.0,
                "max_error_rate": 0.1,
                "allow_new_signature": True,
                "timeout": 60.0,
            },
        )
    ]


def test_a_swap_leaves_to_the_service_what_is_not_given(run, asked):
    good(run("models", "swap", "cat"))
    ((_, params),) = asked.calls
    assert params["options"] is None
    assert params["path"] == ""


def test_a_failed_swap_says_why(run, asked):
    asked.error = LoadFailed("the new model needs an operator", hint="the old one goes on")
    done = run("models", "swap", "cat", "--path", "x")
    assert done.exit_code == 65
    assert "operator" in done.stderr
    assert "goes on" in done.stderr


@pytest.mark.parametrize(
    ("words", "method", "params"),
    [
        ("rollback cat", "rollback_model", {"version": "", "timeout": 300.0}),
        ("rollback cat --version 2.0", "rollback_model", {"version": "2.0", "timeout": 300.0}),
        ("unload cat --version 2.0", "unload_model", {"version": "2.0"}),
        ("load cat --no-wait", "load_model", {"version": "", "wait": False, "timeout": 300.0}),
        ("route cat 1.0", "route_model", {"version": "1.0"}),
        ("route cat 1.0=90% 2.0=10", "route_model", {"weights": {"1.0": 90.0, "2.0": 10.0}}),
        ("route cat --latest", "route_model", {}),
    ],
)
def test_each_command_calls_its_method(run, asked, words, method, params):
    good(run("models", *words.split()))
    assert asked.calls == [(method, {"name": "cat", **params})]


def test_a_route_is_shown_where_none_is_given(run, asked):
    assert "cat: 1.0 90 %, 2.0 10 %" in good(run("models", "route", "cat"))
    assert json.loads(good(run("models", "route", "cat", "--json")))["kind"] == "weighted"
    assert asked.calls == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("1.0 2.0", "1.0=90 2.0=10"),
        ("1.0 --latest", "give one of them"),
        ("1.0=1 1.0=2", "named twice"),
        ("1.0=x", "is no weight"),
    ],
)
def test_a_route_that_says_nothing_clear_is_refused(run, asked, words, said):
    done = run("models", "route", "cat", *words.split())
    assert done.exit_code != 0
    assert said in done.stderr
    assert asked.calls == []


def test_a_version_is_unregistered_alone(run, asked):
    assert "cat@1.0 is unregistered" in good(run("unregister", "cat", "--version", "1.0"))
    assert asked.calls == [("unregister", {"name": "cat", "version": "1.0"})]


# --- registering -------------------------------------------------------------------------


def test_a_registration_passes_everything_on(run, asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = "register cat m.onnx --version 2.0 --add --python venv --threads 2 --cpus 0-3,8"
    words += " --numa-node 0 --load demand --keep-alive 5m --memory 512M --warmup-inputs i.npz"
    words += " --max-batch-size 16 --preferred-batch-size 4 --preferred-batch-size 8"
    words += " --max-queue-size 64 --when-full reject --queue-timeout-us 900 --priority-levels 3"
    words += " --default-priority 2 --preserve-ordering --max-queue-delay-us 50"
    good(run(*words.split()))
    ((method, params),) = asked.calls
    assert method == "register"
    assert params == {
        "name": "cat",
        "path": str(tmp_path / "m.onnx"),
        "plugin": "",
        "version": "2.0",
        "device": "cpu",
        "instances": 1,
        "options": {},
        "manifest": None,
        "warmup": True,
        "replace": False,
        "wait": True,
        "timeout": 120.0,
        "add": True,
        "python": str(tmp_path / "venv"),
        "threads": 2,
        "cpus": "0-3,8",
        "numa_node": 0,
        "load": "demand",
        "keep_alive": 300.0,
        "memory": 512 << 20,
        "warmup_inputs": str(tmp_path / "i.npz"),
        "batch": {
            "max_batch_size": 16,
            "max_queue_delay_us": 50,
            "preferred_batch_sizes": [4, 8],
            "max_queue_size": 64,
            "when_full": "reject",
            "queue_timeout_us": 900,
            "priority_levels": 3,
            "default_priority": 2,
            "preserve_ordering": True,
        },
    }


def test_a_registration_leaves_to_the_service_what_is_not_given(run, asked):
    good(run("register", "cat", "m.onnx"))
    ((_, params),) = asked.calls
    assert params["batch"] == {}
    assert not {"add", "python", "cpus", "load", "keep_alive", "memory"} & params.keys()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--keep-alive soon", "is no time"),
        ("--memory much", "is no size"),
        ("--cpus 3-1", "names no processors"),
        ("--load later", "now"),
    ],
)
def test_a_value_that_cannot_be_is_refused_before_the_daemon_is_asked(run, asked, words, said):
    done = run("register", "cat", "m.onnx", *words.split())
    assert done.exit_code == 2
    assert said in done.stderr
    assert asked.calls == []


# --- completion --------------------------------------------------------------------------


def test_names_and_versions_are_completed(run, asked, tmp_path):
    import click

    top = click.Context(mlosctl)
    top.params = {"socket": str(tmp_path / "s")}
    group = click.Context(mlosctl.commands["models"], parent=top)
    here = click.Context(mlosctl.commands["models"].commands["swap"], parent=group)
    here.params, here.args = {}, ["cat"]
    assert complete.versions(here, None, "") == ["1.0", "2.0"]
    here.params, here.args = {"model": "cat"}, []
    assert complete.models(here, None, "d") == ["dog"]
    assert complete.versions(here, None, "") == ["1.0", "2.0"]
    assert complete.versions(here, None, "2") == ["2.0"]
    words = [item.value for item in group.command.shell_complete(group, "")]
    assert {"swap", "rollback", "cat", "dog"} <= set(words)
