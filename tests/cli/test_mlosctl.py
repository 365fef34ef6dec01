# SPDX-License-Identifier: BUSL-1.1
"""The commands as people run them: in a process of their own, against a real daemon."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mlos_core.cli.mlosctl import mlosctl as command


@pytest.fixture
def mlosctl(daemon):
    """`mlosctl(*words)` runs the command; `.returncode`, `.stdout`, `.stderr`."""

    def call(*words, stdin="", socket=None):
        return run("mlosctl", *words, stdin=stdin, MLOS_SOCKET=str(socket or daemon.socket))

    return call


def run(program, *words, stdin="", **environ):
    done = subprocess.run(
        [sys.executable, "-P", "-m", f"mlos_core.cli.{program}", *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("MLOS_")}, **environ},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def good(done):
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_model_is_registered_asked_and_unregistered(mlosctl, echo_file):
    assert "ready" in good(mlosctl("register", "e", echo_file(), "--option", "capacity=3"))
    assert "x: float32[?] -> x: float32[?]" in good(mlosctl("models"))
    assert "1 2.5" in good(mlosctl("infer", "e", "x=[1, 2.5]"))
    assert "e" in good(mlosctl("stats"))
    assert "unregistered" in good(mlosctl("unregister", "e"))
    assert "no models" in good(mlosctl("models"))


def test_every_command_speaks_json(mlosctl, echo_file):
    info = json.loads(
        good(mlosctl("register", "e", echo_file("sum"), "--max-batch-size", "4", "--json"))
    )
    assert info["batch"]["max_batch_size"] == 4
    assert json.loads(good(mlosctl("status", "--json")))["models"] == 1
    assert json.loads(good(mlosctl("--json", "models")))[0]["name"] == "e"
    assert json.loads(good(mlosctl("models", "e", "--json")))["state"] == "ready"
    assert {p["name"] for p in json.loads(good(mlosctl("plugins", "--json")))} >= {"echo"}
    answer = json.loads(good(mlosctl("infer", "e", "[1, 2]", "--json")))
    assert answer["outputs"]["sum"] == {"shape": [1], "data": [3.0]}
    assert json.loads(good(mlosctl("stats", "e", "--json")))["e"]["requests"] >= 1
    assert json.loads(good(mlosctl("unregister", "e", "--json")))["state"] == "unloaded"


@pytest.fixture
def inside(daemon):
    """The commands in this process, where there are many of them."""
    return lambda *words: CliRunner().invoke(command, ["--socket", str(daemon.socket), *words])


def fine(done):
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_versions_are_served_swapped_routed_and_unloaded(inside, echo_file):
    fine(inside("register", "m", echo_file("sum"), "--version", "1.0"))
    fine(inside("register", "m", echo_file("sum"), "--version", "2.0", "--add"))
    assert json.loads(fine(inside("infer", "m", "[1]", "--json")))["version"] == "2.0"
    assert json.loads(fine(inside("infer", "m@1.0", "[1]", "--json")))["version"] == "1.0"
    words = ("infer", "m", "[1]", "--version", "1.0", "--json")
    assert json.loads(fine(inside(*words)))["version"] == "1.0"
    assert "1.0 75 %, 2.0 25 %" in fine(inside("models", "route", "m", "1.0=3", "2.0=1"))
    assert "pinned to 1.0" in fine(inside("models", "route", "m", "1.0"))
    swapped = fine(inside("models", "swap", "m", "--new-version", "3.0", "--json"))
    assert {v["version"] for v in json.loads(swapped)["versions"]} == {"2.0", "3.0"}
    assert "1.0" in fine(inside("models", "rollback", "m", "--version", "3.0"))
    refused = inside("models", "swap", "m", "--version", "1.0", "--path", echo_file("echo"))
    assert refused.exit_code == 65
    assert "--allow-new-signature" in refused.stderr
    assert "unloaded" in fine(inside("models", "unload", "m", "--version", "1.0"))
    assert "3" in fine(inside("infer", "m", "[1, 2]"))
    assert "m@1.0 is unregistered" in fine(inside("unregister", "m", "--version", "1.0"))
    missing = inside("infer", "m", "[1]", "--version", "1.0")
    assert missing.exit_code == 66
    assert "2.0" in missing.stderr


def test_outputs_are_written_to_a_file(mlosctl, echo_file, tmp_path):
    good(mlosctl("register", "e", echo_file()))
    good(mlosctl("infer", "e", "-", "--output", str(tmp_path / "out.npz"), stdin='{"x": [1, 2]}'))
    with np.load(tmp_path / "out.npz") as saved:
        assert saved["x"].tolist() == [1, 2]


def test_a_stream_prints_its_events(mlosctl, echo_file):
    good(mlosctl("register", "s", echo_file("stream")))
    words = ("infer", "s", "prompt=hello", "--parameter", "count=3", "--json")
    lines = [json.loads(line) for line in good(mlosctl(*words)).splitlines()]
    events = [line["event"] for line in lines[:-1]]
    assert len(events) == 3
    assert lines[-1]["outputs"]["numbers"]["data"] == [
        event["number"] if isinstance(event, dict) else event for event in events
    ]


def test_a_wrong_input_is_answered_with_what_the_model_expects(mlosctl, echo_file):
    good(mlosctl("register", "e", echo_file()))
    done = mlosctl("infer", "e", "y=[1]")
    assert done.returncode == 65
    assert "x: float32[?]" in done.stderr
    done = mlosctl("infer", "e", "[[1]]", "--json")
    assert done.returncode == 65
    problem = json.loads(done.stderr)["error"]
    assert problem["code"] == "invalid_input"
    assert "float32[?]" in problem["message"]


def test_an_unknown_model_names_the_nearest(mlosctl, echo_file):
    good(mlosctl("register", "magika", echo_file()))
    done = mlosctl("infer", "majika", "[1]")
    assert done.returncode == 66
    assert "magika" in done.stderr


def test_without_a_daemon_it_says_how_to_start_one(mlosctl, tmp_path):
    done = mlosctl("status", socket=tmp_path / "absent.sock")
    assert done.returncode == 69
    assert "mlosd" in done.stderr


def test_a_path_need_not_be_absolute(mlosctl, echo_file, monkeypatch):
    path = Path(echo_file())
    monkeypatch.chdir(path.parent)
    assert "ready" in good(mlosctl("register", "e", path.name))


def test_the_manifest_chooses_the_plugin(mlosctl, echo_file, tmp_path):
    folder = tmp_path / "package"
    folder.mkdir()
    Path(echo_file()).rename(folder / "model.echo")
    (folder / "manifest.yaml").write_text(
        "metadata: {name: x, created: 2024-01-01}\nspec: {format: {execution_format: echo}}\n"
    )
    info = json.loads(good(mlosctl("register", "e", str(folder), "--json")))
    assert info["plugin"] == "echo"
    assert info["manifest"]["metadata"]["created"] == "2024-01-01"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_program(shell):
    assert "mlosctl" in good(run("mlosctl", "completion", shell))


def test_help_needs_no_daemon():
    text = good(run("mlosctl", "--help"))
    for name in ("status", "models", "register", "unregister", "infer", "plugins", "demo"):
        assert name in text
    assert "--run-dir" in good(run("mlosd", "--help"))


def test_the_settings_in_force_can_be_seen(tmp_path):
    file = tmp_path / "mlos.toml"
    file.write_text("max_attempts = 7\n")
    text = good(run("mlosd", "--config", str(file), "--http-port", "0", "--show-config"))
    assert "max_attempts = 7" in text
    assert "http_port = 0" in text
