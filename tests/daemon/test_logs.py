# SPDX-License-Identifier: BUSL-1.1
import io
import json
import logging

import pytest

from mlos_core.daemon import logs


@pytest.fixture
def written():
    stream = io.StringIO()
    handlers = []
    root = logging.getLogger()
    level = root.level

    def start(form, threshold="info"):
        handlers.append(logs.setup(form, threshold, stream))
        return stream

    yield start
    for handler in handlers:
        logs.teardown(handler)
    root.setLevel(level)


def test_machines_get_one_json_object_per_line(written):
    stream = written("json")
    logs.Log("test").info("worker_ready", model="echo", owner=3)
    line = json.loads(stream.getvalue())
    assert (line["event"], line["model"], line["owner"]) == ("worker_ready", "echo", 3)
    assert line["source"] == "mlos.test"


def test_people_get_the_event_and_its_fields(written):
    stream = written("text")
    logs.Log("test").warning("peer_dropped", reason="too slow", pid=7)
    assert stream.getvalue().rstrip().endswith('warning peer_dropped reason="too slow" pid=7')


def test_what_is_below_the_level_is_not_written(written):
    stream = written("text", "warning")
    logs.Log("test").info("quiet")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_name_with_a_line_break_forges_no_second_line(written, form):
    stream = written(form)
    logs.Log("test").info("registered", model="x\n12:00 error fake")
    assert len(stream.getvalue().splitlines()) == 1


@pytest.mark.parametrize("form", ["text", "json"])
def test_an_error_comes_with_its_traceback(written, form):
    stream = written(form)
    try:
        raise ZeroDivisionError("oh")
    except ZeroDivisionError as err:
        logs.Log("test").error("failed", exc=err)
    assert "ZeroDivisionError: oh" in stream.getvalue()


def test_other_libraries_log_in_the_same_form(written):
    stream = written("json")
    logging.getLogger("uvicorn.error").warning("from %s", "elsewhere")
    assert json.loads(stream.getvalue())["event"] == "from elsewhere"
