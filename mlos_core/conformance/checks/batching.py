# SPDX-License-Identifier: BUSL-1.1
"""Batched models: a row's answer does not depend on the rows beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mlos_core.conformance import comparing
from mlos_core.conformance.outcome import Failed
from mlos_core.conformance.subject import Subject
from mlos_core.conformance.values import Inputs
from mlos_core.types import Array

_ROWS: Final = 8
_ROUNDING: Final = "equal but for rounding, not bit for bit"


def rows_sent_together_are_answered_like_rows_sent_alone(subject: Subject) -> str:
    """And in their order."""
    subject.only_batched()
    whole = subject.rows(_ROWS)
    together = subject.ask(whole)
    alone = [subject.ask(_row(whole, at)) for at in range(_ROWS)]
    _check_rows(together, _ROWS)
    return _compare([_row(together, at) for at in range(_ROWS)], alone)


def requests_that_the_runtime_joins_get_their_own_rows(subject: Subject) -> str:
    """With dynamic batching on."""
    subject.only_batched()
    whole = subject.rows(_ROWS)
    alone = [subject.ask(_row(whole, at)) for at in range(_ROWS)]
    policy = {"max_batch_size": _ROWS, "max_queue_delay_us": 200_000}
    with subject.serving(batch=policy) as (name, model):
        before = subject.client.call("stats", name=name)[name]["executions"]
        waiting = [
            model.submit(_row(whole, at), parameters=subject.parameters) for at in range(_ROWS)
        ]
        joined = [dict(future.result().copy()) for future in waiting]
        ran = subject.client.call("stats", name=name)[name]["executions"] - before
    if ran >= _ROWS:
        raise Failed(f"{_ROWS} requests took {ran} calls: none were joined")
    return _compare(joined, alone)


def an_empty_batch_does_not_end_the_worker(subject: Subject) -> str:
    """No rows are answered with no rows, or refused."""
    subject.only_batched()
    empty = {name: array[:0] for name, array in subject.inputs.items()}
    code = subject.survives(empty)
    if code:
        return f"refused: {code}"
    _check_rows(subject.ask(empty), 0)
    return ""


def _row(arrays: Mapping[str, Array], at: int) -> Inputs:
    return {name: array[at : at + 1] for name, array in arrays.items()}


def _check_rows(outputs: Mapping[str, Array], rows: int) -> None:
    for name, array in outputs.items():
        if array.shape[0] != rows:
            raise Failed(f"the output {name!r} has {array.shape[0]} rows for {rows}")


def _compare(got: list[Inputs], want: list[dict[str, Array]]) -> str:
    """A note where the rows differ by rounding.

    Raises:
        Failed: by more.
    """
    exact = True
    for at, (one, other) in enumerate(zip(got, want, strict=True)):
        wrong = comparing.difference(one, other)
        if wrong and not comparing.nearly(one, other):
            raise Failed(f"row {at}: {wrong}")
        exact = exact and not wrong
    return "" if exact else _ROUNDING
