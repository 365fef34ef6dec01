# SPDX-License-Identifier: BUSL-1.1
import pytest
from tiny_text import CHATML, bytelevel_metadata, opened

from mlos_core.errors import InvalidInput, LoadFailed, Unsupported
from mlos_core.synapse.text import TextModel
from mlos_core.synapse.text.chat.messages import check_messages
from mlos_core.synapse.text.chat.template import ChatTemplate

USER = {"role": "user", "content": "Hi"}


def render(source, **values):
    return ChatTemplate(source, {"bos_token": "<s>"}).render({"messages": [USER], **values})


def test_the_models_own_template_makes_the_prompt(smollm2_text):
    prompt = smollm2_text.render([USER])
    assert prompt.startswith("<|im_start|>system\nYou are a helpful AI assistant")
    assert prompt.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert smollm2_text.encode(prompt)[0] == smollm2_text.bos_id


def test_the_generation_prompt_can_be_left_out(bytelevel):
    assert bytelevel.render([USER], add_generation_prompt=False) == (
        "<|im_start|>user\nHi<|im_end|>\n"
    )


def test_a_template_can_be_given_instead_of_the_models_own():
    text = TextModel(opened(bytelevel_metadata(), chat_template=CHATML), chat_template="{{ 1 }}")
    assert text.render([USER]) == "1"


def test_a_model_without_a_template_says_how_to_give_one():
    text = TextModel(opened(bytelevel_metadata()))
    with pytest.raises(Unsupported, match=r"no chat template .*option chat_template"):
        text.render([USER])


def test_more_variables_reach_the_template():
    text = TextModel(opened(bytelevel_metadata(), chat_template="{{ thinking }}"))
    assert text.render([USER], thinking=True) == "True"


# --- the language of templates ---


@pytest.mark.parametrize(
    ("source", "prompt"),
    [
        ("{{ bos_token }}{{ messages[0]['content'] | trim }}", "<s>Hi"),
        ("{%- for m in messages -%}\n  {{- m.role }}\n{% endfor %}", "user\n"),
        ("  {% if true %}\nx\n  {% endif %}\ny", "x\ny"),
        ("{{ {'b': 'é<', 'a': [1, None]} | tojson }}", '{"b": "é<", "a": [1, null]}'),
        ("{{ {'b': 1, 'a': 2} | tojson(indent=1, sort_keys=true) }}", '{\n "a": 2,\n "b": 1\n}'),
        ("{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}", "012"),
        ("{% for i in [1, 2] %}{{ loop.index }}{{ loop.last }}{% endfor %}", "1False2True"),
        ("{% set ns = namespace(n=1) %}{% set ns.n = ns.n + 1 %}{{ ns.n }}", "2"),
        ("{% macro f(x, y=2) %}<{{ x }}{{ y }}>{% endmacro %}{{ f('a') }}", "<a2>"),
        ("{% generation %}a{{ 1 }}{% endgeneration %}b", "a1b"),
        ("{{ 'a' ~ 1 ~ none ~ [2] }}", "a1None[2]"),
        ("{{ messages[::-1][0].role }}{{ 'abc'[1:] }}", "userbc"),
        ("{{ 'a,b'.split(',')[1] }}{{ 'x'.upper() }}{{ ' y '.strip() }}", "bXy"),
        ("{{ messages | map(attribute='role') | join('-') }}", "user"),
        ("{{ messages | selectattr('role', 'equalto', 'user') | list | length }}", "1"),
        ("{{ 'x' if undefined_thing is defined else 'y' }}{{ undefined_thing }}", "y"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "a1"),
        ("{{ '%s %d' % ('a', 3) }} {{ '%02d' | format(7) }} {{ 'ab' * 2 }}", "a 3 07 abab"),
        ("{{ strftime_now('%%') }}{{ 'a' in 'abc' }}{{ 1 in [1] }}", "%TrueTrue"),
    ],
)
def test_templates_are_rendered_as_transformers_does(source, prompt):
    assert render(source) == prompt


def test_a_template_that_refuses_says_why():
    with pytest.raises(InvalidInput, match="refuses these messages: roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


def test_a_template_that_stumbles_is_the_requests_error():
    with pytest.raises(InvalidInput, match="cannot render these messages: UndefinedError"):
        render("{{ nothing.at.all }}")
    with pytest.raises(InvalidInput, match="TypeError"):
        render("{{ 'a' + 1 }}")


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("{% for %}", "line 1"),
        ("\n\n{{ x", "line 3"),
        ("x" * 200_000, "200000 characters"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "compiled"),
        ("{% if 1 %}" * 2000 + "{% endif %}" * 2000, "compiled"),
        ("{{ [" + "1," * 20_000 + "] }}", "20002 parts"),
    ],
)
def test_a_wrong_template_is_a_load_error(source, complaint):
    with pytest.raises(LoadFailed, match=complaint):
        ChatTemplate(source)


# --- messages ---


def test_text_parts_become_one_string():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    (message,) = check_messages([{"role": "user", "content": parts}])
    assert message["content"] == "a\nb"


def test_a_developer_speaks_as_the_system():
    assert check_messages([{"role": "developer", "content": "x"}])[0]["role"] == "system"


def test_tool_arguments_reach_the_template_as_an_object():
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    (checked,) = check_messages([message])
    assert checked["content"] == ""
    assert checked["tool_calls"][0]["function"]["arguments"] == {"a": 1}
    assert call["function"]["arguments"] == '{"a": 1}'


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([], "at least one"),
        ("Hi", "must be a list"),
        ({"role": "user"}, "must be a list"),
        (["Hi"], r"messages\[0\] is not an object"),
        ([{1: 2}], r"messages\[0\] is not an object"),
        ([USER, {"role": "bot", "content": "x"}], r"messages\[1\] has the role 'bot'"),
        ([{"content": "x"}], "role None"),
        ([{"role": ["user"], "content": "x"}], "role"),
        ([{"role": "user"}], "needs a content"),
        ([{"role": "user", "content": 5}], "needs a content"),
        ([{"role": "user", "content": [5]}], r"content\[0\] is not an object"),
        ([{"role": "user", "content": [{"type": "text"}]}], "has no text"),
        ([{"role": "assistant", "tool_calls": 1}], "not a list"),
        ([{"role": "assistant", "tool_calls": [{}]}], "no function"),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}],
            "not JSON",
        ),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "1"}}]}],
            "not a JSON object",
        ),
        ([USER] * 10_001, "10001 messages"),
    ],
)
def test_a_wrong_message_is_named(messages, complaint):
    with pytest.raises(InvalidInput, match=complaint):
        check_messages(messages)


def test_pictures_are_not_for_a_text_model():
    part = {"type": "image_url", "image_url": {"url": "x"}}
    with pytest.raises(Unsupported, match="image_url"):
        check_messages([{"role": "user", "content": [part]}])


def test_warming_compiles_the_template_and_hides_what_is_wrong_until_a_chat():
    text = TextModel(opened(bytelevel_metadata(), chat_template="{{ x"))
    text.warm()
    with pytest.raises(LoadFailed, match="line 1"):
        text.render([USER])
