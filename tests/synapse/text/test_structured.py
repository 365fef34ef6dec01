# SPDX-License-Identifier: BUSL-1.1
import json
import random
import re
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_text import bytelevel_metadata, opened

from mlos_core.errors import InvalidInput
from mlos_core.synapse.text import StructuredSpec, TextModel
from mlos_core.synapse.text.grammar import KEPT, Grammars

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "kind": {"enum": ["a", "b"]},
    },
    "required": ["name", "age", "kind"],
    "additionalProperties": False,
}


def allowed(matcher, vocab_size):
    words = np.full(-(-vocab_size // 32) + 2, 0xFFFFFFFF, np.uint32)
    matcher.mask_into(words)
    return np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little")).tolist()


def answer(text, spec, seed=0, limit=300):
    """A random answer among those that the masks allow."""
    matcher = text.grammar(StructuredSpec.from_request(spec))
    dice, ids = random.Random(seed), []
    while not matcher.finished and len(ids) < limit:
        token = dice.choice(allowed(matcher, text.vocab_size))
        matcher.accept(token)
        if token in text.eos_ids:
            break
        ids.append(token)
    assert matcher.accepting
    return text.decode(ids)


@pytest.mark.parametrize("seed", range(5))
def test_every_random_answer_fits_the_schema(bytelevel, seed):
    person = json.loads(answer(bytelevel, {"json": PERSON}, seed))
    assert list(person) == ["name", "age", "kind"]
    assert len(person["name"]) <= 5
    assert 0 <= person["age"] <= 150
    assert person["kind"] in ("a", "b")


def test_a_real_vocabulary_gives_answers_that_fit(smollm2_text):
    for seed in range(3):
        assert json.loads(answer(smollm2_text, {"json": json.dumps(PERSON)}, seed))


@pytest.mark.parametrize("seed", range(3))
def test_a_pattern_holds_for_the_whole_answer(bytelevel, seed):
    found = answer(bytelevel, {"regex": 'a/[0-9]{2}"(x|é)'}, seed)
    assert re.fullmatch('a/[0-9]{2}"(x|é)', found)


def test_one_of_the_choices_comes_out(bytelevel):
    choices = ["yes", 'no "really" \\ \n /x/', "日本", "hello"]
    found = {answer(bytelevel, {"choice": choices}, seed) for seed in range(30)}
    assert found == set(choices)


def test_a_lark_grammar_is_followed(bytelevel):
    grammar = 'start: greeting " " NAME\ngreeting: "hello" | "hi"\nNAME: /[A-Z][a-z]{2}/'
    assert re.fullmatch("(hello|hi) [A-Z][a-z]{2}", answer(bytelevel, {"grammar": grammar}))


def test_any_object_begins_and_ends_as_one(bytelevel):
    matcher = bytelevel.grammar(StructuredSpec.from_request({"json_object": True}))
    assert [bytelevel.token_bytes(i) for i in allowed(matcher, bytelevel.vocab_size)] == [b"{"]
    for token in bytelevel.encode('{"a": [1, {"b": null}]}'):
        assert not matcher.accepting
        matcher.accept(token)
    assert matcher.finished


def test_no_white_space_can_go_on_for_ever(bytelevel):
    matcher = bytelevel.grammar(StructuredSpec.from_request({"json": PERSON}))
    for token in bytelevel.encode('{"name": "'):
        matcher.accept(token)
    spaces = {i for i in range(bytelevel.vocab_size) if bytelevel.token_bytes(i) == b"\n"}
    assert not spaces & set(allowed(matcher, bytelevel.vocab_size))


def test_the_end_is_allowed_exactly_where_the_answer_may_end(bytelevel):
    matcher = bytelevel.grammar(StructuredSpec.from_request({"regex": "a+"}))
    assert not bytelevel.eos_ids & set(allowed(matcher, bytelevel.vocab_size))
    matcher.accept(bytelevel.encode("a")[0])
    assert matcher.accepting
    assert not matcher.finished
    assert bytelevel.eos_ids & set(allowed(matcher, bytelevel.vocab_size))
    matcher.accept(min(bytelevel.eos_ids))
    assert matcher.finished


def test_a_token_that_does_not_fit_is_refused(bytelevel):
    matcher = bytelevel.grammar(StructuredSpec.from_request({"regex": "a"}))
    with pytest.raises(InvalidInput, match="does not fit"):
        matcher.accept(bytelevel.encode("b")[0])


def test_a_mask_that_is_too_short_is_refused(bytelevel):
    matcher = bytelevel.grammar(StructuredSpec.from_request({"regex": "a"}))
    with pytest.raises(InvalidInput, match="words of 32 bits"):
        matcher.mask_into(np.zeros(2, np.uint32))


def test_matchers_of_one_grammar_do_not_share_their_place(bytelevel):
    spec = StructuredSpec.from_request({"regex": "ab"})
    first, second = bytelevel.grammar(spec), bytelevel.grammar(spec)
    a, b = bytelevel.encode("ab")
    first.accept(a)
    first.accept(b)
    assert first.finished
    second.accept(a)
    assert not second.finished


def test_compiled_grammars_are_kept_up_to_a_bound(bytelevel):
    grammars = Grammars(bytelevel.tokenizer, bytelevel.eos_ids, bytelevel.vocab_size)
    for i in range(KEPT + 5):
        grammars.matcher(StructuredSpec.from_request({"choice": [f"x{i}"]}))
    assert grammars.statistics() == {"grammars": KEPT}


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ({"json": {"type": "integer", "minimum": 3, "maximum": 1}}, "Unsatisfiable"),
        ({"json": {"$ref": "#"}}, "no answer"),
        ({"json": False}, "satisfy"),
        ({"json": {"type": "nonsense"}}, "nonsense"),
        ({"json": {"$ref": "https://example.org/x"}}, "not present"),
        ({"json": {"not": {}}}, "not"),
        ({"regex": "("}, "unclosed"),
        ({"regex": "(?=a)b"}, "look-around"),
        ({"regex": "[^\\s\\S]"}, "no answer"),
        ({"regex": "(" * 20_000 + "a" + ")" * 20_000}, "regex"),
        ({"grammar": "start: nothing"}, "nothing"),
        ({"grammar": "start: start"}, "no answer"),
        ({"grammar": "begin: 'x'"}, "structured"),
        ({"grammar": "start: " + "(" * 9000 + '"a"' + ")" * 9000}, "nested"),
    ],
)
def test_impossible_and_hostile_grammars_are_the_callers_error(bytelevel, spec, complaint):
    with pytest.raises(InvalidInput, match=complaint):
        bytelevel.grammar(StructuredSpec.from_request(spec))


def test_a_grammar_that_grows_too_large_on_the_way_ends_its_request_alone(bytelevel):
    matcher = bytelevel.grammar(StructuredSpec.from_request({"regex": "(a{1000}){1000}"}))

    def go_on():
        for _ in range(2000):
            matcher.accept(allowed(matcher, bytelevel.vocab_size)[0])

    with pytest.raises(InvalidInput, match=r"cannot go on|does not fit"):
        go_on()
    assert answer(bytelevel, {"choice": ["a"]}) == "a"


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (None, "object"),
        ("x", "object"),
        ({}, "keys"),
        ({"xml": 1}, "keys"),
        ({"regex": "a", "json": {}}, "keys"),
        ({"json": "{"}, "not JSON"),
        ({"json": [1]}, "not a JSON schema"),
        ({"json": {"a": {1, 2}}}, "not a JSON schema"),
        ({"json_object": False}, "true"),
        ({"regex": ""}, "not empty"),
        ({"regex": 5}, "strings"),
        ({"choice": []}, "list of 1 to"),
        ({"choice": ["a", 1]}, "list of 1 to"),
        ({"choice": [""]}, "list of 1 to"),
        ({"choice": ["x"] * 3000}, "list of 1 to"),
        ({"regex": "x" * 70_000}, "longer than"),
        ({"json": {"enum": ["x" * 70_000]}}, "longer than"),
    ],
)
def test_a_wrong_request_for_structure_is_named(value, complaint):
    with pytest.raises(InvalidInput, match=complaint):
        StructuredSpec.from_request(value)


def test_keys_without_a_value_do_not_count():
    spec = StructuredSpec.from_request({"regex": "a", "json": None, "choice": None})
    assert spec == StructuredSpec("regex", "a")


def test_a_tokenizer_with_a_space_of_its_own_follows_grammars_too(sentencepiece):
    assert answer(sentencepiece, {"choice": ["abc é€ aa"]}) in ("abc é€ aa",)


def test_structured_answers_work_without_a_chat_template():
    text = TextModel(opened(bytelevel_metadata()))
    assert answer(text, {"choice": ["hello"]}) == "hello"


def test_tokens_that_the_model_has_no_rows_for_are_out_of_reach():
    files = opened(bytelevel_metadata())
    files.config = SimpleNamespace(vocab_size=267)
    text = TextModel(files)
    assert text.vocab_size == 267
    with pytest.raises(InvalidInput, match="'<tool_call>', a token that the model does not have"):
        text.encode("a<tool_call>b")
    assert answer(text, {"choice": ["hello", "<tool_call>"]}) in ("hello", "<tool_call>")
