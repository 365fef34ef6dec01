# SPDX-License-Identifier: BUSL-1.1
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from axon_client.spec import PackageSpec, PathSpec, UrlSpec, kind_of, parse, parse_name
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
        ("x/y@^1.2 || ^2", PackageSpec("x", "y", "^1.2 || ^2")),
        ("x/y@>=1,<3", PackageSpec("x", "y", ">=1,<3")),
        ("x/y@1.2 - 2", PackageSpec("x", "y", "1.2 - 2")),
        ("x/y@*", PackageSpec("x", "y", "*")),
        ("x/y@latest", PackageSpec("x", "y", "latest")),
        ("hf/org/m@refs/pr/1", PackageSpec("hf", "org/m", "refs/pr/1")),
        (f"x/y@sha256:{'0a' * 32}", PackageSpec("x", "y", f"sha256:{'0a' * 32}")),
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


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("pypi/magika==1.0.3", "write 'pypi/magika@1.0.3'"),
        ("pypi/magika@==1.0.3", "write 'pypi/magika@1.0.3'"),
        ("pypi/magika>=1,<3", "write 'pypi/magika@>=1,<3'"),
        ("oci/ghcr.io/org/model:1.0", "write 'oci/ghcr.io/org/model@1.0'"),
        ("pypi:magika", "write 'pypi/magika'"),
        ("a/b@>=1:x", ""),
        ("oci/localhost:5000/org/model", ""),
        ("a/b==1==2", ""),
    ],
)
def test_how_pip_and_docker_write_it_is_translated(text, meant):
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    assert (caught.value.hint == meant) if meant else ("write '" not in caught.value.hint)


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


@pytest.mark.parametrize(
    ("selector", "kind"),
    [
        ("", "any"),
        ("*", "any"),
        ("1.2.3", "exact"),
        ("1.2.3-rc.1+build", "exact"),
        ("1.0.3.post1", "exact"),
        ("1.0rc1", "exact"),
        ("1!2.0", "exact"),
        ("a" * 40, "exact"),
        ("1", "range"),
        ("1.2", "range"),
        ("1.x", "range"),
        ("x", "range"),
        ("=1.2.3", "range"),
        ("^1.2", "range"),
        (">=1,<3", "range"),
        ("latest", "tag"),
        ("main", "tag"),
        ("q8-0", "tag"),
        ("refs/pr/3", "tag"),
        ("sha256:" + "0" * 64, "digest"),
    ],
)
def test_a_selector_is_of_one_kind(selector, kind):
    assert kind_of(selector) == kind


@pytest.mark.parametrize(
    "selector",
    [
        ">=1,<", "^", "sha256:00", "sha256:" + "G" * 64, "sha256:" + "A" * 64, "1.2.3\n", "\t1",
        "\u0661", "1\u00a0- 2", "lat\u0435st", "\u202e1.0", "../x", "a//b", "-1", "a" * 200,
        ">=1" + " " * 300, "1|2", "x\0",
    ],
)  # fmt: skip
def test_what_is_no_selector_is_refused(selector):
    with pytest.raises(InvalidInput):
        kind_of(selector)
    with pytest.raises(InvalidInput) as caught:
        parse(f"a/b@{selector}")
    assert caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "p\u0443pi/magika", "pypi/ma\u200bgika", "a/b" * 2000, "a/" + "b" * 200, "a/b\0c",
        "\uff0fx/y", "a/b\\c", "a/%2e%2e", "a/" + "/".join("bcdefghij"),
    ],
)  # fmt: skip
def test_names_that_only_look_like_names_are_refused(text):
    with pytest.raises(InvalidInput):
        parse(text)


def test_a_url_names_the_digest_of_its_file():
    url, digest = "https://models.test/a/m.onnx?v=1", "ab" * 32
    spec = parse(f"{url}#sha256={digest}")
    assert spec == UrlSpec(url, digest)
    assert parse(str(spec)) == spec


@pytest.mark.parametrize(
    "text",
    [
        "https://models.test/m.onnx",
        "https://models.test/m.onnx#sha256=00",
        "https://models.test/m.onnx#sha1=" + "0" * 64,
        "https://models.test/m.onnx#" + "0" * 64,
        "https:///m.onnx#sha256=" + "0" * 64,
        "ftp://models.test/m.onnx#sha256=" + "0" * 64,
        "file:///etc/passwd#sha256=" + "0" * 64,
        "https://models.test:port/m#sha256=" + "0" * 64,
        "https://[::1/m#sha256=" + "0" * 64,
        "https://models.test/a b#sha256=" + "0" * 64,
        "https://m\u043edels.test/a#sha256=" + "0" * 64,
        "https://models.test/" + "a" * 9000 + "#sha256=" + "0" * 64,
    ],
)
def test_a_url_that_is_not_pinned_or_no_url_is_refused(text):
    with pytest.raises(InvalidInput):
        parse(text)


def test_a_url_with_a_password_is_refused_without_showing_it():
    with pytest.raises(InvalidInput) as caught:
        parse("https://ada:secret@models.test/m.onnx#sha256=" + "0" * 64)
    assert "secret" not in str(caught.value)
    assert "netrc" in caught.value.hint


def test_hostile_paths_are_refused():
    for text in ("./a\0b", "/" + "a" * 5000, "~nobody-of-that-name/x"):
        with pytest.raises(InvalidInput):
            parse(text)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(["", "a/b", "a/b@", "a/b/c@^", "https://x.test/m#sha256=", "./"]),
    st.text(alphabet="ab019.@/^~<>=|,-+*x! \u0661\u202e\0\n:#%", max_size=24),
)
def test_any_text_is_a_spec_that_reads_back_or_is_refused(beginning, text):
    try:
        spec = parse(beginning + text)
    except InvalidInput:
        return
    if isinstance(spec, PackageSpec):
        kind_of(spec.version)
        assert parse(str(spec)) == spec
