# SPDX-License-Identifier: BUSL-1.1
"""The C unit tests under sanitizers, and what must hold for the C sources themselves."""

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import channel_layout
import pytest

from mlos_core.ipc.native import lib

CSRC = Path(__file__).resolve().parents[2] / "csrc"
IPC = CSRC / "ipc"
SANITIZERS = ["address,undefined", "thread"]
ENVIRON = {
    **os.environ,
    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    "ASAN_OPTIONS": "detect_leaks=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
}


def run(*command, cwd=None):
    done = subprocess.run(
        command, cwd=cwd, env=ENVIRON, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-8000:]}{done.stderr[-8000:]}"
    return done.stdout


def unrandomised():
    """A wrapper under which addresses are not randomised, where the machine allows it."""
    setarch = shutil.which("setarch", path=ENVIRON["PATH"])
    if setarch is None or subprocess.run([setarch, "-R", "true"], check=False).returncode:
        return ""
    return f"{setarch};-R"


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """`built("thread")` is a folder with the C tests, built once under that sanitizer."""

    @functools.cache
    def build(sanitizer):
        folder = tmp_path_factory.mktemp("ctest")
        run(
            *("cmake", "-S", str(CSRC), "-B", str(folder), "-G", "Ninja"),
            *("-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DMLOS_EXTENSION=OFF", "-DMLOS_TESTS=ON"),
            *(f"-DMLOS_SANITIZE={sanitizer}", f"-DMLOS_TEST_WRAPPER={unrandomised()}"),
        )
        run("cmake", "--build", str(folder), "-j2")
        return folder

    return build


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_the_c_tests_are_clean_under_the_sanitizer(built, sanitizer):
    run("ctest", "--output-on-failure", "-j2", cwd=built(sanitizer))


def test_every_c_test_file_is_run():
    cmake = (CSRC / "tests" / "CMakeLists.txt").read_text()
    listed = re.search(r"foreach\(name ([\w ]+)\)", cmake).group(1).split()
    assert sorted(listed) == sorted(
        path.stem.removeprefix("test_") for path in (CSRC / "tests").glob("test_*.c")
    )


def test_every_c_test_function_is_run():
    for path in (CSRC / "tests").glob("test_*.c"):
        text = path.read_text()
        body = text[text.index("int main(void)") :]
        for name in re.findall(r"^static void (\w+)\(void\) \{", text, re.MULTILINE):
            assert f"RUN({name});" in body, f"{path.name}: {name} is not run"


def test_python_tests_know_the_layout(built):
    wanted = {("header", name): where for name, where in channel_layout.HEADER.items()}
    wanted |= {("slot", name): where for name, where in channel_layout.SLOT.items()}
    lines = run(str(built("address,undefined") / "tests" / "print_layout")).splitlines()
    printed = {}
    for line in lines:
        kind, name, offset, size = line.split()
        printed[kind, name] = (int(offset), int(size))
    assert printed == wanted


def sources():
    return {path.name: path.read_text() for path in [*IPC.glob("*.c"), *IPC.glob("*.h")]}


def test_a_slots_word_is_written_by_slot_move_alone():
    writes = re.compile(
        r"(atomic_(store|exchange|compare_exchange|fetch)\w*\s*\(\s*&[^;]*?(->|\.)word\b)"
        r"|((slot|slots\[\w+\])(->|\.)word\s*(=|\+=|\|=|&=|\^=)[^=])"
    )
    found = [(n, m.group(0)) for n, text in sources().items() for m in writes.finditer(text)]
    assert [name for name, _ in found] == ["channel.h"], found
    assert "slot_move" in sources()["channel.h"]


def test_every_transition_is_made_by_slot_move():
    text = sources()["crash.h"]
    names = re.findall(r"X\((\w+), MLOS_\w+, MLOS_\w+\)", text)
    assert len(names) >= 6
    together = "".join(sources().values())
    for name in names:
        assert re.search(rf"slot_move\([^;]*\bT_{name}\b", together), f"nobody moves by {name}"


def test_every_step_is_passed_somewhere():
    text = sources()["crash.h"]
    steps = re.findall(r"X\(([A-Z]+)\) ", text)
    assert steps
    together = "".join(t for n, t in sources().items() if n != "crash.h")
    for name in steps:
        assert f"CRASH_POINT(CRASH_{name})" in together, f"nobody passes {name}"


def test_the_ordinary_build_has_no_crash_points():
    assert not lib.mlos_crash_points()[0]
    assert lib.mlos_crash_arm(b"BEFORE_FILL", 1) < 0
