# SPDX-License-Identifier: BUSL-1.1
"""Handles whose route leads to something else, with a daemon."""

import asyncio

import pytest

from mlos_core.client import connect_async
from mlos_core.errors import InvalidInput, NotFound

OTHER = [{"name": "y", "dtype": "int64", "shape": [-1]}]


@pytest.fixture
def client(daemon, echo_file):
    with daemon.connect() as client:
        client.call("register", name="m", path=echo_file("sum"), version="1.0")
        yield client


def test_a_swap_to_other_inputs_is_followed_by_open_handles(daemon, client, echo_file):
    other = echo_file("echo", inputs=OTHER)

    async def run():
        model = client.model("m")
        async with await connect_async(daemon.socket) as asynchronous:
            beside = await asynchronous.model("m")
            for result in (model.infer({"x": [1, 2]}), await beside.infer({"x": [1, 2]})):
                assert result["sum"] == 3
            client.call("swap_model", name="m", path=other, allow_new_signature=True)
            for result in (model.infer({"y": [1, 2]}), await beside.infer({"y": [1, 2]})):
                assert result["y"].tolist() == [1, 2]
        with pytest.raises(InvalidInput, match="unknown input 'x'"):
            model.infer({"x": [1, 2]})

    asyncio.run(run())


def test_a_swap_to_other_inputs_is_refused_unless_it_was_meant(client, echo_file):
    with pytest.raises(Exception, match="does not answer the clients of the old one"):
        client.call("swap_model", name="m", path=echo_file("echo", inputs=OTHER))
    assert client.model("m").infer({"x": [1, 2]})["sum"] == 3


def test_handles_are_on_the_version_they_name(client, echo_file):
    client.call("register", name="m", path=echo_file("echo"), version="2.0", add=True)
    assert client.model("m", version="1.0").version == "1.0"
    assert client.model("m@1.0").version == "1.0"
    assert client.model("m").version == "2.0"
    assert client.model("m", version="1.0").infer({"x": [1, 2]})["sum"] == 3
    with pytest.raises(NotFound, match="no version"):
        client.model("m", version="3.0").infer({"x": [1]})


def test_what_is_unloaded_is_loaded_by_the_next_request_whoever_waits(client, daemon):
    model = client.model("m")
    model.infer({"x": [1]})
    client.call("unload_model", name="m")
    assert client.call("model", name="m")["state"] == "unloaded"
    assert model.infer({"x": [1, 2]})["sum"] == 3
    client.call("unload_model", name="m")
    with daemon.connect() as late:
        assert late.model("m").infer({"x": [1, 2]})["sum"] == 3
