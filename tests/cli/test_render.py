# SPDX-License-Identifier: BUSL-1.1
import io

import numpy as np
import pytest
from rich.console import Console

from mlos_core.cli import render


def shown(table):
    out = io.StringIO()
    Console(file=out, width=200).print(table)
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
