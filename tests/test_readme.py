# SPDX-License-Identifier: BUSL-1.1
"""What the README and the plugin guide show is executed, not only read."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import axon_client
from mlos_core.smi import ModelPackage

ROOT = Path(__file__).resolve().parent.parent


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)


@pytest.fixture
def magika(daemons, tmp_path_factory):
    """A daemon that serves magika."""
    running = daemons(MLOS_HTTP="true", MLOS_HTTP_PORT="0").start()
    model = axon_client.install("pypi/magika", home=tmp_path_factory.mktemp("axon"))
    running.call("register", name="magika", path=str(model.model_file()))
    return running


@pytest.mark.network
def test_the_python_of_the_readme_runs(magika) -> None:
    shown = blocks("README.md", "python")
    assert len(shown) == 2
    for code in shown:
        done = subprocess.run(
            [sys.executable, "-P", "-W", "error", "-c", code],
            env={**os.environ, "MLOS_SOCKET": str(magika.socket)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout


@pytest.mark.network
def test_the_shell_commands_of_the_readme_run(magika, tmp_path) -> None:
    np.save(tmp_path / "tokens.npy", np.zeros((1, 2048), np.int32))
    (address,) = (a for a in magika.call("status")["http"] if a.startswith("http"))
    lines = [line for block in blocks("README.md", "console") for line in block.splitlines()]
    wanted = [
        re.sub(r"\[\[0, 1, 2\]\]", str([[0] * 2048]), line.split("#")[0])
        for line in lines
        if line.startswith(("axon", "mlosctl models", "mlosctl infer", "curl"))
    ]
    assert len(wanted) == 6
    for line in wanted:
        command = shlex.split(line.replace("localhost:8080", address))
        if command[:2] == ["axon", "register"]:
            command.extend(["--name", "magika-again"])
        if command[0] == "curl":
            command.append("--fail-with-body")
        else:
            command[0] = str(Path(sys.executable).parent / command[0])
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={
                **os.environ,
                "MLOS_SOCKET": str(magika.socket),
                "AXON_HOME": str(tmp_path / "axon"),
            },
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"


def test_the_plugin_of_the_guide_works(tmp_path) -> None:
    (code,) = blocks("docs/plugins.md", "python")
    names: dict[str, object] = {"__name__": "guide"}
    exec(compile(code, "docs/plugins.md", "exec"), names)
    (tmp_path / "three.scale").write_text("3")
    plugin = names["ScalePlugin"]()  # type: ignore[operator]
    model = plugin.load(ModelPackage("triple", "1", tmp_path / "three.scale"), "cpu", {})
    x = np.ones((2, 3), np.float32)
    answer = model.infer({"x": x}, lambda _, dtype, shape: np.empty(shape, dtype))
    assert (answer["y"] == 3).all()
