# SPDX-License-Identifier: BUSL-1.1
from pathlib import Path

import pytest

from axon_client.spec import PackageSpec, PathSpec, parse, parse_name
from mlos_core.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("pypi/magika@1.0.3", PackageSpec("pypi", "magika", "1.0.3")),
        ("pypi/magika", PackageSpec("pypi", "magika")),
        ("pypi/Silero_VAD", PackageSpec("pypi", "silero-vad")),
        ("hf/org/model@main", PackageSpec("hf", "org/model", "main")),
        ("hf/a/b/c", PackageSpec("hf", "a/b/c")),
        ("x/y@1.0+cpu", PackageSpec("x", "y", "1.0+cpu")),
    ],
)
def test_a_spec_is_namespace_name_and_version(text, spec):
    assert parse(text) == spec
    assert parse(str(spec)) == spec


@pytest.mark.parametrize("text", ["./dir", "../dir", "/tmp/x@1", ".", "./a@b"])
def test_what_starts_like_a_path_is_a_path(text):
    assert parse(text) == PathSpec(Path(text))


def test_a_tilde_is_the_home_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert parse("~/models") == PathSpec(Path("/home/ada/models"))


@pytest.mark.parametrize(
    "text",
    ["", "@", "a/b@", "a/@1", "a/b@1@", "a b/c", "a/-x", "a/b@-1", "a/b/../c", "a/b@1\n", "-a/b"],
)
def test_what_is_no_spec_is_refused_with_an_example(text):
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    assert "pypi/magika@1.0.3" in caught.value.hint


def test_a_folder_without_its_dot_gets_a_hint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    with pytest.raises(InvalidInput) as caught:
        parse("digits")
    assert "./digits" in caught.value.hint


def test_the_namespace_may_be_left_out_in_look_ups_only():
    assert parse_name("magika@1") == PackageSpec("", "magika", "1")
    with pytest.raises(InvalidInput, match="namespace"):
        parse("magika@1")
