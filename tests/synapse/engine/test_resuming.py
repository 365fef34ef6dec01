# SPDX-License-Identifier: BUSL-1.1
"""Another worker goes on with a stream: no gap, no repeat, whatever it is told."""

import pytest
from fake_llm import Rig

from mlos_core.synapse.engine import pieces

PROMPT = list(range(40))
TOOLS = [{"type": "function", "function": {"name": "f"}}]
REQUESTS = {
    "greedy": {"temperature": 0, "max_tokens": 25},
    "drawn with a seed": {"seed": 5, "max_tokens": 25, "temperature": 1.3},
    "drawn without one": {"max_tokens": 25, "top_p": 0.9},
    "penalised": {"max_tokens": 20, "repetition_penalty": 1.5, "frequency_penalty": 0.5},
    "with logprobs": {"max_tokens": 8, "logprobs": 2},
    "several choices": {"n": 3, "max_tokens": 12},
    "choices of different length": {"n": 4, "max_tokens": 30, "logit_bias": {"256": 5.0}},
    "with a form": {"structured": {"choice": ["a rather long answer", "another one"]}},
    "stopped": {"structured": {"choice": ["abcabd→é and more"]}, "stop": ["abce", " mo"]},
    "with tools": {"structured": {"choice": ["call <f> and <g> now"]}, "tools": TOOLS},
    "echoed": {"echo": True, "max_tokens": 5},
    "held to a minimum": {"min_tokens": 6, "logit_bias": {"256": 90.0}},
}


def undisturbed(parameters):
    rig = Rig()
    id = rig.submit_and_run(PROMPT, key=77, **parameters)
    return rig.events[id], rig.notes[id], rig.ended[id]


def without_cache(event):
    return {name: value for name, value in event.items() if name != "c"}


def check_same(parameters, cut, notes_kept, company):
    """A worker dies after `cut` events; its successor is given the notes of `notes_kept`."""
    events, notes, final = undisturbed(parameters)
    rig = Rig(tokens=24, mixed=20)
    others = [rig.submit([i, 1], max_tokens=30) for i in range(company)]
    for _ in range(company):
        rig.step()
    id = rig.submit(
        PROMPT, key=77, resume_from=cut, journal=notes[: min(cut, notes_kept)], **parameters
    )
    rig.run()
    rest = [without_cache(event) for event in rig.events[id]]
    assert rest == [without_cache(event) for event in events[cut:]]
    assert rig.notes[id] == notes[cut:]
    end = rig.ended[id]
    assert end.outputs["text"].tolist() == final.outputs["text"].tolist()
    assert end.outputs["tokens"].tolist() == final.outputs["tokens"].tolist()
    assert end.parameters["finish_reasons"] == final.parameters["finish_reasons"]
    assert end.parameters.get("tool_calls") == final.parameters.get("tool_calls")
    assert len(others) == company


@pytest.mark.parametrize("options", [{}, {"n": 2}])
def test_a_successor_goes_on_between_the_pieces_of_one_token(options, monkeypatch):
    monkeypatch.setattr(pieces, "MOST", 3)
    parameters = {"echo": True, "max_tokens": 6, **options}
    events, _, _ = undisturbed(parameters)
    assert len(events) > 14
    for cut in range(len(events) + 1):
        for kept in (0, 2, cut):
            check_same(parameters, cut, notes_kept=kept, company=0)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_successor_goes_on_after_any_event(name):
    events, _, _ = undisturbed(REQUESTS[name])
    for cut in range(len(events) + 1):
        check_same(REQUESTS[name], cut, notes_kept=cut, company=0)


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("kept", [0, 1, 5])
def test_a_journal_that_ends_early_or_is_empty_costs_time_and_nothing_else(name, kept):
    events, _, _ = undisturbed(REQUESTS[name])
    for cut in {1, len(events) // 2, len(events)}:
        check_same(REQUESTS[name], cut, notes_kept=kept, company=0)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_successor_with_other_work_gives_the_same(name):
    events, _, _ = undisturbed(REQUESTS[name])
    check_same(REQUESTS[name], len(events) // 2, notes_kept=len(events), company=4)


def test_what_the_journal_tells_is_not_computed_token_by_token():
    parameters = REQUESTS["greedy"]
    _, notes, _ = undisturbed(parameters)
    rig = Rig()
    rig.submit(PROMPT, key=77, resume_from=24, journal=notes[:24], **parameters)
    rig.run()
    assert rig.executor.calls == 1


def test_a_request_whose_last_event_was_sent_is_answered_without_computing():
    parameters = REQUESTS["several choices"]
    events, notes, final = undisturbed(parameters)
    rig = Rig()
    id = rig.submit(PROMPT, key=77, resume_from=len(events), journal=notes, **parameters)
    rig.run()
    assert rig.events[id] == []
    assert rig.ended[id].outputs["text"].tolist() == final.outputs["text"].tolist()
    assert rig.executor.calls == 0


@pytest.mark.parametrize(
    "journal",
    [
        (b"",),
        (b"\x01",),
        (b"\xff\xff\xff\xff",),
        (b"\x00\x00\x00\x07",),
        (b"\x01\x00\x00\x00\x00",),
        (b"x" * 255,) * 3,
    ],
)
def test_a_journal_of_rubbish_is_not_believed(journal):
    parameters = REQUESTS["greedy"]
    events, _, _ = undisturbed(parameters)
    rig = Rig()
    id = rig.submit(PROMPT, key=77, resume_from=len(journal), journal=journal, **parameters)
    rig.run()
    assert rig.events[id] == events[len(journal) :]


def test_a_resumed_request_is_let_in_even_when_the_line_is_full():
    rig = Rig(max_num_seqs=1, max_waiting=1)
    for _ in range(2):
        rig.submit([1], max_tokens=3)
    resumed = rig.submit([2], max_tokens=3, resume_from=1)
    rig.run()
    assert len(rig.events[resumed]) == 2


def test_requests_without_a_seed_differ_by_their_keys():
    rig = Rig()
    ids = [rig.submit_and_run(PROMPT, key=key, max_tokens=20) for key in (1, 2, 1)]
    first, second, again = (rig.tokens(id) for id in ids)
    assert first == again != second
