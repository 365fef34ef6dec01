# SPDX-License-Identifier: BUSL-1.1
"""Answers: right in form, the same every time, each to its own asker, and lasting."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from mlos_core.client import connect
from mlos_core.conformance import comparing
from mlos_core.conformance.outcome import Failed, Skipped
from mlos_core.conformance.subject import NAME, Subject
from mlos_core.conformance.values import Inputs
from mlos_core.errors import MlosError
from mlos_core.types import Array

_CLIENTS: Final = 4
_TURNS: Final = 12
_HELD: Final = 6
_VIEW_BYTES: Final = 4096
"""Smaller answers are copied out of shared memory."""
_QUESTION_BYTES: Final = 4 << 20
"""What the rows of a question may take that are to make an answer larger."""
_MOST_ROOM: Final = 1 << 29


def outputs_are_what_the_signature_says(subject: Subject) -> str:
    """Names, dtypes, shapes."""
    answer = subject.ask(subject.inputs)
    if wrong := comparing.misfit(answer, subject.signature.outputs):
        raise Failed(wrong)
    return "asked with " + ", ".join(f"{n}{list(a.shape)}" for n, a in subject.inputs.items())


def the_same_question_has_the_same_answer_bit_for_bit(subject: Subject) -> None:
    """Today and tomorrow."""
    first = subject.ask(subject.inputs)
    for _ in range(3):
        if wrong := comparing.difference(subject.ask(subject.inputs), first):
            raise Failed(wrong)


def other_questions_in_between_change_nothing(subject: Subject) -> None:
    """No state is carried from one request to the next."""
    questions = _questions(subject)
    for inputs, want in (*questions, *reversed(questions)):
        if wrong := comparing.difference(subject.ask(inputs), want):
            raise Failed(wrong)


def concurrent_clients_get_each_their_own_answer(subject: Subject) -> None:
    """Four of them, each on a connection of its own."""
    questions = _questions(subject)

    def work(number: int) -> str:
        with connect(subject.daemon.socket) as client:
            handle = subject.handle(NAME, client)
            for turn in range(_TURNS):
                inputs, want = questions[(number + turn) % len(questions)]
                if wrong := comparing.difference(subject.ask(inputs, handle), want):
                    return wrong
        return ""

    with ThreadPoolExecutor(_CLIENTS) as pool:
        for wrong in pool.map(work, range(_CLIENTS)):
            if wrong:
                raise Failed(wrong)


def answers_that_are_held_stay_right(subject: Subject) -> None:
    """Nothing is written into memory that was answered with before."""
    questions = _large_questions(subject)
    with contextlib.closing(subject.handle(NAME, room=_room(questions))) as model:
        held = [
            (model.infer(inputs, parameters=subject.parameters), want)
            for inputs, want in (questions * _HELD)[:_HELD]
        ]
        for inputs, _ in questions:
            subject.ask(inputs, model)
        for result, want in held:
            if wrong := comparing.difference(result, want):
                raise Failed(wrong)
            result.release()


def _room(questions: list[tuple[Inputs, dict[str, Array]]]) -> int:
    """Bytes for all that are held at a time, inputs or answers, and as much again."""
    largest = max(sum(a.nbytes for a in part.values()) for both in questions for part in both)
    return min(2 * (_HELD + 2) * largest, _MOST_ROOM)


def _large_questions(subject: Subject) -> list[tuple[Inputs, dict[str, Array]]]:
    """With answers that are views of shared memory, where rows can make them large enough."""
    if not subject.signature.batched:
        return _questions(subject)
    one = subject.rows(1)
    asked, answered = (sum(a.nbytes for a in part.values()) for part in (one, subject.ask(one)))
    most = max(1, _QUESTION_BYTES // max(1, asked))
    count = min(_VIEW_BYTES // max(1, answered) + 1, most)
    every = [subject.rows(count, seed) for seed in range(2)]
    return [(inputs, subject.ask(inputs)) for inputs in every]


def a_client_that_changes_its_input_afterwards_changes_no_answer(subject: Subject) -> None:
    """An answer is no view of the question."""
    base = subject.inputs
    plain = {name: a for name, a in base.items() if a.dtype.kind not in "OSU" and a.size}
    if not plain:
        raise Skipped("the model takes no numbers")
    want = subject.ask(base)
    placed: dict[str, Any] = {**base}
    for name, array in plain.items():
        placed[name] = subject.model.alloc(array.shape, array.dtype)
        placed[name][...] = array
    result = subject.model.infer(placed, parameters=subject.parameters)
    for name in plain:
        placed[name].fill(0)
    if wrong := comparing.difference(result, want):
        raise Failed(wrong)
    result.release()


def _questions(subject: Subject) -> list[tuple[Inputs, dict[str, Array]]]:
    """Different inputs and their answers; those that the model refuses are left out."""
    found = []
    for seed in range(4):
        inputs = subject.variant(seed)
        try:
            found.append((inputs, subject.ask(inputs)))
        except MlosError:
            continue
    return found or [(subject.inputs, subject.ask(subject.inputs))]
