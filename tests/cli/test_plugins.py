# SPDX-License-Identifier: BUSL-1.1
"""`mlosctl plugins`: the list, a new plugin that works, the suite, and swapping."""

import json
import os
import subprocess
import sys

import pytest

from mlos_core.cli import scaffold
from mlos_core.errors import AlreadyExists, InvalidInput


def mlosctl(*words, **environ):
    done = subprocess.run(
        [sys.executable, "-P", "-m", "mlos_core.cli.mlosctl", *words],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, **environ},
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize(
    "words", [["plugins", "--json"], ["--json", "plugins"], ["plugins", "list", "--json"]]
)
def test_plugins_are_listed_with_and_without_the_word(daemon, words):
    done = mlosctl(*words, MLOS_SOCKET=str(daemon.socket))
    assert {status["name"] for status in json.loads(done.stdout)} >= {"echo", "python"}


def test_a_mistyped_word_is_refused():
    assert mlosctl("plugins", "chek", "echo").returncode == 2


def test_swapping_a_plugin_that_is_not_there_says_so(daemon):
    done = mlosctl("plugins", "swap", "ecko", MLOS_SOCKET=str(daemon.socket))
    assert done.returncode == 66
    assert "ecko" in done.stderr


@pytest.mark.parametrize("name", ["", "Acme", "a b", "1st", "a--b", "a/b", "a_b"])
def test_a_plugin_gets_no_name_that_a_distribution_cannot_have(tmp_path, name):
    with pytest.raises(InvalidInput):
        scaffold.write(name, tmp_path / "new")


def test_nothing_is_written_over(tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(AlreadyExists):
        scaffold.write("acme", tmp_path)


def test_a_plugin_gets_no_name_that_an_installed_one_has(tmp_path):
    done = mlosctl("plugins", "new", "echo", "--path", str(tmp_path / "new"))
    assert "is installed" in done.stderr
    assert not (tmp_path / "new").exists()


def test_names_in_the_template_fit_each_other():
    files = scaffold.render("my-own")
    assert "class MyOwnPlugin(Plugin):" in files["mlos_plugin_my_own/plugin.py"]
    assert 'my-own = "mlos_plugin_my_own:MyOwnPlugin"' in files["pyproject.toml"]
    assert not [name for name, text in files.items() if "$" in name + text]


def test_a_new_plugin_installs_passes_its_tests_and_conforms(tmp_path):
    pytest.importorskip("hatchling")
    folder, target = tmp_path / "plugin", tmp_path / "installed"
    assert mlosctl("plugins", "new", "acme", "--path", str(folder)).returncode == 0
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps"]
    subprocess.run([*pip, "--target", str(target), str(folder)], check=True, timeout=60)
    # Its own tests run the conformance suite, too.
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, "PYTHONPATH": str(target)},
        cwd=folder,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def install_torn(folder):
    """A plugin whose module imports what is not there."""
    (folder / "torn.py").write_text("import not_there_at_all\n")
    meta = folder / "torn-1.0.dist-info"
    meta.mkdir()
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: torn\nVersion: 1.0\n")
    (meta / "entry_points.txt").write_text("[mlos.plugins]\ntorn = torn:Torn\n")


def test_a_check_tells_what_it_found_and_leaves_with_a_code(tmp_path):
    install_torn(tmp_path)
    done = mlosctl("plugins", "check", "torn", "--json", PYTHONPATH=str(tmp_path))
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert found["fail"] >= 1
    assert "not_there_at_all" in found["checks"][0]["reason"]


def test_a_plugin_that_is_not_installed_is_not_checked():
    done = mlosctl("plugins", "check", "ecko")
    assert done.returncode == 66
    assert "did you mean 'echo'?" in done.stderr


@pytest.mark.parametrize("name", ["echo", "python"])
def test_our_plugins_conform(name):
    done = mlosctl("plugins", "check", name, "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0, [c for c in found["checks"] if c["outcome"] == "fail"]
    assert found["pass"] >= 25


def test_a_broken_plugin_is_listed_with_its_reason_and_on_demand_its_traceback(daemon, plugin_path):
    install_torn(plugin_path)
    socket = {"MLOS_SOCKET": str(daemon.socket)}
    shown = mlosctl("plugins", **socket).stdout
    assert "not_there_at_all" in shown
    assert "Traceback" not in shown
    assert "Traceback" in mlosctl("plugins", "list", "--traceback", **socket).stdout
