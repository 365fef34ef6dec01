# SPDX-License-Identifier: BUSL-1.1
"""What one client may take: bodies, headers, places, time; and what it leaves when it goes."""

from __future__ import annotations

import json
import signal
import socket
import threading

import pytest

from mlos_core import errors

HEAD = b"POST /api/v1/models/echo/infer HTTP/1.1\r\nHost: x\r\n"
BODY = json.dumps({"input": [1]}).encode()


class Raw:
    """A connection on which anything can be sent."""

    def __init__(self, front) -> None:
        self.sock = socket.create_connection(("127.0.0.1", front.port), timeout=30)
        self.rest = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        while b"\r\n\r\n" not in self.rest:
            data = self.sock.recv(65536)
            assert data, f"the connection ended after {self.rest!r}"
            self.rest += data
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        size = int(headers["content-length"])
        while len(self.rest) < size:
            self.rest += self.sock.recv(65536)
        body, self.rest = self.rest[:size], self.rest[size:]
        return int(first.split()[1]), headers, body

    def ends(self) -> bool:
        try:
            return self.sock.recv(1) == b""
        except ConnectionError:
            return True


def code(body: bytes) -> str:
    return json.loads(body)["error"]["code"]


def test_a_body_announced_too_large_is_refused_before_it_is_sent(front, service):
    with Raw(front) as raw:
        raw.send(HEAD + b"Content-Length: 2000000\r\nExpect: 100-continue\r\n\r\n")
        status, _, body = raw.answer()
    assert (status, code(body)) == (413, "payload_too_large")
    assert service.asked == []


def test_a_chunked_body_is_refused_once_it_is_too_large(front, service):
    chunk = b"%x\r\n" % 65536 + b" " * 65536 + b"\r\n"
    with Raw(front) as raw:
        raw.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 17)
        status, _, body = raw.answer()  # without the end of the body ever being sent
    assert (status, code(body)) == (413, "payload_too_large")
    assert service.asked == []


def test_a_chunked_body_within_the_limit_is_taken(front):
    with Raw(front) as raw:
        raw.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for byte in BODY:
            raw.send(b"1\r\n" + bytes([byte]) + b"\r\n")
        raw.send(b"0\r\n\r\n")
        assert raw.answer()[0] == 200


def test_the_client_of_a_refused_body_can_go_on_after_it(front):
    with Raw(front) as raw:
        raw.send(HEAD + b"Content-Length: 2000000\r\n\r\n" + b" " * 2_000_000)
        assert raw.answer()[0] == 413
        raw.send(HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
        assert raw.answer()[0] == 200


def test_a_refused_body_is_not_read_without_end(run_front):
    front = run_front(discard=1 << 20)
    with Raw(front) as raw:
        raw.send(HEAD + b"Content-Length: 2000000000\r\n\r\n")
        assert raw.answer()[0] == 413
        with pytest.raises(ConnectionError):
            raw.send(b" " * 200_000_000)


def test_a_refused_body_that_does_not_come_ends_the_connection(run_front):
    with Raw(run_front(linger=0.05)) as raw:
        raw.send(HEAD + b"Content-Length: 2000000\r\n\r\n")
        assert raw.answer()[0] == 413
        assert raw.ends()


def test_a_length_that_is_too_short_ends_the_connection_after_the_answer(front):
    with Raw(front) as raw:
        raw.send(HEAD + b"Content-Length: 2\r\n\r\n" + b"{}garbage\r\n\r\n")
        status, _, body = raw.answer()
        assert (status, b"no inputs" in body) == (400, True)
        assert raw.ends()


def test_a_length_that_is_too_long_ends_with_the_deadline(front):
    with Raw(front) as raw:
        raw.send(HEAD + b"X-MLOS-Timeout: 0.05\r\nContent-Length: 99\r\n\r\n" + BODY)
        status, _, body = raw.answer()
    assert (status, code(body)) == (408, "request_timeout")


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: -1\r\n",
        b"Content-Length: 1e3\r\n",
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 99999999999999999999999999\r\n",
    ],
)
def test_a_length_that_is_none_is_refused(front, lines):
    with Raw(front) as raw:
        raw.send(HEAD + lines + b"\r\n")
        status, _, body = raw.answer()
        assert (status, code(body)) == (400, "invalid_input")
        assert raw.ends()


def test_what_is_no_http_is_answered_like_all_errors(front):
    with Raw(front) as raw:
        raw.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        status, headers, body = raw.answer()
    assert (status, code(body)) == (400, "invalid_input")
    assert headers["connection"] == "close"


def test_bodies_in_flight_share_one_budget(run_front, service):
    front = run_front(bodies=1 << 20)
    with Raw(front) as first, Raw(front) as second:
        first.send(HEAD + b"Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n")
        assert first.sock.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"  # it holds its share
        second.send(HEAD + b"Content-Length: 100000\r\n\r\n" + b" " * 100_000)
        status, headers, body = second.answer()
        assert (status, code(body)) == (429, "overloaded")
        assert headers["retry-after"] == "1"
        first.send(BODY + b" " * (1_000_000 - len(BODY)))
        assert first.answer()[0] == 200
        second.send(HEAD + b"Content-Length: 100000\r\n\r\n" + BODY.ljust(100_000))
        assert second.answer()[0] == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 300_000,
    ],
    ids=["line", "header", "many headers", "endless header"],
)
def test_a_head_that_is_too_large_is_refused(front, head):
    with Raw(front) as raw:
        raw.send(head)
        status, _, body = raw.answer()
        assert (status, code(body)) == (431, "headers_too_large")
        assert raw.ends()


def test_a_head_that_does_not_end_is_refused_in_time(run_front):
    with Raw(run_front(head_timeout=0.05)) as raw:
        raw.send(b"GET / HTTP/1.1\r\nHost:")
        status, _, body = raw.answer()
        assert (status, code(body)) == (408, "request_timeout")
        assert raw.ends()


def test_a_connection_that_says_nothing_is_closed(run_front):
    with Raw(run_front(head_timeout=0.05)) as raw:
        assert raw.ends()


def test_one_connection_too_many_is_told_to_come_back(run_front):
    front = run_front(connections=1)
    with Raw(front) as first, Raw(front) as second:
        status, headers, body = second.answer()
        assert (status, code(body)) == (503, "too_many_connections")
        assert headers["retry-after"] == "1"
        first.send(HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
        assert first.answer()[0] == 200


def _slow(client, **more):
    return client.post("/api/v1/models/slow/infer", json={"input": [1], **more})


def test_one_request_too_many_is_told_to_come_back_but_health_is_answered(run_front, service):
    front = run_front(requests=1)
    answers = []
    with front.client() as first, front.client() as second:
        thread = threading.Thread(target=lambda: answers.append(_slow(first)))
        thread.start()
        assert service.started.wait(30)
        refused = second.get("/api/v1/models")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert second.get("/health/live").status_code == 200
        assert "mlos_http_requests_in_flight 1.0" in second.get("/metrics").text
        service.proceed.set()
        thread.join(30)
        assert answers[0].status_code == 200
        assert second.get("/api/v1/models").status_code == 200


@pytest.mark.parametrize(
    ("path", "headers", "body"),
    [
        ("", {}, {"timeout": 0.05}),
        ("?timeout=0.05", {}, {}),
        ("", {"X-MLOS-Timeout": "0.05"}, {}),
    ],
)
def test_a_deadline_ends_the_request_and_cancels_it(front, service, path, headers, body):
    with front.client() as client:
        answer = client.post(
            f"/api/v1/models/slow/infer{path}", json={"input": [1], **body}, headers=headers
        )
    assert (answer.status_code, code(answer.content)) == (504, "deadline_exceeded")
    assert service.cancelled.wait(30)


@pytest.mark.parametrize("size", [10, 400_000])
def test_a_client_that_leaves_cancels_its_request(front, service, size):
    body = b'{"input": [1]}'.ljust(size)
    path = b"POST /api/v1/models/slow/infer HTTP/1.1\r\nHost: x\r\n"
    with Raw(front) as raw:
        raw.send(path + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert service.started.wait(30)
        assert not service.cancelled.is_set()
    assert service.cancelled.wait(30)


def test_a_client_that_leaves_cancels_its_stream(front, service):
    body = json.dumps({"input": "x", "stream": True, "parameters": {"wait_at": 1}}).encode()
    path = b"POST /api/v1/models/story/infer HTTP/1.1\r\nHost: x\r\n"
    with Raw(front) as raw:
        raw.send(path + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert service.started.wait(30)
    assert service.cancelled.wait(30)


def test_pipelined_requests_are_answered_in_order(front):
    def request(number: int) -> bytes:
        body = json.dumps({"input": [number]}).encode()
        return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body

    with Raw(front) as raw:
        raw.send(request(1) + request(2) + request(3))
        found = [json.loads(raw.answer()[2])["outputs"]["x"] for _ in range(3)]
    assert found == [[1.0], [2.0], [3.0]]


# --- the end ------------------------------------------------------------------------------


def test_stopping_lets_a_running_request_end(run_front, service):
    front = run_front()
    answers = []
    with front.client() as client:
        thread = threading.Thread(target=lambda: answers.append(_slow(client)))
        thread.start()
        assert service.started.wait(30)
        stopper = threading.Thread(target=front.stop)
        stopper.start()
        service.proceed.set()
        thread.join(30)
        stopper.join(30)
    assert answers[0].status_code == 200
    assert service.closed == ["slow"]


def test_stopping_cancels_what_outlasts_the_grace(run_front, service):
    front = run_front(grace=0.01)
    answers = []
    with front.client() as client:
        thread = threading.Thread(target=lambda: answers.append(_slow(client)))
        thread.start()
        assert service.started.wait(30)
        service.answer = None
        stopper = threading.Thread(target=front.stop)
        stopper.start()
        assert service.cancelled.wait(30)
        service.proceed.set()
        thread.join(30)
        stopper.join(30)
    assert answers[0].status_code == 503
    assert answers[0].headers["retry-after"] == "1"


def test_the_socket_is_private_and_gone_afterwards(run_front):
    from pathlib import Path

    front = run_front()
    path = Path(front.socket)
    assert path.stat().st_mode & 0o777 == 0o600
    front.stop()
    assert not path.exists()


_HANDLERS = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]


def test_signal_handlers_are_left_alone(front):
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == _HANDLERS


# --- handles ------------------------------------------------------------------------------


def _echo(client):
    return client.post("/api/v1/models/echo/infer", json={"input": [1]})


def test_one_handle_serves_all_requests_until_the_model_goes(front, service):
    with front.client() as client:
        assert _echo(client).status_code == _echo(client).status_code == 200
        assert len(service.attached) == 1
        client.delete("/api/v1/models/echo")
        service.gone.clear()
        assert _echo(client).status_code == 200
    assert len(service.attached) == 2
    assert service.closed == ["echo"]


def test_a_request_that_was_not_accepted_is_asked_once_more(front, service):
    error = errors.Unavailable("the model was replaced")
    error.accepted = False
    service.refusals = [error]
    with front.client() as client:
        assert _echo(client).status_code == 200
    assert len(service.attached) == 2


def test_a_request_that_may_have_been_accepted_is_not_asked_again(front, service):
    service.refusals = [errors.Unavailable("every worker died")]
    with front.client() as client:
        assert _echo(client).status_code == 503
        assert len(service.asked) == 1
        assert _echo(client).status_code == 200
    assert len(service.attached) == 2


def test_a_large_request_gets_a_channel_that_holds_it(run_front, service):
    import io

    import numpy as np

    front = run_front(body=64 << 20)
    stream = io.BytesIO()
    np.save(stream, np.zeros(2_000_000))
    with front.client() as client:
        _echo(client)
        answer = client.post(
            "/api/v1/models/echo/infer",
            content=stream.getvalue(),
            headers={"Content-Type": "application/x-npy", "Accept": "application/x-npy"},
        )
        assert len(answer.content) == len(stream.getvalue())
        _echo(client)
    assert [handle.room >> 20 for handle in service.attached] == [16, 32]
    assert service.closed == ["echo"]
