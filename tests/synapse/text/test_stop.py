# SPDX-License-Identifier: BUSL-1.1
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlos_core.errors import InvalidInput
from mlos_core.synapse.text import StopChecker


def run(checker, pieces):
    """What was shown piece by piece, and the stop string that was met."""
    shown = []
    for piece in pieces:
        text, met = checker.push(piece)
        shown.append(text)
        if met is not None:
            return shown, met
    return [*shown, checker.flush()], None


def test_text_before_a_stop_string_is_shown_and_nothing_of_it():
    assert run(StopChecker(["\n\n"]), ["one\n", "two\n", "\nthree"]) == (
        ["one", "\ntwo", ""],
        "\n\n",
    )


def test_a_stop_string_across_many_pieces_is_found():
    assert run(StopChecker(["STOP"]), list("aSTSTOPb")) == (
        ["a", "", "", "ST", "", "", ""],
        "STOP",
    )


def test_it_is_included_when_asked_for():
    checker = StopChecker(["STOP"], include=True)
    assert run(checker, ["aST", "OPb"]) == (["a", "STOP"], "STOP")


def test_what_was_held_back_comes_out_at_the_end():
    assert run(StopChecker(["STOP"]), ["aST"]) == (["a", "ST"], None)


def test_the_stop_string_that_begins_first_wins():
    assert run(StopChecker(["b", "abc"]), ["xabc"]) == (["x"], "abc")
    assert run(StopChecker(["abc", "ab"]), ["xabc"]) == (["x"], "abc")


def test_without_stop_strings_everything_passes():
    assert run(StopChecker([]), ["a", ""]) == (["a", "", ""], None)


letters = st.text("abc", max_size=30)
stops = st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, max_size=3)


@given(words=letters, strings=stops, cuts=st.lists(st.integers(0, 30)), include=st.booleans())
def test_the_cut_is_exact_however_the_text_is_cut(words, strings, cuts, include):
    edges = [0, *sorted(min(cut, len(words)) for cut in cuts), len(words)]
    pieces = [words[a:b] for a, b in pairwise(edges)]
    shown, met = run(StopChecker(strings, include=include), pieces)
    text = "".join(shown)
    places = [words.find(string) for string in strings if string in words]
    if not places:
        assert (text, met) == (words, None)
        return
    assert met in strings
    before = text.removesuffix(met) if include else text
    assert words.startswith(before + met)
    assert not any(string in before for string in strings)


@given(words=letters, strings=stops)
def test_nothing_is_held_longer_than_a_stop_string_could_begin(words, strings):
    checker, seen, shown = StopChecker(strings), "", ""
    for letter in words:
        text, met = checker.push(letter)
        if met is not None:
            return
        seen, shown = seen + letter, shown + text
        held = seen.removeprefix(shown)
        assert not held or any(string.startswith(held) for string in strings)


@pytest.mark.parametrize("strings", [[""], ["x" * 1025], ["x"] * 65])
def test_stop_strings_have_bounds(strings):
    with pytest.raises(InvalidInput, match="stop string"):
        StopChecker(strings)
