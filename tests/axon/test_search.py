# SPDX-License-Identifier: BUSL-1.1
import json

import pytest
from axon_served import Quiet, answering, original

from axon_client import config_file, searching
from axon_client.adapters.base import Hit
from axon_client.config import Config
from axon_client.remote import Entry, Filters
from mlos_core.errors import NotFound, Unavailable

HITS = [
    {"name": "digits", "namespace": "acme", "version": "1.0.0", "description": "Ten\nlines",
     "framework": "onnx", "tags": ["vision"], "license": "MIT", "size": 1234},
    {"name": "voices", "namespace": "acme", "version": "2.0.0", "description": "\x1b[31mRed",
     "framework": "pytorch", "tags": None, "format": "safetensors"},
]  # fmt: skip


@pytest.fixture
def hub(home):
    with answering(original(HITS, {}, {})) as url:
        add(home, hub={"url": url})
        yield url


def add(home, **registries):
    def change(values):
        values.setdefault("registries", {}).update(registries)

    config_file.edit(home, change)


def test_hits_are_listed_with_what_is_installed(axon, hub, folder):
    axon("install", folder, "--as", "acme/digits@0.9.0")
    code, out, err = axon("search", "digits")
    assert (code, err) == (0, "")
    assert "(0.9.0)" in out
    axon("install", folder, "--as", "acme/digits@1.0.0")
    (line,) = [line for line in axon("search", "digits")[1].splitlines() if "acme/digits" in line]
    assert line.startswith("*")
    assert "1.2 kB" in line
    assert "lines" not in line
    (hit,) = json.loads(axon("search", "digits", "--json")[1])["hits"]
    assert hit["installed"] == ["0.9.0", "1.0.0"]
    assert hit["source"] == "hub"


def test_text_from_a_registry_cannot_drive_the_terminal(axon, hub):
    out = axon("search", "voices")[1]
    assert "\x1b" not in out
    assert "Red" in out


def test_nothing_found_is_no_error(axon, hub):
    assert axon("search", "nothing") == (0, "nothing fits\n", "")
    assert json.loads(axon("search", "nothing", "--json")[1])["hits"] == []


def test_no_line_ends_in_blanks(axon, hub):
    out = axon("search", "")[1]
    assert [line for line in out.splitlines() if line != line.rstrip()] == []


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--framework", "ONNX"], ["digits"]),
        (["--format", "safetensors"], ["voices"]),
        (["--license", "mit"], ["digits"]),
        (["--tag", "vision"], ["digits"]),
        (["--tag", "vision", "--framework", "pytorch"], []),
        (["--namespace", "other"], []),
        (["--limit", "1"], ["digits"]),
    ],
)
def test_filters_narrow_a_search(axon, hub, options, names):
    found = json.loads(axon("search", "", *options, "--json")[1])["hits"]
    assert [hit["name"] for hit in found] == names


def test_facets_are_shown(axon, hub):
    out = axon("search", "", "--facets")[1]
    assert "framework: onnx (1), pytorch (1)" in out
    facets = json.loads(axon("search", "", "--facets", "--json")[1])["facets"]
    assert facets["hub"]["tag"] == {"vision": 1}


class Broken(Quiet):
    def do_GET(self):
        self.reply(400, b'{"error": {"code": "invalid_input", "message": "no such filter"}}')


def test_a_source_that_fails_is_a_warning_beside_the_others(axon, hub, home):
    with answering(Broken) as url:
        add(home, bad={"url": url})
        code, out, err = axon("search", "digits")
        assert code == 0
        assert "acme/digits" in out
        assert "warning: bad: no such filter" in err
        about = json.loads(axon("search", "digits", "--json")[1])
    assert about["failures"]["bad"]["code"] == "invalid_input"
    assert len(about["hits"]) == 1


def test_if_every_source_fails_the_search_does(axon, home):
    with answering(Broken) as url:
        add(home, bad={"url": url})
        code, _, err = axon("search", "digits")
    assert code == 65
    assert "no such filter" in err


def test_a_registry_may_be_named_by_url(axon, hub):
    assert "acme/digits" in axon("search", "digits", "--registry", hub)[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--registry", "hubb"), "did you mean hub?"), (("--source", "hff"), "did you mean hf?")],
)
def test_a_misspelt_source_is_suggested(axon, hub, arguments, said):
    code, _, err = axon("search", "x", *arguments)
    assert code == 66
    assert said in err


def test_what_cannot_be_searched_says_so(axon, home):
    code, _, err = axon("search", "x", "--source", "local")
    assert code == 69
    assert "local cannot be searched" in err


def test_without_registries_the_public_hub_is_searched(home):
    assert list(searching.chosen([], [], Config())) == ["hf"]


def test_with_registries_nobody_else_is_asked(hub, home):
    from axon_client import config

    add(home, box={"url": "https://box.example.org", "kind": "oci"})
    assert list(searching.chosen([], [], config.load(home))) == ["hub"]
    with pytest.raises(NotFound):
        searching.chosen(["none"], [], config.load(home))


class Hub:
    """A source that knows no filters."""

    def __init__(self, error=None):
        self.error = error

    def resolve(self, spec):
        raise NotImplementedError

    def fetch(self, *arguments):
        raise NotImplementedError

    def search(self, query, limit):
        if self.error:
            raise self.error
        return [Hit("hf", f"org/m{n}", tags=("gguf",) if n % 2 else ()) for n in range(limit)]


def test_other_sources_are_filtered_here():
    (found,) = searching.search({"hf": Hub}, "m", Filters(format="gguf"), 3)
    assert [entry.name for entry in found.entries] == ["org/m1", "org/m3", "org/m5"]


def test_several_sources_answer_side_by_side():
    made = {"a": Hub, "b": lambda: Hub(Unavailable("away")), "c": Hub}
    found = searching.search(made, "m", Filters(), 1)
    assert [answer.source for answer in found] == ["a", "b", "c"]
    assert [len(answer.entries) for answer in found] == [1, 0, 1]
    assert str(found[1].failure) == "away"


def test_a_hits_format_may_be_its_framework_or_a_tag():
    assert searching.fits(Entry("a", "b", framework="gguf"), Filters(format="gguf"))
    assert searching.fits(Entry("a", "b", tags=["GGUF"]), Filters(format="gguf"))
    assert not searching.fits(Entry("a", "b"), Filters(format="gguf"))
