# SPDX-License-Identifier: BUSL-1.1
"""A sentence encoder behind a real daemon: installed, registered, asked by many at once."""

import numpy as np
import pytest
import tiny_encoder

import axon_client
from axon_client.register import register
from mlos_core.errors import InvalidInput, Unsupported

from .transports import at_once

pytest.importorskip("mlos_plugin_synapse")


@pytest.fixture
def folder(tmp_path):
    tiny_encoder.write_encoder(tmp_path / "tiny-encoder")
    return tmp_path / "tiny-encoder"


def expected(ids):
    weights = tiny_encoder.random_weights(tiny_encoder.CONFIG)
    return tiny_encoder.expected(weights, ids)


def test_a_folder_that_axon_installed_is_served_without_naming_a_plugin(daemon, folder, tmp_path):
    package = axon_client.install(str(folder), home=tmp_path / "axon")
    assert package.manifest.spec.framework.name == "transformers"
    assert register(package, daemon.connect)["state"] == "ready"
    with daemon.connect() as client:
        model = client.model("tiny-encoder")
        assert model.signature.tasks == ("embed",)
        with model.infer({"text": [b"a b", b""]}) as result:
            assert result["tokens"].tolist() == [4, 2]
            right = [expected([2, 4, 5, 3]), expected([2, 3])]
            np.testing.assert_allclose(result["embedding"], right, rtol=0, atol=3e-6)


def test_joined_requests_have_the_bits_of_each_alone(daemon, folder):
    batch = {"max_batch_size": 16, "max_queue_delay_us": 2000}
    daemon.call("register", name="alone", path=str(folder))
    daemon.call("register", name="joined", path=str(folder), batch=batch)
    words = [" ".join("abcdefghij"[: n % 10 + 1]).encode() for n in range(40)]

    def ask(name):
        with daemon.connect() as client:
            model = client.model(name)
            futures = [model.submit({"text": [word]}) for word in words]
            return [future.result()["embedding"].tobytes() for future in futures]

    right = ask("alone")
    assert at_once([lambda: ask("joined")] * 3) == [right] * 3
    assert daemon.call("stats", name="joined")["joined"]["executions"] < 3 * len(words)


def test_options_decide_what_becomes_of_long_texts(daemon, folder):
    daemon.call("register", name="cut", path=str(folder))
    daemon.call("register", name="strict", path=str(folder), options={"truncate": "false"})
    with daemon.connect() as client:
        long = {"text": [b"a " * 50]}
        assert client.model("cut").infer(long)["tokens"].tolist() == [20]
        with pytest.raises(InvalidInput, match="52 tokens"):
            client.model("strict").infer(long)


def test_an_encoder_that_is_not_computed_here_says_why(daemon, folder):
    tiny_encoder.write_encoder(folder, hidden_act="relu")
    with pytest.raises(Unsupported, match="hidden_act is 'relu'"):
        daemon.call("register", name="relu", path=str(folder))
