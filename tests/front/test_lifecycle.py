# SPDX-License-Identifier: BUSL-1.1
"""Versions, and what changes them while they are asked, over a real server."""

from __future__ import annotations

import asyncio
import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mlos_core.front import lifecycle
from mlos_core.front.handles import Handles, Target
from mlos_core.front.table import ENDPOINTS
from mlos_core.types import Signature
from tests.front.conftest import spec

WAIT = 60.0
ADD = {"inputs": {"a": [1], "b": [2]}}


@pytest.mark.parametrize(
    ("path", "body", "method", "given"),
    [
        (
            "swap",
            {"path": "/m2", "new_version": "2.0", "max_error_rate": 0.5, "options": {"x": 1}},
            "swap_model",
            {
                "version": "",
                "path": "/m2",
                "new_version": "2.0",
                "plugin": "",
                "options": {"x": 1},
                "warmup_inputs": "",
                "canary": 0.0,
                "max_error_rate": 0.5,
                "allow_new_signature": False,
                "timeout": 300.0,
            },
        ),
        ("rollback", {"version": "2.0"}, "rollback_model", {"version": "2.0", "timeout": 300.0}),
        ("route", {"version": "1.0"}, "route_model", {"version": "1.0", "weights": None}),
        (
            "route",
            {"weights": {"1.0": 9, "2.0": 1}},
            "route_model",
            {"version": "", "weights": {"1.0": 9.0, "2.0": 1.0}},
        ),
        ("route", {}, "route_model", {"version": "", "weights": None}),
        ("load", {}, "load_model", {"version": "", "wait": True, "timeout": 60.0}),
        ("unload", {"version": "2.0"}, "unload_model", {"version": "2.0"}),
    ],
)
@pytest.mark.parametrize("name", ["add", "team/text/upper"])
def test_each_route_is_the_services_operation(client, service, name, path, body, method, given):
    answer = client.post(f"/api/v1/models/{name}/{path}", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["name"] == name
    assert service.changed == [(method, name, given)]


def test_a_swap_that_fails_says_why(client):
    answer = client.post("/api/v1/models/add/swap", json={"path": "/broken"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "load_failed"
    assert "goes on" in answer.json()["error"]["hint"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("swap", {"pth": "/m"}, 400),
        ("swap", {"timeout": -1}, 400),
        ("route", {"weights": {"1.0": "much"}}, 400),
        ("load", {"version": "7"}, 404),
    ],
)
def test_what_does_not_fit_changes_nothing(client, service, path, body, status):
    assert client.post(f"/api/v1/models/add/{path}", json=body).status_code == status
    assert service.changed == []


def test_a_server_that_stops_does_not_wait_for_a_trials_end(run_front, service):
    front = run_front(grace=0.05)
    with ThreadPoolExecutor(1) as threads, front.client() as client:
        path = "/api/v1/models/add/swap"
        swap = threads.submit(client.post, path, json={"canary": 3600})
        assert service.started.wait(30)
        front.stop()
        assert service.cancelled.is_set()
        assert swap.result(30).status_code == 503
    assert service.changed == []


def test_a_plugin_is_swapped(client, service):
    answer = client.post("/api/v1/plugins/echo/swap", json={"python": "/venv", "canary": 2})
    assert answer.json()["models"] == ["add"]
    ((method, name, given),) = service.changed
    assert (method, name, given["python"], given["canary"]) == ("swap_plugin", "echo", "/venv", 2)


def test_all_of_them_are_for_the_daemons_own_user():
    own = [e for e in ENDPOINTS if e.handler.__module__ == lifecycle.__name__]
    assert len(own) >= 8
    assert {e.path for e in own if not e.admin} == {"/api/v1/models/{name}/versions/{version}"}


# --- versions ----------------------------------------------------------------------------


def test_a_version_is_shown_and_forgotten(client, service):
    path = "/api/v1/models/team/text/upper/versions/1.0"
    assert client.get(path).json() == {"version": "1.0", "state": "ready"}
    assert client.delete(path).status_code == 200
    assert service.gone == {"team/text/upper@1.0"}


def test_a_version_that_is_not_there_names_those_that_are(client):
    answer = client.get("/api/v1/models/add/versions/3.0")
    assert answer.status_code == 404
    assert "1.0, 2.0" in answer.json()["error"]["hint"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/models/add/versions/2.0/infer", ADD),
        ("/api/v1/models/add/infer", {**ADD, "version": "2.0"}),
        ("/api/v1/models/add/infer?version=2.0", ADD),
        ("/api/v1/inference", {**ADD, "model_id": "add", "version": "2.0"}),
        ("/models/add/inference", {**ADD, "version": "2.0"}),
        ("/models/add/inference?version=2.0", ADD["inputs"]),
    ],
)
def test_a_request_may_name_a_version_in_many_ways(client, service, path, body):
    answer = client.post(path, json=body).json()
    assert answer["outputs"] == {"sum": [3.0]}
    assert answer["version"] == "2.0"
    assert service.versions == ["2.0"]


def test_arrays_may_be_for_a_version(client, service):
    raw = io.BytesIO()
    np.save(raw, np.ones(2))
    answer = client.post(
        "/api/v1/models/echo/versions/1.0/infer",
        content=raw.getvalue(),
        headers={"content-type": "application/x-npy", "accept": "application/x-npy"},
    )
    assert answer.headers["x-mlos-version"] == "1.0"
    assert service.versions == ["1.0"]


def test_two_versions_at_once_are_refused(client, service):
    path = "/api/v1/models/add/versions/2.0/infer"
    answer = client.post(path, json={**ADD, "version": "1.0"})
    assert answer.status_code == 400
    assert "1.0 and 2.0" in answer.json()["error"]["message"]
    assert service.versions == []


def test_an_unknown_version_is_an_error(client):
    answer = client.post("/api/v1/models/add/versions/9/infer", json=ADD)
    assert answer.status_code == 404
    assert "1.0, 2.0" in answer.json()["error"]["hint"]


def test_a_route_that_is_not_weighted_is_followed(client, service):
    answer = client.post("/api/v1/models/add/infer", json=ADD).json()
    assert service.versions == [""]
    assert "version" not in answer


def test_a_weighted_route_picks_for_each_request(client, service):
    service.weighted = ["1.0", "2.0", "1.0"]
    said = [client.post("/api/v1/models/add/infer", json=ADD).json()["version"] for _ in "123"]
    assert said == service.versions == ["1.0", "2.0", "1.0"]
    assert [handle.version for handle in service.attached] == ["1.0", "2.0"]


def test_a_picked_version_that_is_just_gone_is_replaced_by_the_route(client, service):
    service.gone.add("add@1.0")
    service.weighted = ["1.0"]
    answer = client.post("/api/v1/models/add/infer", json=ADD)
    assert answer.status_code == 200
    assert service.versions == [""]


def test_streams_name_their_version_at_the_end(client):
    path = "/api/v1/models/story/versions/2.0/infer"
    with client.stream("POST", path, json={"input": "hi", "stream": True}) as answer:
        lines = list(answer.iter_lines())
    assert 'data: {"model":"story","version":"2.0"}' in lines


# --- handles -----------------------------------------------------------------------------


def handles_of(service):
    return Handles(lambda: service.client, 4, service.pick)


def test_after_a_swap_the_channel_stays(client, service):
    for _ in range(2):
        client.post("/api/v1/models/add/infer", json=ADD)
        client.post("/api/v1/models/add/swap", json={"path": "/m2"})
    assert len(service.attached) == 1


def test_a_swap_to_other_inputs_attaches_anew(client, service):
    for _ in range(2):
        client.post("/api/v1/models/add/infer", json=ADD)
        client.post("/api/v1/models/add/swap", json={"allow_new_signature": True})
    assert len(service.attached) == 2


@pytest.mark.parametrize("x", [[1.5], [2**60]])
def test_where_a_route_moved_to_other_inputs_the_request_is_read_anew(client, service, x):
    path = "/api/v1/models/half/infer"
    assert client.post(path, json={"inputs": {"x": [1]}}).status_code == 200
    assert client.post(path, json={"inputs": {"y": x}}).status_code == 400
    service.moved["half"] = Signature((spec("y", "float64", -1),), ())
    service.answer = lambda name, inputs: {"y": inputs["y"]}
    answer = client.post(path, json={"inputs": {"y": x}})
    assert answer.json()["outputs"] == {"y": x}
    assert len(service.attached) == 1


def test_a_version_that_goes_takes_its_handle_and_no_other(service):
    async def run() -> None:
        handles = handles_of(service)
        for version in ("", "1.0", "2.0"):
            await handles.signature(Target("echo", version))
        handles.drop("echo", "1.0")
        await asyncio.sleep(0)
        assert [handle.closed for handle in service.attached] == [False, True, False]
        handles.drop("echo")
        await handles.close()
        assert all(handle.closed for handle in service.attached)

    asyncio.run(run())


@pytest.mark.parametrize(("state", "said"), [("loading", "not ready"), ("ready", "deadline")])
def test_a_deadline_of_a_model_that_was_unloaded_meanwhile_says_so(
    client, service, monkeypatch, state, said
):
    info = service.info
    monkeypatch.setattr(service, "info", lambda name: {**info(name), "state": state})
    path = "/api/v1/models/slow/infer"
    answer = client.post(path, json={"inputs": {"x": [1]}, "timeout": 0.05})
    assert answer.status_code == 504
    assert said in answer.json()["error"]["message"]


def test_versions_that_nobody_asks_any_more_are_given_up(service, monkeypatch):
    known = [f"1.{number}" for number in range(12)]
    monkeypatch.setattr(service, "_known", lambda name, version="": None)

    async def run() -> None:
        handles = handles_of(service)
        await handles.signature(Target("echo"))
        async with handles.use(Target("echo", known[0])) as first:
            for version in known[1:]:
                await handles.signature(Target("echo", version))
            await asyncio.sleep(0)
            assert not first.closed
        open_ones = [handle.version for handle in service.attached if not handle.closed]
        assert open_ones == ["", known[0], *known[-8:]]
        await handles.close()

    asyncio.run(run())


def test_a_deadline_that_passes_while_the_model_loads_says_so(client, service):
    service.loading = asyncio.Event()
    answer = client.post("/api/v1/models/add/infer", json={**ADD}, params={"timeout": 0.05})
    assert answer.status_code == 504
    assert "'add' was not ready" in answer.json()["error"]["message"]
    assert "goes on loading" in answer.json()["error"]["hint"]
