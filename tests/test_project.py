# SPDX-License-Identifier: BUSL-1.1
"""The project's own rules: who may import whom, types, lint, and what every file begins with."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GROUND = {"errors", "types", "config", "smi", "version"}
ALLOWED = {
    "ipc": GROUND | {"ipc"},
    "client": GROUND | {"ipc", "client"},
    "resources": GROUND | {"resources"},
    "worker": GROUND | {"ipc", "resources", "worker"},
    "daemon": GROUND | {"ipc", "client", "resources", "worker", "daemon", "front"},
    "front": GROUND | {"ipc", "client", "daemon", "front"},
    "synapse": GROUND | {"synapse"},
    "conformance": GROUND | {"client", "conformance"},
    "cli": GROUND
    | {"ipc", "client", "resources", "worker", "daemon", "front", "conformance", "cli"},
}
FRONT_ONLY = {"mlos_core/daemon/main.py"}
"""The composition root is the one place of the daemon that knows the front end."""
INTERFACE = {"smi", "types", "errors"}
BESIDE_THE_INTERFACE = {"synapse": {"synapse"}}
"""What a plugin is the way into, if that is a part of the core."""
TYPED_PLUGINS = ("echo", "onnx", "python", "pytorch", "synapse", "tensorflow")


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def parts_of_core(path: Path) -> set[str]:
    return {n.split(".")[1] for n in imported(path) if n.startswith("mlos_core.")} - {"__version__"}


@pytest.mark.parametrize("path", sources("mlos_core"), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_downwards_only(path: Path) -> None:
    relative = path.relative_to(ROOT / "mlos_core")
    part = relative.parts[0] if len(relative.parts) > 1 else ""
    allowed = ALLOWED.get(part, GROUND)
    if part == "daemon" and f"mlos_core/{relative}" not in FRONT_ONLY:
        allowed = allowed - {"front"}
    beyond = parts_of_core(path) - allowed
    assert not beyond, f"{relative} may not import {sorted(beyond)}"


@pytest.mark.parametrize(
    "path",
    [path for path in sources("plugins") if "tests" not in path.parts],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_plugins_import_the_interface_and_nothing_else_of_the_core(path: Path) -> None:
    plugin = path.relative_to(ROOT / "plugins").parts[0]
    assert parts_of_core(path) <= INTERFACE | BESIDE_THE_INTERFACE.get(plugin, set())


@pytest.mark.parametrize("path", sources("axon_client"), ids=lambda p: str(p.relative_to(ROOT)))
def test_axon_imports_the_errors_and_at_need_the_client(path: Path) -> None:
    assert parts_of_core(path) <= {"errors", "client"}
    top = {
        node.module
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ImportFrom) and node.module
    }
    assert not any(name.startswith("mlos_core.client") for name in top)


def test_importing_the_client_loads_nothing_heavy() -> None:
    code = (
        "import sys, mlos_core.client\n"
        "heavy = {'uvloop', 'uvicorn', 'starlette', 'onnxruntime', 'torch', 'click', 'rich',"
        " 'http.client', 'yaml', 'prometheus_client', 'pynvml'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"mlos_core.client loads {done.stderr.strip()}"


def first_lines() -> list[Path]:
    tracked = subprocess.run(
        ["git", "ls-files", "*.py", "*.c", "*.h", "CMakeLists.txt", "*/CMakeLists.txt"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    ).stdout.split()
    return [ROOT / name for name in tracked]


def test_every_source_file_names_its_licence() -> None:
    files = first_lines() or [*sources("mlos_core"), *sources("axon_client")]
    lacking = [
        str(path.relative_to(ROOT))
        for path in files
        if path.exists() and path.stat().st_size and "BUSL-1.1" not in path.read_text()[:200]
    ]
    assert not lacking


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "command",
    [
        ("ruff", "format", "--check", "."),
        ("ruff", "check", "."),
        ("mypy",),
        ("mypy", *(f"plugins/{name}/mlos_plugin_{name}" for name in TYPED_PLUGINS)),
    ],
    ids=" ".join,
)
def test_the_sources_are_formatted_linted_and_typed(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
