# SPDX-License-Identifier: BUSL-1.1
"""The C unit tests under sanitizers, and what must hold for the C sources themselves."""

import functools
import re

import channel_layout
import pytest
from c_build import CSRC, SANITIZERS, build, run

from mlos_core.ipc.native import lib

IPC = CSRC / "ipc"


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """`built("thread")` is a folder with the C tests, built once under that sanitizer."""

    @functools.cache
    def once(sanitizer):
        folder = tmp_path_factory.mktemp("ctest")
        build(folder, sanitizer, "-DMLOS_SYNAPSE=OFF")
        return folder

    return once


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
