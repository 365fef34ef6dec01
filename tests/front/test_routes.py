# SPDX-License-Identifier: BUSL-1.1
"""Every route, and every form of error, over a real server on TCP and on a Unix socket."""

from __future__ import annotations

import json
import re

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mlos_core import errors
from mlos_core.front.http import build
from mlos_core.front.limits import Limits
from mlos_core.front.table import ENDPOINTS


def test_a_model_is_registered_with_all_its_options(client, service):
    body = {"name": "a/b", "path": "/m", "plugin": "echo", "instances": 2, "options": {"x": 1}}
    answer = client.post("/api/v1/models/register", json=body)
    assert answer.status_code == 201
    assert answer.json()["name"] == "a/b"
    name, path, options = service.registered[0]
    assert (name, path, options["plugin"], options["instances"]) == ("a/b", "/m", "echo", 2)
    assert options["options"] == {"x": 1}
    assert options["wait"] is True


def test_the_original_registration_is_understood(client, service, tmp_path):
    manifest = tmp_path / "manifest.yaml"
    manifest.write_text("apiVersion: axon.mlos.io/v1\nkind: Model\n")
    body = {
        "model_id": "bert",
        "plugin_id": "onnx",
        "framework": "onnx",
        "execution_format": "onnx",
        "model_path": "/m.onnx",
        "description": "a model",
        "manifest_path": str(manifest),
    }
    answer = client.post("/models/register", json=body)
    assert answer.status_code == 201
    assert answer.json()["model_id"] == "bert"
    assert answer.json()["status"] == "registered"
    name, path, options = service.registered[0]
    assert (name, path, options["plugin"]) == ("bert", "/m.onnx", "onnx")
    assert options["manifest"] == {"apiVersion": "axon.mlos.io/v1", "kind": "Model"}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"path": "/m"}, "no name"),
        ({"name": "x"}, "no path"),
        ({"name": "x", "path": "/m", "plugins": "onnx"}, "plugins"),
        ({"name": "x", "path": "/m", "instances": "two"}, "instances"),
        ({"name": "x", "model_id": "y", "path": "/m"}, "differ"),
        ({"name": "x", "path": "/m", "manifest_path": "/no/such/file"}, "cannot be read"),
        ({"name": "x", "path": "/missing"}, "no such file"),
        ({"name": "x", "path": "/m", "timeout": -1}, "timeout"),
    ],
)
def test_a_wrong_registration_says_what_is_wrong(client, service, body, said):
    answer = client.post("/api/v1/models/register", json=body)
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]
    assert answer.json()["error"]["hint"]
    assert service.registered == []


@pytest.mark.parametrize("path", ["/api/v1/models", "/models"])
def test_models_are_listed(client, path):
    names = [model["name"] for model in client.get(path).json()["models"]]
    assert "team/text/upper" in names


@pytest.mark.parametrize("name", ["team/text/upper", "team%2Ftext%2Fupper"])
def test_a_name_with_slashes_reaches_every_route(client, name):
    assert client.get(f"/api/v1/models/{name}").json()["name"] == "team/text/upper"
    assert client.get(f"/models/{name}/status").json()["status"] == "ready"
    for path in (f"/api/v1/models/{name}/infer", f"/models/{name}/inference"):
        answer = client.post(path, json={"input": "hi"})
        assert answer.json()["outputs"] == {"text": ["HI"]}
    assert client.delete(f"/api/v1/models/{name}").status_code == 200
    assert client.get(f"/api/v1/models/{name}").status_code == 404


def test_the_status_of_a_model_has_its_counters(client):
    status = client.get("/models/add/status").json()
    assert status["model_id"] == "add"
    assert status["stats"]["requests"] == 7


def test_plugins_are_listed_and_cannot_be_sent(client):
    assert [p["name"] for p in client.get("/plugins").json()["plugins"]] == ["echo", "bad"]
    answer = client.post("/plugins/register", json={"path": "/x.so"})
    assert answer.status_code == 501
    assert "pip install" in answer.json()["error"]["hint"]


def test_health_tells_living_from_ready(client, service):
    assert client.get("/health").json()["version"]
    service.is_ready = False
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").status_code == 503
    assert client.get("/health").status_code == 503
    assert client.get("/health").json()["status"] == "not ready"


def test_statistics_name_server_and_models(client):
    body = client.get("/stats").json()
    assert body["server"]["clients"] == 2
    assert body["models"]["add"]["rows"] == 12


def _samples(text: str) -> dict[tuple[str, str, str], float]:
    return {
        (s.name, s.labels.get("model", ""), s.labels.get("phase", s.labels.get("state", ""))): (
            s.value
        )
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_metrics_parse_and_hold_the_services_figures(client):
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    samples = _samples(answer.text)
    assert samples["mlos_model_requests_total", "add", ""] == 7
    assert samples["mlos_model_rows_total", "add", ""] == 12
    assert samples["mlos_model_phase_seconds_total", "add", "infer"] == 3.0
    assert samples["mlos_model_state", "add", "ready"] == 1
    assert samples["mlos_model_state", "add", "failed"] == 0
    assert samples["mlos_uptime_seconds", "", ""] == 3.5
    assert samples["nv_inference_request_success", "add", ""] == 5


def test_metrics_count_http_requests_by_route_and_not_by_path(client):
    client.get("/api/v1/models/add")
    client.get("/api/v1/models/team/text/upper")
    client.get("/nothing/1")
    client.get("/nothing/2")
    text = client.get("/metrics").text
    counted = {
        (s.labels["route"], s.labels["status"]): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
        if s.name == "mlos_http_requests_total"
    }
    assert counted["/api/v1/models/{name}", "200"] == 2
    assert counted["unmatched", "404"] == 2


def test_metrics_come_as_openmetrics_when_asked_for(client):
    answer = client.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_the_document_names_exactly_the_routes_that_exist(client, service):
    document = client.get("/openapi.json").json()
    documented = {
        (method.upper(), path) for path, item in document["paths"].items() for method in item
    }
    _, app = build(service, Limits())
    served = {
        (method, route.path.replace("{name:model}", "{name}"))
        for route in app._app.routes
        for method in route.methods - {"HEAD"}
    }
    assert documented == served
    assert len(served) == len(ENDPOINTS)


def test_each_documented_operation_is_whole(client):
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    text = json.dumps(document)
    for part in text.split('"$ref": "#/components/schemas/')[1:]:
        assert part.split('"')[0] in schemas
    identifiers = set()
    for path, item in document["paths"].items():
        for operation in item.values():
            identifiers.add(operation["operationId"])
            assert operation["summary"]
            assert operation["responses"]
            named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))
    assert len(identifiers) == len(ENDPOINTS)


def test_the_page_needs_nothing_from_elsewhere(client):
    answer = client.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert "//" not in answer.text.replace("<!doctype html>", "")
    assert "src=" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "sha256-" in answer.headers["content-security-policy"]


def _error(answer: httpx.Response) -> dict[str, str]:
    assert answer.headers["content-type"] == "application/json"
    assert answer.json().keys() == {"error"}
    assert answer.json()["error"].keys() == {"code", "message", "hint"}
    return answer.json()["error"]


@pytest.mark.parametrize(("code", "kind"), sorted(errors.BY_CODE.items()))
def test_an_error_of_the_model_keeps_its_code_and_status(front, code, kind):
    body = {"inputs": {"x": [1]}, "parameters": {"code": code}}
    with front.client() as client:
        answer = client.post("/api/v1/models/failing/infer", json=body)
    error = _error(answer)
    assert answer.status_code == kind.http_status
    assert (error["code"], error["message"], error["hint"]) == (code, "it failed", "do something")
    assert ("retry-after" in answer.headers) == (kind.http_status in (429, 503))


def test_a_bug_is_answered_without_a_word_of_its_inside(client):
    answer = client.post("/api/v1/models/broken/infer", json={"inputs": {"x": [1]}})
    assert answer.status_code == 500
    assert _error(answer)["code"] == "internal"
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("path", ["/", "/api/v1/models/", "/nothing", "/api/v1/models/x%0Ay/z"])
def test_an_unknown_path_is_not_found(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert _error(answer)["code"] in ("unknown_route", "not_found")


def test_a_wrong_method_names_the_right_ones(client):
    answer = client.put("/api/v1/models/add")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "DELETE, GET, HEAD"
    assert _error(answer)["code"] == "method_not_allowed"


def test_an_unknown_model_is_not_found_on_every_route(client):
    for method, path in (
        ("GET", "/api/v1/models/none"),
        ("DELETE", "/api/v1/models/none"),
        ("GET", "/models/none/status"),
        ("POST", "/api/v1/models/none/infer"),
        ("POST", "/models/none/inference"),
    ):
        answer = client.request(method, path, json={"inputs": {"x": [1]}})
        assert (answer.status_code, _error(answer)["code"]) == (404, "not_found")


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_a_page_of_another_server_may_not_use_this_one(client, service, origin):
    answer = client.post(
        "/api/v1/models/register", json={"name": "x", "path": "/m"}, headers={"Origin": origin}
    )
    assert answer.status_code == 403
    assert _error(answer)["code"] == "permission_denied"
    assert service.registered == []


def test_a_foreign_name_for_this_server_is_refused_to_pages(client):
    headers = {"Origin": "http://evil.example", "Host": "evil.example"}
    assert client.get("/api/v1/models", headers=headers).status_code == 403


def test_the_servers_own_page_may_use_it(front):
    with front.client() as client:
        assert client.get("/health", headers={"Origin": front.url}).status_code == 200
