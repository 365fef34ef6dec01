# SPDX-License-Identifier: BUSL-1.1
import pytest
from tiny_text import CHATML, bytelevel_metadata, opened, sentencepiece_metadata

from mlos_core.synapse.text import TextModel
from mlos_core.synapse.weights import open_model


@pytest.fixture(scope="session")
def bytelevel():
    return TextModel(opened(bytelevel_metadata(), chat_template=CHATML))


@pytest.fixture(scope="session")
def sentencepiece():
    return TextModel(opened(sentencepiece_metadata()))


@pytest.fixture(scope="session")
def smollm2_text(smollm2):
    with open_model(smollm2) as files:
        return TextModel(files)


@pytest.fixture(scope="session")
def gemma3_text(gemma):
    with open_model(gemma) as files:
        return TextModel(files)
