# SPDX-License-Identifier: BUSL-1.1
import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import pytest

from mlos_core.cli.demo import files, llm, magika, timing
from mlos_core.cli.demo.magika import ModelConfig, Verdict
from mlos_core.errors import Unsupported

CONFIG = ModelConfig(
    beg_size=4,
    end_size=4,
    block_size=16,
    padding_token=256,
    min_file_size_for_dl=3,
    medium_confidence_threshold=0.5,
    target_labels_space=("python", "crt", "randomtxt"),
    thresholds={"crt": 0.9},
    overwrite_map={"randomtxt": "txt"},
)


def write(tmp_path, data):
    path = tmp_path / "file"
    path.write_bytes(data)
    return path


def test_the_ends_of_a_file_are_its_features(tmp_path):
    row = magika.features(write(tmp_path, b"  abcdef" + b"." * 50 + b"uvwxyz \n"), CONFIG)
    assert row.dtype == np.int32
    assert row.tolist() == [[*b"abcd", *b"wxyz"]]


def test_a_short_file_is_padded_between_its_ends(tmp_path):
    row = magika.features(write(tmp_path, b"abc"), CONFIG)
    assert row.tolist() == [[*b"abc", 256, 256, *b"abc"]]


@pytest.mark.parametrize(
    ("data", "label"),
    [
        (b"", "empty"),
        (b"a", "txt"),
        (b"\xff", "unknown"),
        (b"      \n a", "txt"),
        (b"\0", "unknown"),
    ],
)
def test_a_file_of_next_to_nothing_needs_no_model(tmp_path, data, label):
    assert magika.features(write(tmp_path, data), CONFIG) == Verdict(label, 1.0)


@pytest.mark.parametrize(
    ("scores", "label"),
    [
        ([0.9, 0.1, 0.0], "python"),
        ([0.1, 0.89, 0.0], "txt"),
        ([0.0, 0.95, 0.0], "crt"),
        ([0.0, 0.0, 0.8], "txt"),
    ],
)
def test_an_unsure_answer_falls_back_to_text(scores, label):
    got = magika.verdict(np.array([scores], np.float32), CONFIG, text=True)
    assert got.label == label


def test_a_model_with_other_features_is_refused(tmp_path):
    other = msgspec.structs.replace(CONFIG, mid_size=4)
    (tmp_path / "config.min.json").write_bytes(msgspec.json.encode(other))
    with pytest.raises(Unsupported):
        magika.read_config(tmp_path / "model.onnx")
    with pytest.raises(Unsupported):
        magika.read_config(tmp_path / "elsewhere" / "model.onnx")


def test_files_of_different_kinds_are_found_on_every_machine():
    found = files.pick([])
    assert len(found) >= 3
    assert len({path.suffix or path.name for path in found}) == len(found)


def test_ways_are_timed_in_turns():
    order = []
    ways = {name: (lambda name=name: order.append(name)) for name in "ab"}
    timings = timing.measure(ways, 5)
    assert order[-10:] == ["a", "b"] * 5
    assert [(t.way, t.calls) for t in timings] == [("a", 5), ("b", 5)]


@pytest.mark.parametrize(
    ("plugins", "reason"),
    [
        ([{"name": "onnx", "reason": ""}], "pip install ./plugins/synapse"),
        ([{"name": "synapse", "reason": "no such instruction"}], "no such instruction"),
        ([{"name": "synapse", "reason": ""}], "does-not-exist"),
    ],
)
def test_without_a_language_model_the_demo_says_why(tmp_path, plugins, reason):
    class Client:
        def call(self, method, **_):
            return {"plugins": plugins}[method]

    told = llm.serve(Client(), "./does-not-exist", tmp_path, lambda _: contextlib.nullcontext())
    assert reason in told


@pytest.mark.network
def test_the_demo_names_types_of_files_and_asks_a_language_model_and_leaves_nothing():
    before = set(Path(tempfile.gettempdir()).glob("mlos-demo-*"))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "mlos_core.cli.mlosctl", "demo", "--json", "--rounds", "5"],
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    kinds = {answer["file"].rpartition("/")[2]: answer["type"] for answer in shown["answers"]}
    assert kinds["model.onnx"] == "onnx"
    assert "python" in kinds.values()
    assert len(shown["timings"]) == 3
    assert shown["llm"]["answer"]
    assert shown["llm"]["speed"]["tokens"] > 1
    assert set(Path(tempfile.gettempdir()).glob("mlos-demo-*")) == before


def test_a_demo_that_cannot_install_says_so_and_cleans_up():
    words = ["demo", "--package", "./does-not-exist"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "mlos_core.cli.mlosctl", *words],
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode != 0
    assert "error:" in done.stderr
    assert "Traceback" not in done.stderr
