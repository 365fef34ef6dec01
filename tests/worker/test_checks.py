# SPDX-License-Identifier: BUSL-1.1
import numpy as np
import pytest

from mlos_core.errors import InvalidInput, LoadFailed
from mlos_core.smi import TensorModel
from mlos_core.types import BYTES, Signature, TensorSpec
from mlos_core.worker.checks import InputCheck, OutputCheck
from mlos_core.worker.orphan import Backoff, Orphanhood
from mlos_core.worker.warmup import is_guesswork, warm_up, zeros

SIGNATURE = Signature(
    (TensorSpec("x", "float32", (-1,)), TensorSpec("s", BYTES, (-1,), optional=True)),
    (TensorSpec("y", "float32", (-1,)), TensorSpec("t", BYTES, (1,))),
)


def test_what_was_judged_good_once_does_not_make_its_neighbour_good():
    check = InputCheck(SIGNATURE)
    x, s = np.zeros(3, np.float32), np.array([b"a"], object)
    for _ in range(2):
        check({"x": x, "s": s})
        check({"x": x})
        for bad in ({"x": x.astype(np.int8), "s": s}, {"x": x, "s": x}, {"x": x, "z": s}, {}):
            with pytest.raises(InvalidInput):
                check(bad)


def test_the_memory_of_shapes_is_bounded():
    check = InputCheck(SIGNATURE)
    for size in range(1000):
        check({"x": np.zeros(size, np.float32)})
    assert sum(len(seen) for seen in check._seen.values()) <= 256


def test_strings_are_judged_on_the_careful_road():
    check = OutputCheck(SIGNATURE)
    outputs = {"y": np.zeros(1, np.float32), "t": np.array(["a"], object)}
    assert not check.fit(outputs)
    assert check.select(outputs, ()) == outputs


def test_zeros_fit_their_spec():
    assert zeros(TensorSpec("x", "int8", (-1, 3))).shape == (1, 3)
    assert zeros(TensorSpec("s", BYTES, (2,))).tolist() == [b"", b""]


@pytest.mark.parametrize(
    ("shape", "batched", "guesswork"),
    [((3,), False, False), ((-1, 3), True, False), ((-1, 3), False, True), ((3, -1), True, True)],
)
def test_a_size_other_than_the_batch_is_guesswork(shape, batched, guesswork):
    signature = Signature((TensorSpec("x", "float32", shape),), (), batched=batched)
    assert is_guesswork(signature) is guesswork


class Failing(TensorModel):
    def __init__(self, shape):
        self.signature = Signature((TensorSpec("x", "float32", shape),), ())

    def infer(self, batch, allocate):
        assert not batch["x"].flags.writeable
        raise ValueError("I cannot")


def test_a_model_that_fails_on_what_it_must_accept_does_not_load():
    with pytest.raises(LoadFailed, match="ValueError: I cannot"):
        warm_up(Failing((2,)))


def test_a_failure_on_guessed_sizes_is_said_and_forgiven(caplog):
    warm_up(Failing((-1,)))
    assert "warm-up skipped" in caplog.text
    assert "I cannot" in caplog.text


def test_delays_double_up_to_a_second_and_start_again():
    backoff = Backoff()
    waits = []
    for _ in range(7):
        backoff.failed(100.0)
        waits.append(round(backoff.wait_s(100.0), 3))
    assert waits == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert backoff.wait_s(100.6) == pytest.approx(0.4)
    backoff.reset()
    assert backoff.wait_s(0.0) == 0.0


def test_an_orphan_is_given_its_grace_from_when_nobody_was_left():
    orphanhood = Orphanhood(30.0)
    orphanhood.look(10.0, needed=True)
    orphanhood.look(20.0, needed=False)
    orphanhood.look(40.0, needed=False)
    assert not orphanhood.over(49.9)
    assert orphanhood.over(50.0)
    orphanhood.look(60.0, needed=True)
    assert not orphanhood.over(1000.0)
