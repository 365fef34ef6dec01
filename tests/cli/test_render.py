# SPDX-License-Identifier: BUSL-1.1
import io

import numpy as np
import pytest
from rich.console import Console

from mlos_core.cli import render, render_stats
from mlos_core.cli.fitted import Fitted


def shown(table, width=200):
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue()


def test_outputs_show_name_dtype_shape_and_first_values():
    text = shown(render.outputs({"y": np.arange(20, dtype=np.int64), "s": np.array([b"hi"], "O")}))
    assert "int64" in text
    assert "(20 in all)" in text
    assert "hi" in text


def test_markup_in_a_name_is_not_obeyed():
    assert "[red]x" in shown(render.table(["name"], [["[red]x"]]))


def test_bytes_become_text_or_base64():
    array = np.array([b"a", b"\xff"], dtype=object)
    assert render.jsonable(array) == ["a", "base64:/w=="]


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1 << 20, "1.0 MiB"), (1 << 41, "2.0 TiB")]
)
def test_sizes_are_readable(count, text):
    assert render.size(count) == text


def test_durations_are_readable():
    assert render.duration(3661.5) == "01:01:01"
    assert render.duration(90000) == "1 d 01:00:00"


def test_json_holds_numpy_values(capsys):
    render.print_json_line({"a": np.float32(0.5), "b": np.arange(2)})
    assert capsys.readouterr().out == '{"a":0.5,"b":[0,1]}\n'


@pytest.mark.parametrize(
    ("us", "text"), [(None, "-"), (12.345, "12.3 µs"), (1500, "1.5 ms"), (2.5e6, "2.5 s")]
)
def test_latencies_are_readable(us, text):
    assert render.latency(us) == text


def test_statistics_show_each_version_with_its_percentiles():
    known = {"mean_us": 3.0, "p50_us": 7.0, "p90_us": 8.0, "p99_us": 2100.0, "p999_us": None}
    row = {
        "state": "ready",
        "requests": 10,
        "failures": 1,
        "cancelled": 0,
        "executions": 9,
        "latency": {part: {**known, "max_us": 4e6} for part in ("request", "queue", "infer")},
        "copied_bytes": 2048,
        "restarts": 0,
    }
    stats = {"m": {"versions": {"1.0": row, "2.0": {**row, "state": "failed"}}}}
    text = shown(render_stats.table(stats))
    for part in ("1.0", "2.0", "failed", "7 µs", "2.1 ms", "4 s", "2.0 KiB"):
        assert part in text


def test_statistics_of_nothing_say_so():
    assert "no models" in shown(render_stats.table({}))


def test_columns_go_in_the_order_given_until_the_rest_fits():
    table = Fitted(
        [{"name": "abc", "#first": "1" * 20, "#second": "2" * 20}], ["#first", "#second"]
    )
    for width, columns in ((60, ["1", "2"]), (40, ["2"]), (20, [])):
        text = shown(table, width)
        assert [digit for digit in "12" if digit * 20 in text] == columns
        assert "abc" in text
