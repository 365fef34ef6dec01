# SPDX-License-Identifier: BUSL-1.1
import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version as Python

from axon_client import versions
from axon_client.versions.version import strict
from mlos_core.errors import InvalidInput

# Each row is in rising order: the precedence that semver.org's specification lays down.
RISING = [
    ["1.9.0", "1.10.0", "1.11.0"],
    ["1.0.0", "2.0.0", "2.1.0", "2.1.1"],
    ["1.0.0-alpha", "1.0.0"],
    [
        "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2",
        "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0",
    ],
    ["1.0.0-0", "1.0.0-1", "1.0.0-10", "1.0.0--1", "1.0.0-1a", "1.0.0-A", "1.0.0-Z", "1.0.0-a"],
    ["0.0.0-0", "0.0.0", "0.0.1", "0.1.0-x", "0.1.0"],
    ["9007199254740990.0.0", "9007199254740991.0.0"],
]  # fmt: skip

VALID = [
    "0.0.4",
    "1.2.3",
    "10.20.30",
    "1.1.2-prerelease+meta",
    "1.1.2+meta",
    "1.1.2+meta-valid",
    "1.0.0-alpha",
    "1.0.0-alpha.beta.1",
    "1.0.0-alpha.0valid",
    "1.0.0-rc.1+build.123",
    "1.2.3-SNAPSHOT-123",
    "2.0.0+build.1848",
    "1.0.0+0.build.1-rc.10000aaa-kk-0.1",
    "1.0.0-0A.is.legal",
    "1.2.3----RC-SNAPSHOT.12.9.1--.12",
    "1.2.3----R-S.12.9.1--.12+meta",
]

INVALID = [
    "1",
    "1.2",
    "1.2.3-0123",
    "1.2.3-0123.0123",
    "1.1.2+.123",
    "+invalid",
    "-invalid",
    "-invalid+invalid",
    "alpha",
    "alpha.beta.1",
    "alpha+beta",
    "1.0.0-alpha_beta",
    "1.0.0-alpha..",
    "1.0.0-alpha..1",
    "01.1.1",
    "1.01.1",
    "1.1.01",
    "1.2.3.DEV",
    "1.2-SNAPSHOT",
    "1.2.31.2.3----RC-SNAPSHOT.12.09.1--..12+788",
    "-1.0.3-gamma+b7718",
    "9.8.7+meta+meta",
    "9007199254740992.0.0",
    "1.0.0-",
    "1.0.0+",
    "\u0661.\u0662.\u0663",
]

# What npm makes of each range, one at a time: what it has, what it has not.
RANGES = [
    ("1.2.3", "1.2.3 1.2.3+build", "1.2.4 1.2.3-pre"),
    ("=1.2.3", "1.2.3", "1.2.4"),
    (">1.2.3", "1.2.4 2.0.0", "1.2.3 1.2.4-0 1.3.0-beta"),
    (">=1.2.3", "1.2.3 9.0.0", "1.2.2 1.2.3-beta"),
    ("<2.0.0", "1.9.9 0.0.0", "2.0.0 2.0.0-alpha 1.0.0-rc.1"),
    ("<=2.0.0", "2.0.0 0.1.0", "2.0.1 2.0.0-alpha"),
    ("<2", "1.9.9", "2.0.0 2.0.0-rc.1"),
    (">1.2", "1.3.0", "1.2.9 1.3.0-0"),
    ("<=1.2", "1.2.9", "1.3.0"),
    ("1", "1.0.0 1.9.9", "0.9.9 2.0.0 1.0.0-rc"),
    ("1.2", "1.2.0 1.2.9", "1.3.0"),
    ("1.x", "1.0.0", "2.0.0"),
    ("1.2.X", "1.2.7", "1.3.0"),
    ("*", "0.0.0 1.2.3 99.0.0", "1.0.0-rc.1"),
    ("", "1.0.0", "1.0.0-rc.1"),
    ("x", "3.1.4", "3.1.4-1"),
    ("1.2.3 - 2.3.4", "1.2.3 2.3.4", "1.2.2 2.3.5"),
    ("1.2 - 2.3.4", "1.2.0", "1.1.9"),
    ("1.2.3 - 2.3", "2.3.9", "2.4.0"),
    ("1.2.3 - 2", "2.9.9", "3.0.0 3.0.0-0"),
    ("1.2.3-pre - 2.4.3-post", "1.2.3 1.2.3-pre.2 2.4.3-alpha", "2.4.3 1.2.4-alpha"),
    ("~1.2.3", "1.2.3 1.2.9", "1.3.0 1.2.2"),
    ("~1.2", "1.2.0", "1.3.0"),
    ("~1", "1.9.0", "2.0.0"),
    ("~0.2.3", "0.2.9", "0.3.0"),
    ("~>1.2.3", "1.2.9", "1.3.0"),
    ("~ 1.2.3", "1.2.9", "1.3.0"),
    ("~1.2.3-beta.2", "1.2.3-beta.2 1.2.3-beta.4 1.2.3 1.2.9", "1.2.3-beta.1 1.2.4-beta.2"),
    ("^1.2.3", "1.2.3 1.9.9", "2.0.0 1.2.2 2.0.0-0"),
    ("^0.2.3", "0.2.3 0.2.9", "0.3.0"),
    ("^0.0.3", "0.0.3", "0.0.4"),
    ("^0.0", "0.0.9", "0.1.0"),
    ("^0", "0.9.9", "1.0.0"),
    ("^0.0.x", "0.0.5", "0.1.0"),
    ("^1.x", "1.5.0", "2.0.0"),
    ("^1.2.3-beta.2", "1.2.3-beta.2 1.2.3-rc 1.2.3 1.9.0", "1.2.4-beta.2 1.2.3-beta.1 2.0.0"),
    ("^0.0.3-beta", "0.0.3-pr.2 0.0.3", "0.0.4"),
    ("^1 || ^3", "1.5.0 3.0.0", "2.0.0 4.0.0"),
    ("1.2.7 || >=1.2.9 <2.0.0", "1.2.7 1.2.9 1.4.6", "1.2.8 2.0.0"),
    ("||", "1.2.3", "1.2.3-0"),
    ("* || >=2.0.0-rc.1", "2.0.0", "2.0.0-rc.2"),
    (">=1,<3", "1.0.0 2.9.9", "3.0.0"),
    (">= 1.2.3  < 2", "1.2.3", "2.0.0"),
    (">1.2.3-alpha.3", "1.2.3-alpha.7 1.2.3 3.4.5", "3.4.5-alpha.9 1.2.3-alpha.3"),
    (">=0.0.0 <=0.0.0-beta", "0.0.0-alpha", "0.0.0"),
    ("<x", "", "0.0.0 1.0.0"),
    (">*", "", "0.0.0 1.0.0"),
    ("1.2.3+build", "1.2.3+other 1.2.3", "1.2.4"),
    ("v1.2.3", "1.2.3", "1.2.4"),
    ("=v1", "1.0.0", "2.0.0"),
]
NO_RANGES = [
    "1.2.3.4",
    "1..2",
    ">>1",
    "^^1",
    "~^1",
    "!1",
    "1.2.3-",
    "latest",
    "x.1",
    "1.x.3",
    "<1.x.3",
    "=>",
    "=>",
    "=>1",
    "1|2",
    "1.0.0-01",
    "9007199254740992",
    "^9007199254740991.0.0",
    ">",
    "^",
    "~",
    "=",
    ">=<1",
    "1.2.3<2",
    "\uff1e1",
    "^\u0661",
]


@pytest.mark.parametrize("row", RISING, ids=lambda row: row[0])
def test_precedence_is_that_of_the_specification(row):
    for (i, low), (j, high) in itertools.product(enumerate(row), repeat=2):
        assert versions.compare(low, high) == (i > j) - (i < j), (low, high)
    assert versions.sort(random.Random(1).sample(row, len(row))) == row[::-1]


def test_builds_have_no_precedence_but_an_order():
    assert versions.compare("1.0.0+a", "1.0.0+b") == 0
    assert versions.key("1.0.0") < versions.key("1.0.0+1") < versions.key("1.0.0+a")


@pytest.mark.parametrize("text", VALID)
def test_what_the_specification_calls_valid_is(text):
    assert strict(text).text == text
    assert versions.is_semantic(text)


@pytest.mark.parametrize("text", [*INVALID, "", "1.2.3\n", " 1.2.3", "1." + "2" * 300 + ".3"])
def test_what_the_specification_calls_invalid_is_refused(text):
    assert not versions.is_semantic(text)
    with pytest.raises(InvalidInput, match="is not a semantic version"):
        strict(text)


@pytest.mark.parametrize(("text", "has", "lacks"), RANGES, ids=[row[0] for row in RANGES])
def test_a_range_has_what_it_has_with_npm(text, has, lacks):
    for version in has.split():
        assert versions.satisfies(version, text), version
    for version in lacks.split():
        assert not versions.satisfies(version, text), version


@pytest.mark.parametrize("text", [*NO_RANGES, "1" * 300, "1\u00a0- 2 -"])
def test_what_npm_does_not_take_for_a_range_is_refused_with_examples(text):
    assert not versions.is_range(text)
    with pytest.raises(InvalidInput) as caught:
        versions.parse_range(text)
    assert "^1.2" in caught.value.hint


PYTHON = [
    "1.0.dev1",
    "1.0a1.dev2",
    "1.0a1",
    "1.0a1.post1",
    "1.0a2",
    "1.0b1",
    "1.0rc1",
    "1.0rc1.post2",
    "1.0",
    "1.0+cpu",
    "1.0+cu12",
    "1.0+1",
    "1.0.post0.dev1",
    "1.0.post0",
    "1.0.post1",
    "1.0.0.1",
    "1.0.1",
    "1.0.3",
    "1.0.3.post1",
    "1.0.10",
    "1.1.0rc2",
    "1.1",
    "4.8.1.78",
    "2024.1",
    "2024.01.5",
    "1!0.1",
]


def test_python_s_versions_are_in_python_s_order():
    shuffled = random.Random(2).sample(PYTHON, len(PYTHON))
    assert versions.sort(shuffled, "pypi") == sorted(PYTHON, key=Python, reverse=True)
    assert sorted(PYTHON, key=Python) == PYTHON


pieces = st.builds(
    lambda release, pre, post, dev: ".".join(map(str, release)) + pre + post + dev,
    st.lists(st.integers(0, 12), min_size=1, max_size=4),
    st.sampled_from(["", "", "a1", "b2", "rc1", "rc10"]),
    st.sampled_from(["", "", ".post1", ".post10"]),
    st.sampled_from(["", "", ".dev1", ".dev3"]),
)


@settings(max_examples=200, deadline=None)
@given(pieces, pieces)
def test_any_two_python_versions_compare_as_packaging_says(one, other):
    left, right = Python(one), Python(other)
    assert versions.compare(one, other, "pypi") == (left > right) - (left < right)
    assert versions.is_stable(one, "pypi") == (not left.is_prerelease)


@pytest.mark.parametrize(
    ("version", "selector", "fits"),
    [
        ("1.0.3.post1", "^1.0.3", True),
        ("1.0.3.post1", "<=1.0.3", False),
        ("1.0.3.post1", ">1.0.3", True),
        ("1.1.0rc1", "^1.0", False),
        ("1.1.0rc1", ">=1.1.0-rc.1", True),
        ("1.1.0rc2", "^1.1.0-rc.1", True),
        ("1.1.0b1", "^1.1.0-rc.1", False),
        ("1.1.0.dev1", "~1.0", False),
        ("2.0.0.dev1", "^1", False),
        ("4.8.1.78", "^4.8", True),
        ("4.8.1.78", "4.8.1", False),
        ("1.0", "1.0.0", True),
        ("1.0+cpu", "~1.0", True),
    ],
)
def test_python_s_versions_fit_npm_s_ranges(version, selector, fits):
    assert versions.satisfies(version, selector, "pypi") == fits


def test_a_version_of_a_wheel_is_known_under_another_namespace_too():
    assert versions.compare("1.0.3.post1", "1.0.3", "acme") == 1
    assert versions.parse("1.2.3-01", "acme") is None, "not what PEP 440 makes of it"
    assert versions.parse("1.2.3-01", "pypi").release == (1, 2, 3)


def test_what_is_no_version_comes_last_and_fits_nothing():
    assert versions.sort(["main", "0.0.1", "dev", "1.0.0"]) == ["1.0.0", "0.0.1", "main", "dev"]
    assert not versions.satisfies("main", "*")
    assert not versions.is_stable("main")


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [("", "2.0.0"), ("^1", "1.10.0"), ("1.9.x", "1.9.0"), ("1.0", "1.0"), ("^3", None)],
)
def test_the_best_version_is_the_highest_that_fits(selector, chosen):
    there = ["1.9.0", "1.10.0", "2.0.0", "1.0", "1.0.5", "3.0.0-rc.1"]
    assert versions.best(there, selector) == chosen
    assert versions.best(reversed(there), selector) == chosen


def test_a_long_or_hostile_range_is_answered_at_once():
    for text in ("^1 " * 80, "1.2.3 - " * 30, "~" * 250, "=v" * 120, "1.*." * 60, "||" * 120):
        versions.is_range(text)
        versions.is_semantic(text)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123.xX*^~<>=|- v+a,", max_size=30))
def test_any_text_is_a_range_or_refused(text):
    if versions.is_range(text):
        assert versions.parse_range(text).alternatives
