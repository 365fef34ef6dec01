# SPDX-License-Identifier: BUSL-1.1
import msgspec
import pytest

from mlos_core.daemon.compat import check_successor
from mlos_core.errors import LoadFailed
from mlos_core.types import Signature, TensorSpec

X = TensorSpec("x", "float32", (-1, 3))
Y = TensorSpec("y", "float32", (-1, 2))
OLD = Signature((X,), (Y,))


def replaced(spec, **fields):
    return msgspec.structs.replace(spec, **fields)


@pytest.mark.parametrize(
    "new",
    [
        OLD,
        Signature((replaced(X, shape=(-1, -1)),), (Y,)),
        Signature((X, TensorSpec("z", "int64", (1,), optional=True)), (Y,)),
        Signature((replaced(X, optional=True),), (Y,)),
        Signature((X,), (replaced(Y, shape=(4, 2)),)),
        Signature((X,), (Y, TensorSpec("more", "int8", ()))),
        replaced(OLD, batched=True),
    ],
)
def test_a_version_that_takes_more_and_promises_more_may_follow(new):
    check_successor(OLD, new, "m")


@pytest.mark.parametrize(
    ("new", "named"),
    [
        (Signature((replaced(X, name="a"),), (Y,)), "'x' is gone"),
        (Signature((replaced(X, dtype="int8"),), (Y,)), "was float32"),
        (Signature((replaced(X, shape=(1, 3)),), (Y,)), r"is float32\[1, 3\]"),
        (Signature((replaced(X, shape=(-1,)),), (Y,)), "'x' was"),
        (Signature((X, TensorSpec("z", "int64", (1,))), (Y,)), "new input 'z'"),
        (Signature((X,), ()), "output 'y' is gone"),
        (Signature((X,), (replaced(Y, shape=(-1, -1)),)), "output 'y' was"),
        (Signature((X,), (Y,), streaming=True), "streams"),
    ],
)
def test_a_version_that_the_clients_cannot_use_may_not(new, named):
    with pytest.raises(LoadFailed, match=named):
        check_successor(OLD, new, "m")


def test_an_input_that_was_optional_stays_so():
    old = Signature((replaced(X, optional=True),), (Y,))
    with pytest.raises(LoadFailed, match="optional no more"):
        check_successor(old, OLD, "m")
