# SPDX-License-Identifier: BUSL-1.1
import pytest

from mlos_core.errors import InvalidInput
from mlos_core.resources.units import parse_seconds, parse_size, size


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("1048576", 1 << 20),
        ("512M", 512 << 20),
        ("1.5 GiB", 3 << 29),
        ("2gb", 2 << 30),
        ("3k", 3072),
        ("7B", 7),
    ],
)
def test_sizes_are_read(text, count):
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "G", "-1", "1x", "1iB", "1e9", "nan"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(InvalidInput, match="is no size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("300", 300), ("5m", 300), ("1h", 3600), ("1.5d", 129600), ("200ms", 0.2), ("0", 0)],
)
def test_times_are_read(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["-1", "never", " Never "])
def test_for_ever_has_a_word(text):
    assert parse_seconds(text) == -1


@pytest.mark.parametrize("text", ["", "m", "-2", "1w", "inf", "1h30m"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(InvalidInput, match="is no time"):
        parse_seconds(text)


def test_what_size_writes_is_read_again():
    assert parse_size(size(3 << 30)) == 3 << 30
