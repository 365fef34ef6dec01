# SPDX-License-Identifier: BUSL-1.1
"""A package of the index travels through a registry; `registry_tour.py` sends all of them."""

import importlib.util
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def tour():
    spec = importlib.util.spec_from_file_location("registry_tour", HERE / "registry_tour.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.network
@pytest.mark.timeout(300)
def test_a_package_goes_from_the_index_through_a_registry_to_another_machine(tmp_path):
    (seen,) = tour().tour(["pypi/magika@1.0.3"], tmp_path)
    assert seen["sent_bytes"] == seen["bytes"] > 1_000_000
    assert seen["sent_again_bytes"] == 0
    assert seen["sent_for_update_bytes"] < 100
