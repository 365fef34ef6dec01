# SPDX-License-Identifier: BUSL-1.1
"""Building and running the C tests under a sanitizer."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

CSRC = Path(__file__).resolve().parents[2] / "csrc"
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
        command, cwd=cwd, env=ENVIRON, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-8000:]}{done.stderr[-8000:]}"
    return done.stdout


def build(folder, sanitizer, *options, targets=()):
    """Configure into `folder` and build `targets`, or everything."""
    run(
        *("cmake", "-S", str(CSRC), "-B", str(folder), "-G", "Ninja"),
        *("-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DMLOS_EXTENSION=OFF", "-DMLOS_TESTS=ON"),
        *(f"-DMLOS_SANITIZE={sanitizer}", f"-DMLOS_TEST_WRAPPER={unrandomised()}"),
        *options,
    )
    run("cmake", "--build", str(folder), "-j2", *(["--target", *targets] if targets else []))


def unrandomised():
    """A wrapper under which addresses are not randomised, where the machine allows it."""
    setarch = shutil.which("setarch", path=ENVIRON["PATH"])
    if setarch is None or subprocess.run([setarch, "-R", "true"], check=False).returncode:
        return ""
    return f"{setarch};-R"
