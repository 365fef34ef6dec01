# SPDX-License-Identifier: BUSL-1.1
"""Servers that lie: the file ends right, or the download says who is at fault."""

import contextlib
import gzip
import hashlib
import random
import socket
import threading

import msgspec
import pytest
from web import Reply, Web

from axon_client import net
from axon_client.adapters.base import RemoteFile
from axon_client.errors import IntegrityError
from axon_client.progress import silent
from mlos_core.errors import NotFound, ProtocolError, Unavailable

PART = 16 << 10
DATA = random.Random(7).randbytes(300_001)
ZIPPED = gzip.compress(DATA, mtime=0)


class Hasty(net.Clock):
    def sleep(self, seconds, stop=None):
        pass


@pytest.fixture(autouse=True)
def _empty_home(home):
    """No token and no setting of whoever runs the tests."""


@pytest.fixture
def web():
    with Web({"/f": DATA, "/mirror": DATA}) as web:
        yield web


@pytest.fixture
def options():
    return net.Options(part_bytes=PART, clock=Hasty(), stall_s=0.5, connect_s=5)


def replaced(**fields):
    """A lie: the honest reply with other fields; `headers` are added."""

    def lie(request, reply):
        reply.headers = reply.headers | fields.get("headers", {})
        for name in fields.keys() - {"headers"}:
            setattr(reply, name, fields[name])

    return lie


def shifted(request, reply):
    start, last = request.range
    reply.body = (DATA + b"?")[start + 1 : last + 2]


def shifted_and_said(request, reply):
    start, _ = request.range
    reply.headers["Content-Range"] = f"bytes {start + 1}-{start + len(reply.body)}/{len(DATA)}"


def more_than_asked(request, reply):
    start, _ = request.range
    reply.headers["Content-Range"] = f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"
    reply.body = DATA[start:]


def longer_than_said(request, reply):
    reply.tail = b"more" * 100


def shorter_than_said(request, reply):
    reply.headers["Content-Length"] = str(len(reply.body))
    reply.body, reply.cut = reply.body[:-1], len(reply.body) - 1


def whole_but_longer(request, reply):
    return Reply(200, {}, DATA + b"!", chunked=True)


def whole_but_shorter(request, reply):
    return Reply(200, {}, DATA[:-1])


def in_chunks_and_cut(request, reply):
    return Reply(200, {}, DATA, chunked=True, cut=len(DATA) - 7)


def zipped_range(request, reply):
    start, last = request.range
    body = ZIPPED[start : last + 1]
    said = f"bytes {start}-{start + len(body) - 1}/{len(ZIPPED)}"
    return Reply(206, {"Content-Range": said, "Content-Encoding": "gzip"}, body)


def zipped_whole(request, reply):
    return Reply(200, {"Content-Encoding": "gzip"}, ZIPPED)


def zipped_in_chunks(request, reply):
    return Reply(200, {"Content-Encoding": "gzip"}, ZIPPED, chunked=True)


def multipart(request, reply):
    return Reply(206, {"Content-Type": "multipart/byteranges; boundary=x"}, b"--x--")


def wrong_bytes(request, reply):
    reply.body = reply.body[:-1] + b"?"


def negative(request, reply):
    reply.headers["Content-Length"] = "-1"


def two_lengths(request, reply):
    reply.headers["Content-Length"] = f"{len(reply.body)}, {len(reply.body) + 1}"


def nonsense(request, reply):
    return Reply(206, {"Content-Range": "bytes 0-9/10\x85"}, b"0123456789")


def many_headers(request, reply):
    reply.headers |= {f"X-{number}": "x" for number in range(500)}


LIES = {
    "other bytes than it says": (shifted, IntegrityError),
    "another range": (shifted_and_said, ProtocolError),
    "a larger range": (more_than_asked, ProtocolError),
    "a short body": (shorter_than_said, Unavailable),
    "a whole file that is longer": (whole_but_longer, ProtocolError),
    "a whole file that is shorter": (whole_but_shorter, ProtocolError),
    "chunks that end early": (in_chunks_and_cut, Unavailable),
    "a range of a compressed file": (zipped_range, ProtocolError),
    "a compressed file": (zipped_whole, ProtocolError),
    "a compressed file in chunks": (zipped_in_chunks, ProtocolError),
    "several ranges": (multipart, ProtocolError),
    "bytes with another digest": (wrong_bytes, IntegrityError),
    "a negative length": (negative, (ProtocolError, Unavailable)),
    "two lengths": (two_lengths, (ProtocolError, Unavailable)),
    "nonsense": (nonsense, (ProtocolError, Unavailable)),
    "too many headers": (many_headers, Unavailable),
    "another size": (
        replaced(headers={"Content-Range": f"bytes 0-65535/{len(DATA) + 1}"}),
        ProtocolError,
    ),
    "no range at all": (replaced(status=206, headers={"Content-Range": ""}), ProtocolError),
    "success without content": (lambda request, reply: Reply(204, {}), ProtocolError),
    "that the range is beyond the end": (lambda request, reply: Reply(416, {}), ProtocolError),
    "that the file is empty": (
        lambda request, reply: Reply(416, {"Content-Range": "bytes */0"}),
        ProtocolError,
    ),
    "an informational answer": (
        lambda request, reply: Reply(199, {}),
        (ProtocolError, Unavailable),
    ),
}
HARMLESS = {
    "bytes behind the end": longer_than_said,
    "smaller ranges than asked for": lambda request, reply: (
        Reply(
            206,
            {"Content-Range": f"bytes {request.range[0]}-{request.range[0]}/{len(DATA)}"},
            reply.body[:1],
        )
        if request.range[0] % 5 == 0
        else None
    ),
    "no size": lambda request, reply: Reply(
        206,
        {"Content-Range": reply.headers["Content-Range"].rpartition("/")[0] + "/*"},
        reply.body,
    ),
    "the whole file, always": lambda request, reply: Reply(200, {}, DATA),
    "the whole file, sometimes": lambda request, reply: (
        Reply(200, {}, DATA) if request.range[0] else None
    ),
    "the whole file in chunks": lambda request, reply: Reply(200, {}, DATA, chunked=True),
    "the whole file and then an end": lambda request, reply: Reply(200, {}, DATA, close=True),
    "ranges in chunks": replaced(chunked=True),
    "another ETag each time": lambda request, reply: Reply(
        206, reply.headers | {"ETag": f'"{random.random()}"'}, reply.body
    ),
}


def remote(web, *paths):
    urls = tuple(web.url(path) for path in paths)
    return RemoteFile("f.onnx", urls, len(DATA), hashlib.sha256(DATA).hexdigest())


@pytest.mark.parametrize("lie", LIES)
def test_a_liar_is_refused_and_named(web, tmp_path, options, lie):
    web.behave, kind = LIES[lie]
    with pytest.raises(kind) as caught:
        net.download(tmp_path / "target", remote(web, "/f"), silent, options)
    assert f"127.0.0.1:{web.port}" in caught.value.message
    if kind is IntegrityError:
        assert not list(tmp_path.glob("target*"))


@pytest.mark.parametrize("lie", LIES)
def test_where_one_lies_the_mirrors_file_is_taken(web, tmp_path, options, lie):
    behave, _ = LIES[lie]
    web.behave = lambda request, reply: behave(request, reply) if request.path == "/f" else None
    done = net.download(tmp_path / "target", remote(web, "/f", "/mirror"), silent, options)
    assert done.size == len(DATA)
    assert (tmp_path / "target").read_bytes() == DATA


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_does_no_harm_ends_right(web, tmp_path, options, kind):
    web.behave = HARMLESS[kind]
    options = msgspec.structs.replace(options, attempts=100)
    net.download(tmp_path / "target", remote(web, "/f"), silent, options)
    assert (tmp_path / "target").read_bytes() == DATA


@pytest.mark.parametrize("kind", ["other bytes than it says", "bytes with another digest"])
def test_without_a_digest_nobody_can_tell_but_the_digest_is_that_of_the_file(
    web, tmp_path, options, kind
):
    web.behave = LIES[kind][0]
    file = RemoteFile("f", (web.url("/f"),))
    done = net.download(tmp_path / "target", file, silent, options)
    assert done.sha256 == hashlib.sha256((tmp_path / "target").read_bytes()).hexdigest()


def test_without_length_and_chunks_a_cut_cannot_be_seen_so_a_digest_is_needed(
    web, tmp_path, options
):
    web.behave = lambda request, reply: Reply(200, {}, DATA[:-9], close=True)
    with pytest.raises(ProtocolError, match="how large"):
        net.download(tmp_path / "target", RemoteFile("f", (web.url("/f"),)), silent, options)
    web.behave = lambda request, reply: Reply(200, {}, DATA, close=True)
    file = RemoteFile("f", (web.url("/f"),), sha256=hashlib.sha256(DATA).hexdigest())
    assert net.download(tmp_path / "target", file, silent, options).size == len(DATA)


def test_chunks_tell_the_end_of_a_file_whose_size_nobody_knows(web, tmp_path, options):
    cuts = iter([1000])

    def behave(request, reply):
        return Reply(200, {}, DATA, chunked=True, cut=next(cuts, None))

    web.behave = behave
    file = RemoteFile("f", (web.url("/f"),))
    done = net.download(tmp_path / "target", file, silent, options)
    assert done == net.Downloaded(len(DATA), hashlib.sha256(DATA).hexdigest())


def test_an_endless_body_is_refused(web, tmp_path, options):
    web.behave = lambda request, reply: Reply(200, {}, DATA, chunked=True)
    options = msgspec.structs.replace(options, max_bytes=1000)
    with pytest.raises(ProtocolError, match="more than"):
        net.download(tmp_path / "target", RemoteFile("f", (web.url("/f"),)), silent, options)


def test_a_body_that_stops_coming_is_given_up(web, tmp_path, options):
    held = threading.Event()
    web.behave = replaced(drip=held)
    options = msgspec.structs.replace(options, stall_s=0.1, attempts=2)
    with pytest.raises(Unavailable, match="in time"):
        net.download(tmp_path / "target", remote(web, "/f"), silent, options)
    held.set()


BODY = "HTTP/1.1 206 OK\r\nContent-Length: 10\r\nContent-Range: bytes 0-9/10\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "drop"), [("HTTP/1.1 200 OK\r\n", "X-A: b\r\n"), (BODY, "x")], ids=["head", "body"]
)
def test_what_trickles_is_given_up(tmp_path, options, head, drop):
    """Each byte comes soon enough for the socket; together they are too slow."""
    listener, ended = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def trickle():
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(head.encode())
            while not ended.wait(0.05):
                connection.sendall(drop.encode())

    thread = threading.Thread(target=trickle, daemon=True)
    thread.start()
    file = RemoteFile("f", (f"http://127.0.0.1:{listener.getsockname()[1]}/f",), 10, "0" * 64)
    options = msgspec.structs.replace(options, stall_s=0.2, attempts=1)
    with listener, pytest.raises(Unavailable):
        net.download(tmp_path / "target", file, silent, options)
    ended.set()
    thread.join(10)


# --- small things ---------------------------------------------------------------------


def test_small_things_are_bounded_whatever_the_server_says(web, options):
    assert net.get_bytes(web.url("/f"), len(DATA), options=options) == DATA
    with pytest.raises(ProtocolError, match="more than 1000 bytes"):
        net.get_bytes(web.url("/f"), 1000, options=options)


def test_a_bomb_of_an_answer_is_not_inflated(web, options):
    bomb = gzip.compress(bytes(50_000_000))
    web.behave = lambda request, reply: Reply(200, {"Content-Encoding": "gzip"}, bomb)
    with pytest.raises(ProtocolError, match="more than 1000 bytes"):
        net.get_bytes(web.url("/f"), 1000, options=options)


def test_an_answer_may_be_compressed_and_must_be_json(web, options):
    answers = iter([gzip.compress(b'{"a": 1}')])
    web.behave = lambda request, reply: Reply(200, {"Content-Encoding": "gzip"}, next(answers))
    assert net.get_json(web.url("/f"), 1000, options=options) == {"a": 1}
    for wrong in (b"<html>", b"[" * 5000, b"\xff", b""):
        web.behave = lambda request, reply, wrong=wrong: Reply(200, {}, wrong)
        with pytest.raises(ProtocolError, match="JSON"):
            net.get_json(web.url("/f"), 10_000, options=options)


def test_a_server_that_gives_a_few_bytes_for_each_request_is_given_up(web, tmp_path, options):
    def crumbs(request, reply):
        if len(web.log) < 200:
            start = request.range[0]
            stated = {"Content-Range": f"bytes {start}-{start + 9}/{len(DATA)}"}
            return Reply(206, {**reply.headers, **stated}, DATA[start : start + 10])
        return None

    web.behave = crumbs
    file = RemoteFile("f", (web.url("/f"),), len(DATA), hashlib.sha256(DATA).hexdigest())
    with pytest.raises(Unavailable, match="stopped sending"):
        net.download(tmp_path / "target", file, silent, options)


def test_small_things_are_asked_for_again_and_what_stays_is_raised(web, options):
    replies = iter([Reply(503, {}), Reply(200, {}, b"12345", cut=3)])
    web.behave = lambda request, reply: next(replies, None)
    assert net.get_bytes(web.url("/f"), 1 << 20, options=options) == DATA
    with pytest.raises(NotFound):
        net.get_bytes(web.url("/nothing"), 10, options=options)
    web.behave = lambda request, reply: Reply(500, {})
    with pytest.raises(Unavailable):
        net.get_bytes(web.url("/f"), 10, options=options)
