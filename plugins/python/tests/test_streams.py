# SPDX-License-Identifier: BUSL-1.1
import numpy as np
import pytest

from mlos_core.errors import InvalidInput, LoadFailed, ModelFailed, Overloaded
from mlos_core.smi import EngineModel, EngineRequest

from .conftest import scalar

COUNT = """
class A:
    max_streams = 3
    closed = []
    def predict(self, n: int, *, parameters: dict) -> Iterator[int]:
        try:
            for i in range(n):
                yield None
                yield i * parameters.get("step", 1)
        finally:
            self.closed.append(n)
"""


def submit(model, id, n, resume_from=0, **parameters):
    inputs = {"n": scalar(n, np.int64)}
    model.submit(EngineRequest(id, inputs, parameters, resume_from))


def finish(model):
    """Step until every request has ended: their data, and their last events."""
    data, ends = {}, {}
    for _ in range(100):
        for event in model.step():
            data.setdefault(event.id, [])
            if event.data is not None:
                data[event.id].append(event.data)
            if event.final or event.error:
                ends[event.id] = event
        if not model._streams:
            return data, ends
    raise AssertionError("the streams do not end")


def test_yielded_values_are_events_and_all_of_them_the_answer(served):
    model = served(COUNT)
    assert isinstance(model, EngineModel)
    assert model.signature.describe() == "n: int64[] -> output: int64[?]"
    assert model.signature.streaming
    submit(model, 1, 3, step=2)
    data, ends = finish(model)
    assert data == {1: [0, 2, 4]}
    assert ends[1].outputs["output"].tolist() == [0, 2, 4]


def test_streams_run_side_by_side(served):
    model = served(COUNT)
    submit(model, 1, 2)
    submit(model, 2, 2, step=5)
    order = [event.id for _ in range(4) for event in model.step()]
    assert order == [1, 2, 1, 2]
    assert finish(model)[1].keys() == {1, 2}


def test_a_resumed_stream_leaves_out_what_was_delivered(served):
    model = served(COUNT)
    submit(model, 1, 5)
    submit(model, 2, 5, resume_from=3)
    data, ends = finish(model)
    assert data[2] == data[1][3:]
    assert ends[2].outputs["output"].tolist() == data[1]


def test_a_cancelled_stream_runs_its_finally(served):
    model = served(COUNT)
    submit(model, 1, 7)
    model.step()
    model.cancel(1)
    model.cancel(1)
    assert model._model.closed == [7]
    assert model.step() == []


def test_a_paused_stream_stands_still(served):
    model = served(COUNT)
    submit(model, 1, 2)
    model.pause(1)
    assert [model.step() for _ in range(3)] == [[], [], []]
    model.resume(1)
    assert finish(model)[0] == {1: [0, 1]}


def test_more_streams_than_allowed_are_refused(served):
    model = served(COUNT)
    for id in (1, 2, 3):
        submit(model, id, 1)
    with pytest.raises(Overloaded, match="3 requests"):
        submit(model, 4, 1)


@pytest.mark.parametrize("limit", ["0", "'many'"])
def test_a_limit_under_which_nothing_could_run_is_refused_at_once(limit, served):
    with pytest.raises(LoadFailed, match="max_streams is"):
        served(COUNT.replace("max_streams = 3", f"max_streams = {limit}"))


def test_an_error_ends_one_stream_alone(served):
    model = served(COUNT)
    submit(model, 1, 3, step=None)
    submit(model, 2, 3)
    data, ends = finish(model)
    assert isinstance(ends[1].error, ModelFailed)
    assert "line 16 raised TypeError" in ends[1].error.message
    assert data[2] == [0, 1, 2]


def test_the_return_value_of_a_generator_is_the_answer(served):
    model = served(
        """
        class A:
            def predict(self, n: int) -> Generator[dict, None, tuple[int, str]]:
                yield {"at": np.int64(n), "row": np.zeros(2)}
                return n, "done"
        """
    )
    submit(model, 1, 4)
    data, ends = finish(model)
    assert data == {1: [{"at": 4, "row": [0.0, 0.0]}]}
    assert {k: v.item() for k, v in ends[1].outputs.items()} == {"output_0": 4, "output_1": "done"}


def test_what_no_stream_can_carry_ends_it(served):
    model = served(
        "class A:\n    def predict(self, n: int) -> Iterator[dict]:\n        yield {'a': object()}"
    )
    assert model.signature.outputs == ()
    submit(model, 1, 0)
    assert "which no stream carries" in finish(model)[1][1].error.message


def test_parameters_without_a_stream_are_passed_too(served):
    model = served(
        """
        from mlos_core.errors import InvalidInput
        class A:
            def predict(self, n: int, *, parameters: dict) -> int:
                if set(parameters) - {"plus"}:
                    raise InvalidInput("only plus")
                return n + parameters["plus"]
        """
    )
    assert not model.signature.streaming
    submit(model, 1, 4, plus=3)
    submit(model, 2, 4, minus=3)
    _, ends = finish(model)
    assert ends[1].outputs["output"].item() == 7
    assert isinstance(ends[2].error, InvalidInput)


def test_an_input_is_kept_for_the_length_of_its_stream(served):
    model = served(
        """
        class A:
            def predict(self, x: Annotated[np.ndarray, "int64[?]"]) -> Iterator[int]:
                for value in x:
                    yield value
        """
    )
    x = np.array([1, 2, 3])
    model.submit(EngineRequest(1, {"x": x}, {}))
    x[:] = 0
    data, ends = finish(model)
    assert data[1] == ends[1].outputs["output"].tolist() == [1, 2, 3]
