# SPDX-License-Identifier: BUSL-1.1
"""Inference bodies in every form, and what is said of the wrong ones."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest

NPY = "application/x-npy"
NPZ = "application/x-npz"


def npy(array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(compressed=False, **arrays) -> bytes:
    stream = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(stream, **arrays)
    return stream.getvalue()


def infer(client, model, inputs, **more):
    return client.post(f"/api/v1/models/{model}/infer", json={"inputs": inputs, **more})


def test_named_inputs_become_the_models_dtypes(client, service):
    answer = infer(client, "add", {"a": [1, 2], "b": [0.5, 3]})
    assert answer.json() == {"model": "add", "outputs": {"sum": [1.5, 5.0]}, "parameters": {}}
    _, inputs, timeout, parameters, outputs = service.asked[0]
    assert inputs["a"].dtype == np.float32
    assert (parameters, outputs) == ({}, ())
    assert 0 < timeout <= 60
    assert service.released == ["released"]


def test_the_model_may_be_named_in_the_body(client):
    body = {"model_id": "add", "inputs": {"a": [1], "b": [2]}}
    assert client.post("/api/v1/inference", json=body).json()["outputs"] == {"sum": [3.0]}
    assert "model_id" in client.post("/api/v1/inference", json={"inputs": {}}).text


@pytest.mark.parametrize("key", ["inputs", "input"])
def test_a_model_with_one_input_takes_a_bare_value(client, key):
    body = {key: [[1, 2], [3, 4]]}
    answer = client.post("/api/v1/models/ints/infer", json=body)
    assert answer.json()["outputs"] == {"x": [[2, 4], [6, 8]], "n": 4}


def test_the_original_takes_inputs_as_keys_and_text(client):
    answer = client.post("/models/add/inference", json={"a": [1], "b": [2]})
    assert answer.json()["outputs"] == {"sum": [3.0]}
    body = {"input": "hello", "input_format": "text"}
    answer = client.post("/models/team/text/upper/inference", json=body)
    assert answer.json()["outputs"] == {"text": ["HELLO"]}
    answer = client.post("/models/add/inference", json=body)
    assert answer.status_code == 400
    assert "0 inputs that take text" in answer.json()["error"]["message"]


def test_parameters_outputs_and_timeout_reach_the_model(client, service):
    answer = infer(client, "ints", [[1]], parameters={"echo": {"k": 1}}, outputs=["n"], timeout=2.5)
    assert answer.json() == {"model": "ints", "outputs": {"n": 1}, "parameters": {"k": 1}}
    _, _, timeout, parameters, outputs = service.asked[0]
    assert 0 < timeout <= 2.5
    assert parameters == {"echo": {"k": 1}}
    assert outputs == ("n",)


@pytest.mark.parametrize(
    ("model", "inputs", "said"),
    [
        ("add", {"a": [1]}, "missing input 'b'"),
        ("add", {"a": [1], "b": [1], "c": [1]}, "unknown input 'c'"),
        ("add", {"a": [[1]], "b": [1]}, "shape [1, 1]"),
        ("add", {"a": [1, [2]], "b": [1]}, "lists of unequal length"),
        ("add", {"a": [[1], [2, 3]], "b": [1]}, "lists of unequal length"),
        ("add", {"a": ["x"], "b": [1]}, "'x', which is no number"),
        ("add", {"a": [None], "b": [1]}, "None, which is no number"),
        ("add", {"a": [True], "b": [1]}, "true or false"),
        ("add", {"a": [1, True], "b": [1]}, "True, which is no number"),
        ("add", {"a": [16777217], "b": [1]}, "16777217, which it cannot hold exactly"),
        ("add", {"a": [1e300], "b": [1]}, "too large"),
        ("add", {"a": [2**70], "b": [1]}, "more than 64 bits"),
        ("add", {"a": [0.5, 2**60], "b": [1]}, "beside fractions"),
        ("ints", {"x": [[1.5]]}, "1.5, which is no whole number"),
        ("ints", {"x": [["NaN"]]}, "nan, which is no whole number"),
        ("ints", {"x": [[2**63]]}, "9223372036854775808, which it cannot hold exactly"),
        ("ints", {"x": json.loads("[" * 20 + "]" * 20)}, "more than 16 lists deep"),
        ("flags", {"x": [2]}, "2, which it cannot hold exactly"),
        ("half", {"x": [65536]}, "65536, which it cannot hold exactly"),
        ("team/text/upper", {"text": [1]}, "give a string"),
        ("team/text/upper", {"text": [{"b64": "%%%"}]}, "no base64"),
        ("add", [1], "2 inputs, so each needs its name"),
    ],
)
def test_a_wrong_input_says_what_the_model_expects(front, model, inputs, said):
    with front.client() as client:
        answer = infer(client, model, inputs)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "invalid_input")
    assert said in error["message"]
    assert "the model" in error["hint"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "truncated"),
        (b"[]", "Expected `object`"),
        (b'{"inputs": {"x": [NaN]}}', "malformed"),
        (b'{"input": 1, "inputs": 2}', "both"),
        (b"{}", "no inputs"),
        (b'{"input": 1, "surprise": 2}', "surprise"),
        (b'{"input": 1, "input_format": "xml"}', "xml"),
        (b'{"input": [1], "timeout": 0}', "timeout"),
        (b'{"input": [1], "outputs": ["y"]}', "unknown output"),
        (b"[" * 100_000, ""),
        (b'{"input": "\xff"}', "utf-8"),
    ],
)
def test_a_wrong_body_is_refused_with_its_reason(front, body, said):
    with front.client() as client:
        answer = client.post("/api/v1/models/echo/infer", content=body)
    assert answer.status_code == 400
    assert said.lower() in answer.json()["error"]["message"].lower()


def test_nan_and_infinities_are_strings_in_both_directions(client):
    answer = infer(client, "echo", {"x": ["NaN", "Infinity", "-Infinity", 1, 0.1]})
    assert answer.json()["outputs"]["x"] == ["NaN", "Infinity", "-Infinity", 1.0, 0.1]


def test_whole_floats_are_integers_and_numbers_keep_every_digit(client):
    answer = infer(client, "ints", {"x": [[3.0, 2**62 - 1]]})
    assert answer.status_code == 400  # a float beside an integer that no float can hold
    answer = infer(client, "ints", {"x": [[2**62 - 1, -4]]})
    assert answer.json()["outputs"]["x"] == [[2**63 - 2, -8]]
    assert infer(client, "ints", {"x": [[3.0]]}).json()["outputs"]["x"] == [[6]]


def test_bytes_that_are_no_text_travel_as_base64(client):
    answer = infer(client, "team/text/upper", {"text": ["é", {"b64": "/2E="}]})
    assert answer.json()["outputs"]["text"] == ["é", {"b64": "/0E="}]


def test_an_empty_batch_keeps_its_shape(client):
    assert infer(client, "ints", {"x": [[], []]}).json()["outputs"] == {"x": [[], []], "n": 0}


# --- binary bodies ------------------------------------------------------------------------


def test_npy_goes_in_and_comes_out(client):
    x = np.arange(6, dtype=np.int64).reshape(2, 3)
    answer = client.post(
        "/api/v1/models/ints/infer?outputs=x",
        content=npy(x),
        headers={"Content-Type": NPY, "Accept": NPY},
    )
    assert answer.headers["content-type"] == NPY
    assert np.array_equal(np.load(io.BytesIO(answer.content)), x * 2)


@pytest.mark.parametrize("compressed", [False, True])
def test_npz_goes_in_and_comes_out(client, compressed):
    a, b = np.float32([1, 2]), np.float32([3, 4])
    answer = client.post(
        '/api/v1/inference?model_id=add&parameters={"echo":{"unit":"\u00b5"}}',
        content=npz(compressed, a=a, b=b),
        headers={"Content-Type": NPZ, "Accept": NPZ},
    )
    with np.load(io.BytesIO(answer.content)) as found:
        assert found.files == ["sum"]
        assert np.array_equal(found["sum"], a + b)
    assert json.loads(answer.headers["x-mlos-parameters"]) == {"unit": "\u00b5"}


def test_a_binary_body_may_be_answered_in_json(client):
    answer = client.post(
        "/api/v1/models/echo/infer", content=npy(np.float64([1])), headers={"Content-Type": NPY}
    )
    assert answer.json()["outputs"] == {"x": [1.0]}


@pytest.mark.parametrize(
    "x",
    [
        np.arange(6, dtype=">i8").reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
        np.arange(6, dtype=np.int32).reshape(2, 3),
    ],
    ids=["big-endian", "fortran", "int32"],
)
def test_any_layout_of_a_file_is_taken(front, service, x):
    with front.client() as client:
        answer = client.post(
            "/api/v1/models/ints/infer", content=npy(x), headers={"Content-Type": NPY}
        )
    assert answer.json()["outputs"]["x"] == (x * 2).tolist()
    array = service.asked[0][1]["x"]
    assert array.dtype == np.int64
    assert array.dtype.isnative


def test_byte_strings_travel_in_files(client):
    answer = client.post(
        "/api/v1/models/team/text/upper/infer",
        content=npy(np.array([b"ab", b"c"])),
        headers={"Content-Type": NPY, "Accept": NPY},
    )
    assert np.load(io.BytesIO(answer.content)).tolist() == [b"AB", b"C"]


def _bomb() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"\0" * (8 << 20))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("kind", "data", "status", "said"),
    [
        (NPY, b"not a file", 400, "no .npy file"),
        (NPY, npy(np.zeros(9))[:-1], 400, "cut short"),
        (NPY, b"", 400, "no .npy file"),
        (NPZ, b"not a file", 400, "no .npz file"),
        (NPZ, npz(x=np.zeros(9))[:-30], 400, "no .npz file"),
        (NPZ, _bomb(), 413, "unpacks to more"),
        (NPY, npy(np.int64([1])), 400, "shape [1]"),
        (NPY, npy(np.float64([[1]])), 400, "dtype float64, not int64"),
        (NPZ, npz(y=np.zeros(3)), 400, "unknown input 'y'"),
        (NPY, npy(np.zeros((1, 1), dtype="M8[s]")), 400, "not supported"),
        (NPY, npy(np.zeros((1, 1), dtype=[("a", "i4")])), 400, "not taken"),
    ],
)
def test_a_wrong_file_is_refused_with_its_reason(front, kind, data, status, said):
    with front.client() as client:
        answer = client.post(
            "/api/v1/models/ints/infer", content=data, headers={"Content-Type": kind}
        )
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]


def test_a_pickle_in_a_file_is_never_read(client):
    stream = io.BytesIO()
    np.save(stream, np.array([[object()]], dtype=object), allow_pickle=True)
    for kind, data in ((NPY, stream.getvalue()), (NPZ, _zip("x.npy", stream.getvalue()))):
        answer = client.post(
            "/api/v1/models/ints/infer", content=data, headers={"Content-Type": kind}
        )
        assert answer.status_code == 400
        assert "pickle" in answer.json()["error"]["hint"]


def _zip(name: str, data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, data)
    return stream.getvalue()


def test_several_outputs_do_not_fit_one_npy(client):
    answer = client.post(
        "/api/v1/models/ints/infer", json={"input": [[1]]}, headers={"Accept": NPY}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (406, "not_acceptable")
    assert NPZ in answer.json()["error"]["hint"]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/*;q=0.5", "application/json"),
        (f"{NPZ};q=0.5, {NPY}", NPY),
        (f"text/html, {NPZ}", NPZ),
    ],
)
def test_the_preferred_form_is_chosen(front, accept, kind):
    with front.client() as client:
        answer = client.post(
            "/api/v1/models/echo/infer", json={"input": [1]}, headers={"Accept": accept}
        )
    assert answer.headers["content-type"] == kind


def test_a_form_we_do_not_have_is_not_acceptable(client):
    answer = client.post(
        "/api/v1/models/echo/infer", json={"input": [1]}, headers={"Accept": "image/png"}
    )
    assert answer.status_code == 406


@pytest.mark.parametrize(
    "headers",
    [{"Content-Type": "text/csv"}, {"Content-Encoding": "gzip"}],
)
def test_a_form_of_body_we_do_not_know_is_refused(client, headers):
    answer = client.post("/api/v1/models/echo/infer", content=b'{"input": [1]}', headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")


# --- streams ------------------------------------------------------------------------------


def events(text: str) -> list[tuple[str, dict]]:
    found = []
    for block in text.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((lines.get("event", "message"), json.loads(lines["data"])))
    return found


@pytest.mark.parametrize(
    ("body", "headers"), [({"stream": True}, {}), ({}, {"Accept": "text/event-stream"})]
)
def test_a_stream_comes_as_events_and_says_its_end(client, body, headers):
    answer = client.post(
        "/api/v1/models/story/infer", json={"input": "once", **body}, headers=headers
    )
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert events(answer.text) == [
        ("message", {"token": 0, "text": "once"}),
        ("message", {"token": 1, "text": "once"}),
        ("message", {"token": 2, "text": "once"}),
        ("end", {"model": "story"}),
    ]


def _stream(client, **parameters):
    body = {"input": "x", "stream": True, "parameters": parameters}
    return client.post("/api/v1/models/story/infer", json=body)


def test_an_error_inside_a_stream_is_an_event(client):
    *_, last = events(_stream(client, fail_at=2).text)
    assert last == (
        "error",
        {"error": {"code": "model_failed", "message": "the model fell over", "hint": "pick it up"}},
    )


def test_a_bug_inside_a_stream_is_an_event_without_its_inside(client):
    answer = _stream(client, bug_at=1)
    assert events(answer.text)[-1][1]["error"]["code"] == "internal"
    assert "secret" not in answer.text


def test_an_error_before_the_stream_is_an_ordinary_one(client):
    answer = _stream(client, refuse="overloaded")
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "overloaded")


def test_a_stream_without_events_has_an_end(client):
    assert events(_stream(client, events=0).text) == [("end", {"model": "story"})]


def test_a_stream_beyond_its_deadline_ends_with_an_event(client, service):
    body = {"input": "x", "stream": True, "parameters": {"wait_at": 1}, "timeout": 0.05}
    answer = client.post("/api/v1/models/story/infer", json=body)
    assert events(answer.text)[-1][1]["error"]["code"] == "deadline_exceeded"
    assert service.cancelled.wait(30)


def test_a_model_that_does_not_stream_says_so(client):
    answer = client.post("/api/v1/models/echo/infer", json={"input": [1], "stream": True})
    assert (answer.status_code, answer.json()["error"]["code"]) == (501, "unsupported")
