# SPDX-License-Identifier: BUSL-1.1
"""The C tests of the engine under sanitizers."""

import pytest
from c_build import CSRC, build, run

FILES = sorted((CSRC / "synapse" / "tests").glob("test_*.c"))
THREADED = [path for path in FILES if "syn_pool_new" in path.read_text()]
# Vector kernels take the sanitizers' compiler long; bits are compared, speed is not.
QUICK = "-DCMAKE_C_FLAGS_RELWITHDEBINFO=-O1 -g"


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("sanitizer", "files"), [("address,undefined", FILES), ("thread", THREADED)]
)
def test_the_c_tests_are_clean_under_the_sanitizer(sanitizer, files, tmp_path):
    names = [f"synapse_{path.stem}" for path in files]
    assert names
    build(tmp_path, sanitizer, QUICK, targets=names)
    chosen = "|".join(f"^{name}$" for name in names)
    run("ctest", "--output-on-failure", "-j2", "-R", chosen, cwd=tmp_path)
