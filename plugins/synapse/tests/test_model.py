# SPDX-License-Identifier: BUSL-1.1
"""The plugin with a real model."""

import json

import pytest

from mlos_core.errors import InvalidInput, LoadFailed

pytestmark = pytest.mark.network

CHAT = json.dumps([{"role": "user", "content": "What is the capital of France?"}])
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
        },
    },
}


def test_the_signature_says_what_the_model_is_good_for(asker):
    signature = asker.model.signature
    assert signature.streaming
    assert signature.tasks == ("generate", "chat", "embed", "tokenize")
    assert all(spec.optional for spec in (*signature.inputs, *signature.outputs))


def test_a_chat_is_answered(asker):
    _, final = asker.ask(CHAT, "messages", temperature=0, max_tokens=20)
    assert b"Paris" in final.outputs["text"][0]


def test_every_thread_and_instruction_set_says_the_same(asker, load):
    request = {"temperature": 0, "max_tokens": 12}
    _, final = asker.ask("The three primary colours are", **request)
    for options in ({"threads": 2}, {"isa": "reference"}):
        _, other = load(**options).ask("The three primary colours are", **request)
        assert other.outputs["text"].tolist() == final.outputs["text"].tolist()


def test_a_folder_with_one_file_is_that_file(load, smollm2, tmp_path):
    (tmp_path / "model.gguf").symlink_to(smollm2)
    _, final = load(tmp_path).ask("The capital of France is", temperature=0, max_tokens=1)
    assert final.outputs["text"].tolist() == [b" Paris"]


def test_an_answer_fits_its_schema(asker):
    form = {"structured": {"json": SCHEMA}, "temperature": 0, "max_tokens": 60}
    _, final = asker.ask("Describe a person in JSON: ", **form)
    found = json.loads(final.outputs["text"][0])
    assert found.keys() == {"name", "age"}
    assert isinstance(found["age"], int)


def test_an_impossible_schema_is_refused(asker):
    with pytest.raises(InvalidInput, match="structured"):
        asker.ask("x", structured={"json": {"type": "potato"}})
    with pytest.raises(InvalidInput, match="structured"):
        asker.ask("x", structured={"regex": "("})


def test_a_tool_that_must_be_called_is_called_with_arguments(asker):
    asked = {"tools": [TOOL], "tool_choice": "required", "temperature": 0, "max_tokens": 60}
    data, final = asker.ask(CHAT, "messages", **asked)
    ((call,),) = final.parameters["tool_calls"]
    assert call["name"] == "weather"
    assert json.loads(call["arguments"]).keys() == {"city"}
    assert final.parameters["finish_reasons"] == ["tool_calls"]
    assert "".join(event["s"] for event in data).strip() == ""
    with pytest.raises(InvalidInput, match="wether"):
        asker.ask(CHAT, "messages", tools=[TOOL], tool_choice={"name": "wether"})


def test_a_template_of_ones_own_is_used(load, tmp_path):
    file = tmp_path / "chat.jinja"
    file.write_text("{% for m in messages %}<{{ m.content }}>{% endfor %}")
    asker = load(chat_template=str(file))
    _, tokens = asker.ask('[{"role": "user", "content": "a"}]', "messages", task="tokenize")
    _, plain = asker.ask("<a>", task="tokenize")
    assert tokens.outputs["tokens"].tolist() == plain.outputs["tokens"].tolist()


def test_a_smaller_context_is_kept(load):
    asker = load(context=16)
    _, final = asker.ask("one two three", ignore_eos=True)
    usage = final.parameters["usage"]
    assert usage["prompt_tokens"] + usage["completion_tokens"] == 16
    with pytest.raises(InvalidInput, match="context has 16"):
        asker.ask("word " * 20)


def test_a_context_larger_than_the_models_is_refused(load):
    with pytest.raises(LoadFailed, match="made for 8192"):
        load(context=10_000)


def test_logprobs_name_the_likely_tokens(asker):
    data, _ = asker.ask("The capital of France is", temperature=0, max_tokens=1, logprobs=3)
    ((chance, text, others),) = data[0]["l"]
    assert text == " Paris"
    assert others[0][1:] == [chance, text]
    assert len(others) == 3
