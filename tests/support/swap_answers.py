# SPDX-License-Identifier: BUSL-1.1
"""What clients ask while versions change, and what the answers may be.

Every question is another one. Every answer names its maker, or shows it: `judge` returns the
maker, or raises `Wrong` (`Stale` where it is the answer to an earlier question).
"""

import numpy as np
from mlos_plugin_echo.engine import number_at
from plugin_versions import added

COLUMNS = 8
STEP = 2.0**24  # between the questions of one client; no version adds as much
EVENTS = 20


class Wrong(Exception):
    """No version gives this answer to that question."""


class Stale(Wrong):
    """An answer to another question, and so one that was given twice."""


def question(seed, at, rows):
    """Rows that no other client and no other question has; exact in float64."""
    values = np.arange(1.0, rows * COLUMNS + 1) + seed * 2.0**46 + at * STEP
    return values.reshape(rows, COLUMNS)


def _constant(sent, got):
    """How much more than the question the answer is, the same everywhere."""
    if got.shape != sent.shape:
        raise Wrong(f"an answer of {got.shape} to a question of {sent.shape}")
    more = got - sent
    if (more != more[0, 0]).any():
        raise Wrong(f"an answer of several parts: {np.unique(more)[:4]}")
    if not 0 <= more[0, 0] < STEP:
        raise Stale(f"the answer to a question {more[0, 0] / STEP:.1f} away")
    return float(more[0, 0])


class Tensors:
    """The model of `plugin_versions`."""

    sizes = (1, 8, 40, 400)

    def ask(self, seed, at, rows):
        return {"x": question(seed, at, rows)}

    def judge(self, sent, outputs):
        who = np.asarray(outputs["who"])
        if who.shape != (len(sent["x"]), 3) or (who != who[0]).any():
            raise Wrong(f"an answer of several makers: {np.unique(who, axis=0)[:4]}")
        plugin, number, loaded = (int(value) for value in who[0])
        more = _constant(sent["x"], np.asarray(outputs["y"]))
        if more != added(plugin, number):
            raise Wrong(f"{plugin} and {number} add {added(plugin, number)}, not {more}")
        return plugin, number, loaded


class Onnx:
    """y = x + number, in a file of its own for each number."""

    sizes = (1,)

    def ask(self, seed, at, rows):
        return {"x": question(seed, at, rows)}

    def judge(self, sent, outputs):
        number = _constant(sent["x"], np.asarray(outputs["y"]))
        if number != int(number):
            raise Wrong(f"there is no version {number}")
        return (int(number),)


class Streams:
    """The streams of `plugin_versions`; their events are the same in every version."""

    sizes = (EVENTS,)

    def ask(self, seed, at, count):
        return {"prompt": [f"{seed} asks for the {at}th time".encode()]}

    def judge_events(self, sent, events):
        prompt = sent["prompt"][0]
        expected = [number_at(prompt, 0, at) for at in range(EVENTS)]
        if events != expected:
            raise Wrong(f"{prompt!r}: {events} instead of {expected}")

    def judge(self, sent, outputs):
        self.judge_events(sent, [int(number) for number in outputs["numbers"]])
        return tuple(int(value) for value in outputs["who"])


KINDS = {"t": Tensors, "o": Onnx, "s": Streams}


def save_onnx(path, number):
    """The file of that number."""
    from onnx import TensorProto, helper

    constant = helper.make_tensor("number", TensorProto.DOUBLE, [1], [float(number)])
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "number"], ["y"])],
        "adds",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["batch", "columns"])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["batch", "columns"])],
        [constant],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    path.write_bytes(model.SerializeToString())
    return str(path)
