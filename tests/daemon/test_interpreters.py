# SPDX-License-Identifier: BUSL-1.1
"""Plugins hosted by another interpreter than the daemon's own."""

import asyncio
import os
import stat
import subprocess
import sys
import sysconfig

import numpy as np
import pytest

from mlos_core.daemon.interpreters import interpreter, plugins_of
from mlos_core.errors import InvalidInput, PluginBroken

X = {"x": np.arange(4, dtype=np.float32)}


@pytest.fixture(scope="module")
def venv(tmp_path_factory):
    """A virtual environment that sees the packages of this one."""
    folder = tmp_path_factory.mktemp("other") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    binary = folder / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    purelib = subprocess.run([binary, "-c", ask], check=True, capture_output=True, text=True)
    own = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    # `site` reads .pth files of its own folders only: editable installs lie in such files.
    lines = [f"import site; site.addsitedir({path!r})" for path in sorted(own)]
    with open(os.path.join(purelib.stdout.strip(), "packages.pth"), "w") as file:  # noqa: PTH118, PTH123
        file.write("\n".join(lines))
    return folder


def test_an_interpreter_is_named_by_its_folder_or_its_binary(venv):
    binary = str(venv / "bin" / "python")
    assert interpreter("") == ""
    assert interpreter(str(venv)) == binary
    assert interpreter(binary) == binary


@pytest.mark.parametrize("given", ["venv", "/nowhere/venv", "/etc/passwd", "/tmp"])
def test_what_is_no_interpreter_is_refused(given):
    with pytest.raises(InvalidInput, match="interpreter"):
        interpreter(given)


def test_an_interpreter_lists_its_plugins(venv):
    assert "echo" in asyncio.run(plugins_of(interpreter(str(venv)), 30.0))


def test_a_binary_that_is_no_python_is_told_apart(tmp_path):
    binary = tmp_path / "python"
    binary.write_text("#!/bin/sh\necho nonsense\n")
    binary.chmod(binary.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(PluginBroken, match="no Python"):
        asyncio.run(plugins_of(str(binary), 30.0))


def test_one_plugin_serves_from_two_interpreters_at_once(daemon, echo_file, venv):
    python = str(venv)
    daemon.call("register", name="own", path=echo_file())
    info = daemon.call("register", name="other", path=echo_file("sum"), python=python)
    assert info["plugin"] == "echo"
    assert info["python"] == str(venv / "bin" / "python")
    with daemon.connect() as client:
        np.testing.assert_array_equal(client.model("own").infer(X)["x"], X["x"])
        assert client.model("other").infer(X)["sum"] == 6.0
        used = {
            os.path.realpath(f"/proc/{worker['pid']}/exe"): None
            for name in ("own", "other")
            for worker in client.call("model", name=name)["workers"]
        }
    assert used
    rows = {row["python"]: row for row in daemon.call("plugins") if row["name"] == "echo"}
    assert {key: row["workers"] for key, row in rows.items()} == {"": 1, info["python"]: 1}
    swapped = daemon.call("swap_plugin", name="echo", python=python)
    assert swapped["models"] == ["other"]


def test_an_interpreter_without_mlos_core_says_so(daemon, echo_file, tmp_path):
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True)
    with pytest.raises(PluginBroken):
        daemon.call("register", name="m", path=echo_file(), plugin="echo", python=str(bare))
    assert daemon.call("models") == []
