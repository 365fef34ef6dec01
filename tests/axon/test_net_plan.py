# SPDX-License-Identifier: BUSL-1.1
"""The decisions of a download, without a network."""

import os
import random

import pytest

from axon_client.net.faults import Transient, Unusable, backoff, check_status, retry_after
from axon_client.net.options import Options, with_mirrors
from axon_client.net.pace import Limiter, Pace
from axon_client.net.plan import MOST_PARTS, Plan, part_size
from axon_client.net.ranges import Body, judge, validator
from axon_client.net.sources import FRUITLESS, Route, sources_of
from axon_client.net.state import Head, State
from mlos_core.errors import NotFound, PermissionDenied, ProtocolError, Unavailable

URL = "https://models.example.org/f"


@pytest.mark.parametrize("size", [0, 1, 9, 10, 11, 995])
def test_every_byte_is_handed_out_once_in_whatever_order_parts_end(size):
    plan, rng, taken, covered = Plan(size, 10, kept=[0] if size else []), random.Random(size), [], 0
    while not plan.complete:
        run = plan.take_run(rng.randint(1, 7))
        kept = plan.take_kept()
        taken += [*(run or []), *([] if kept is None else [kept])]
        part = taken.pop(rng.randrange(len(taken)))
        if rng.random() < 0.3:
            plan.give_back([part])
            continue
        before = plan.front
        plan.finish(part)
        start, end = plan.bounds(part)
        covered += end - start
        assert before <= plan.front <= covered
    assert (covered, plan.front, plan.take_run(9), plan.take_kept()) == (size, size, None, None)


def test_what_is_done_cannot_be_given_back():
    plan = Plan(30, 10)
    run = plan.take_run(3)
    plan.finish(0)
    plan.give_back(run)
    assert (plan.front, plan.take_run(9)) == (10, range(1, 3))


def test_a_run_ends_before_a_part_that_somebody_else_has():
    plan = Plan(50, 10, kept=[2])
    assert (plan.take_run(9), plan.take_run(9), plan.take_kept()) == (range(2), range(3, 5), 2)


def test_parts_of_huge_files_grow_so_that_their_number_does_not():
    assert part_size(100, 8) == 8
    assert -(-(10**12) // part_size(10**12, 8)) <= MOST_PARTS


# --- answers --------------------------------------------------------------------------


def headers(**entries):
    return {name.replace("_", "-").title(): value for name, value in entries.items()}


@pytest.mark.parametrize(
    ("status", "sent", "total", "body"),
    [
        (206, headers(content_range="bytes 10-19/100"), 100, Body(10, 10, 100, True)),
        (206, headers(content_range="bytes 10-14/100"), -1, Body(10, 5, 100, True)),
        (206, headers(content_range="bytes 10-19/*"), 100, Body(10, 10, -1, True)),
        (200, headers(content_length="100"), 100, Body(0, 100, 100, False)),
        (200, {}, 100, Body(0, -1, -1, False)),
        (
            200,
            headers(content_length="100", content_encoding="gzip"),
            100,
            Body(0, 100, 100, False),
        ),
    ],
)
def test_an_honest_answer_is_understood(status, sent, total, body):
    assert judge(status, sent, 10, 20, total, URL) == body


@pytest.mark.parametrize(
    ("status", "sent", "total", "word"),
    [
        (206, {}, 100, "range"),
        (206, headers(content_range="bytes 0-9/100"), 100, "10-19"),
        (206, headers(content_range="bytes 10-20/100"), 100, "10-19"),
        (206, headers(content_range="bytes 11-19/100"), 100, "10-19"),
        (206, headers(content_range="bytes 10-9/100"), 100, "10-19"),
        (206, headers(content_range="bytes 10-19/15"), -1, "10-19"),
        (206, headers(content_range="bytes 10-19/101"), 100, "101"),
        (206, headers(content_range="bytes=10-19/100"), 100, "range"),
        (206, headers(content_range="bytes 10-19/" + "9" * 30), 100, "range"),
        (206, headers(content_range="bytes 10-19/100", content_length="11"), 100, "11"),
        (206, headers(content_range="bytes 10-19/100", content_length="-1"), 100, "-1"),
        (206, headers(content_range="bytes 10-19/100", content_encoding="br"), -1, "br"),
        (200, headers(content_length="99"), 100, "99"),
        (200, headers(content_encoding="gzip"), 100, "gzip"),
        (416, headers(content_range="bytes */100"), 100, "416"),
        (204, {}, 100, "204"),
    ],
)
def test_a_lie_is_named_with_the_host_that_tells_it(status, sent, total, word):
    with pytest.raises(Unusable) as caught:
        judge(status, sent, 10, 20, total, URL)
    assert isinstance(caught.value.error, ProtocolError)
    assert word in caught.value.error.message
    assert "models.example.org" in caught.value.error.message


def test_only_a_strong_etag_or_else_a_date_tells_states_of_a_file_apart():
    assert validator({"ETag": '"a"', "Last-Modified": "x"}) == '"a"'
    assert validator({"ETag": 'W/"a"', "Last-Modified": "x"}) == ""
    assert validator({"Last-Modified": "x"}) == "x"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, PermissionDenied), (403, PermissionDenied), (404, NotFound), (451, ProtocolError)],
)
def test_statuses_that_stay_are_not_tried_again(status, kind):
    with pytest.raises(Unusable) as caught:
        check_status(status, {}, URL, 0)
    assert isinstance(caught.value.error, kind)


def test_what_passes_is_tried_again_when_the_server_says():
    with pytest.raises(Transient) as caught:
        check_status(503, {"Retry-After": "7"}, URL, 0)
    assert caught.value.after_s == 7
    with pytest.raises(Unusable, match="86400 s"):
        check_status(429, {"Retry-After": "86400"}, URL, 0)


def test_retry_after_is_seconds_or_a_date_or_nothing():
    assert retry_after("Thu, 01 Jan 1970 00:01:40 GMT", 40) == 60
    assert retry_after("Thu, 01 Jan 1970 00:01:40 GMT", 400) == 0
    assert [retry_after(text, 0) for text in ("", "soon", "-5", "1e9")] == [0, 0, 0, 0]


# --- waiting --------------------------------------------------------------------------


def test_waits_double_and_half_of_each_is_chance():
    assert [backoff(n, 1.0) for n in (1, 2, 3, 99)] == [0.5, 1, 2, 30]
    assert backoff(3, 0.0) == 1


def test_the_limit_holds_for_all_who_share_it():
    limiter = Limiter(100)
    assert [limiter.take(50, 0.0), limiter.take(50, 0.0), limiter.take(100, 5.0)] == [0.5, 1.0, 1.0]
    assert Limiter(0).take(10**9, 0.0) == 0


def test_a_body_that_trickles_counts_as_stalled_and_a_slow_one_does_not():
    pace = Pace(slowest=100, window_s=10)
    assert not any(pace.too_slow(110, 1.0) for _ in range(50))
    assert any(pace.too_slow(1, 1.0) for _ in range(10))


# --- sources --------------------------------------------------------------------------


def transient():
    return Transient(Unavailable("away"))


def test_a_source_that_never_answered_is_given_up_sooner_than_one_that_went_away():
    sources = sources_of([URL], {}, [])
    route = Route(sources, Options(attempts=6))
    waits = [route.failed(sources[0], transient()) for _ in range(FRUITLESS)]
    assert waits[-1] == 0
    with pytest.raises(Unavailable, match="away"):
        route.pick()
    sources = sources_of([URL], {}, [])
    sources[0].answered = True
    route = Route(sources, Options(attempts=6))
    for _ in range(5):
        assert route.failed(route.pick(), transient()) > 0
    route.failed(route.pick(), transient())
    with pytest.raises(Unavailable):
        route.pick()


def test_a_mirror_takes_over_and_all_of_them_failing_names_the_first():
    first, second = sources = sources_of([URL], {}, ["https://near.example.org/f"])
    route = Route(sources, Options())
    route.failed(first, transient())
    route.progressed()
    route.failed(first, transient())
    assert route.pick() is first
    route.failed(first, transient())
    assert route.pick() is second
    second.fault = NotFound("nothing there")
    with pytest.raises(Unavailable, match=r"away.*1 mirrors failed too.*nothing there"):
        route.pick()


def test_mirrors_stand_in_for_the_beginning_of_a_url():
    found = with_mirrors(["https://far/a/f"], {"https://far/": ["https://near/", "https://far/"]})
    assert found == ["https://far/a/f", "https://near/a/f"]


# --- what is left over ----------------------------------------------------------------


def test_notes_survive_and_an_unfinished_line_does_not_count(tmp_path):
    path, head = tmp_path / "f.state", Head(100, 10, "sha256:0", URL, '"e"')
    state = State(path)
    state.begin(head)
    state.add(3, "aa")
    state.add(99, "of another size")
    state.close(finished=False)
    with path.open("ab") as file:
        file.write(b'{"part":4,"sha2')
    state = State(path)
    assert state.read() == (head, {3: "aa"})
    state.close(finished=True)
    assert not path.exists()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\0" * 4096,
        b"{}\n",
        b"[" * 100000 + b"\n",
        b'{"size":-1,"part_bytes":10}\n',
        b'{"size":100,"part_bytes":0}\n',
        b'{"size":1000000000000000,"part_bytes":1}\n',
        b'{"size":100,"part_bytes":10,"more":1}\n',
        b"\xff\xfe\n",
    ],
)
def test_damaged_notes_are_none(tmp_path, text):
    path = tmp_path / "f.state"
    path.write_bytes(text)
    state = State(path)
    assert state.read() == (None, {})
    state.close(finished=False)


def test_only_one_process_works_on_a_file(tmp_path):
    state = State(tmp_path / "f.state")
    child = os.fork()
    if child == 0:
        try:
            State(tmp_path / "f.state")
        except Unavailable:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    state.close(finished=False)
