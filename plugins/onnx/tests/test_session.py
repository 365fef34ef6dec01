# SPDX-License-Identifier: BUSL-1.1
"""Threads and traces."""

import json
import logging
import os

import numpy as np
import pytest
from mlos_plugin_onnx import OnnxPlugin, plugin
from mlos_plugin_onnx.session import threads_for

from mlos_core.errors import LoadFailed
from mlos_core.smi import ModelPackage


@pytest.mark.parametrize(
    ("chosen", "package", "usable", "threads"),
    [(None, 0, 8, None), (None, 3, 8, 3), (2, 3, 8, 2), (0, 3, 8, 0), (None, 0, 4, 4)],
)
def test_the_nearest_word_on_threads_counts_and_cores_held_back_stay_so(
    chosen, package, usable, threads
):
    assert threads_for(chosen, package, usable, 8) == threads


def test_the_threads_of_the_package_reach_the_session(doubling, monkeypatch):
    opened = []

    def open_session(*given):
        opened.append(real(*given))
        return opened[-1]

    real = plugin.open_session
    monkeypatch.setattr(plugin, "open_session", open_session)
    for options, threads in (({}, 3), ({"intra_op_num_threads": 2}, 2)):
        OnnxPlugin().load(ModelPackage("m", "1", doubling, threads=3), "cpu", options).close()
        assert opened[-1].get_session_options().intra_op_num_threads == threads


def ask(model, arena):
    model.infer({"x": np.ones((1, 3), np.float32)}, arena)


@pytest.mark.parametrize("wanted", ["traces", "traces/mine"])
def test_a_trace_is_written_at_close_to_the_folder_and_the_log_says_where(
    wanted, doubling, tmp_path, arena, caplog
):
    folder = tmp_path / "traces"
    folder.mkdir()
    before = set(doubling.parent.iterdir())
    options = {"profile": str(tmp_path / wanted)}
    model = OnnxPlugin().load(ModelPackage("a/b", "1", doubling), "cpu", options)
    ask(model, arena)
    with caplog.at_level(logging.INFO):
        model.close()
    (trace,) = folder.iterdir()
    begin = "mine" if wanted.endswith("mine") else "a_b"
    assert trace.name.startswith(f"{begin}-{os.getpid()}_")
    assert str(trace) in caplog.text
    assert any(event["cat"] == "Node" for event in json.loads(trace.read_text()))
    assert set(doubling.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("wanted", "word"),
    [("trace", "absolute path"), ("", "absolute path"), ("{}/none/trace", "no folder")],
)
def test_a_trace_that_could_land_anywhere_is_refused(wanted, word, doubling, load, tmp_path):
    with pytest.raises(LoadFailed, match=word):
        load(doubling, profile=wanted.format(tmp_path))


def test_without_the_option_nothing_is_traced(doubling, load, arena):
    model = load(doubling)
    ask(model, arena)
    assert [path.name for path in doubling.parent.iterdir()] == ["model.onnx"]
