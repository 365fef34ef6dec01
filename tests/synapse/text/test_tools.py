# SPDX-License-Identifier: BUSL-1.1
import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_text import CHATML, bytelevel_metadata, opened

from mlos_core.errors import InvalidInput, Unsupported
from mlos_core.synapse.text import TextModel, ToolCall, ToolParser
from mlos_core.synapse.text.tools import formats
from mlos_core.synapse.text.tools.definitions import check_tools, choose

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome", "Köln"]}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}
NOW = {"type": "function", "function": {"name": "now"}}
ROME = ToolCall("weather", '{"city": "Rome"}')

HERMES = "{{ tools }}<tool_call>"
LLAMA3 = '{% for t in tools %}{{ t }}{% endfor %}"parameters" <|python_tag|>'
MISTRAL = "{{ tools }}[TOOL_CALLS]"


def run(form, pieces, names=("weather", "now")):
    """Everything that was shown, and the calls."""
    parser = ToolParser(form, names)
    shown, calls = [], []
    for parsed in [*map(parser.push, pieces), parser.flush()]:
        shown.append(parsed.text)
        calls += parsed.calls
    return "".join(shown), calls


def model(source):
    return TextModel(opened(bytelevel_metadata(), chat_template=source))


# --- out of the answer ---

CALLS = [
    ("hermes", '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>'),
    (
        "hermes",
        '<tool_call>{"name": "weather", "arguments": "{\\"city\\": \\"Rome\\"}"}</tool_call>',
    ),
    ("hermes", '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}'),
    ("llama3", '{"name": "weather", "parameters": {"city": "Rome"}}'),
    ("llama3", ' <|python_tag|>{"name": "weather", "parameters": {"city": "Rome"}}\n'),
    ("mistral", '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Rome"}}]'),
    ("mistral", '[TOOL_CALLS]weather[ARGS]{"city": "Rome"}'),
    ("mistral", '[TOOL_CALLS]weather{"city": "Rome"}'),
]


@pytest.mark.parametrize(("form", "text"), CALLS)
def test_a_call_comes_out_however_it_is_cut(form, text):
    for size in (1, 2, 3, 7, 1000):
        pieces = [text[i : i + size] for i in range(0, len(text), size)]
        assert run(form, pieces) == ("", [ROME])


def test_text_around_calls_passes_through_at_once():
    parser = ToolParser("hermes")
    call = '<tool_call>{"name": "now", "arguments": {}}</tool_call>'
    assert parser.push("Let me <b>look</b> < ").text == "Let me <b>look</b> < "
    assert parser.push("x<tool").text == "x"
    assert parser.push("box>").text == "<toolbox>"
    assert parser.push(f"{call}\n{call}\n") == ("", [ToolCall("now", "{}")] * 2)
    assert parser.push("\nDone").text == "Done"
    assert parser.flush() == ("", [])


def test_a_call_comes_out_as_soon_as_it_is_complete():
    for form, text in CALLS[:2] + CALLS[3:4] + CALLS[5:6]:
        parser = ToolParser(form)
        assert parser.push(text[:-1]).calls == []
        assert parser.push(text[-1]).calls == [ROME]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("hermes", "<tool_call>not JSON</tool_call> x"),
        ("hermes", '<tool_call>{"name": 5, "arguments": {}}</tool_call>'),
        ("hermes", '<tool_call>{"name": "now", "arguments": [1]}</tool_call>'),
        ("hermes", '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>'),
        ("hermes", '<tool_call>{"name": "now", "arguments": {'),
        ("hermes", "<tool_call><tool_call></tool_call></tool_call>"),
        ("hermes", "<tool_call>" + "[" * 5000 + "</tool_call>"),
        ("hermes", "a </tool_call> b <tool_cal"),
        ("llama3", '{"name": "unknown", "parameters": {}} and more'),
        ("llama3", '{"answer": 42}'),
        ("llama3", '{"name": "now", "parameters": '),
        ("llama3", 'I say {"name": "now", "parameters": {}}'),
        ("llama3", "{" * 5000 + "}"),
        ("llama3", "<|python"),
        ("mistral", '[TOOL_CALLS][{"name": "unknown", "arguments": {}}]'),
        ("mistral", "[TOOL_CALLS] nothing"),
        ("mistral", "[TOOL_CALLS]now{"),
        ("mistral", '[TOOL_CALLS]now{"a": 1} and more'),
        ("mistral", "a [TOOL_CALL"),
        ("", '<tool_call>{"name": "now", "arguments": {}}</tool_call>'),
    ],
)
def test_what_is_no_call_comes_out_as_it_was(form, text):
    assert run(form, [text]) == (text, [])
    assert run(form, list(text)) == (text, [])


def test_llama3_calls_may_follow_each_other():
    text = '{"name": "now", "parameters": {}}; {"name": "weather", "parameters": {"city": "Rome"}}'
    assert run("llama3", list(text)) == ("", [ToolCall("now", "{}"), ROME])


def test_mistral_shows_what_comes_before_the_marker():
    text = 'Well. [TOOL_CALLS][{"name": "now", "arguments": {}}]'
    assert run("mistral", list(text)) == ("Well. ", [ToolCall("now", "{}")])


@pytest.mark.parametrize("form", ["hermes", "llama3", "mistral"])
@given(words=st.lists(st.sampled_from(["<tool_call>", "</tool_call>", "[TOOL_CALLS]", "{", "}", "a", " ", "<", "["])), cut=st.integers(1, 5))  # fmt: skip # noqa: E501
def test_text_without_a_call_is_neither_lost_nor_changed(form, words, cut):
    text = "".join(words)
    shown, calls = run(form, [text[i : i + cut] for i in range(0, len(text), cut)])
    assert calls == []
    assert shown == text


def test_an_unknown_form_is_refused():
    with pytest.raises(InvalidInput, match="xml"):
        ToolParser("xml")


# --- into the prompt ---


@pytest.mark.parametrize(
    ("source", "form"),
    [
        (HERMES, "hermes"),
        (LLAMA3, "llama3"),
        (MISTRAL, "mistral"),
        (CHATML, "hermes"),
        ("{{ tools }}", ""),
    ],
)
def test_the_way_of_calling_is_read_off_the_template(source, form):
    assert model(source).tool_format == form


def test_a_template_that_takes_tools_gets_them():
    assert model("{{ tools | tojson }}").render(
        [{"role": "user", "content": "x"}], tools=[NOW]
    ) == (
        '[{"type": "function", "function": {"name": "now", "description": "",'
        ' "parameters": {"type": "object", "properties": {}}}}]'
    )
    assert model("{{ tools is none }}").render([{"role": "user", "content": "x"}]) == "True"


def test_for_other_templates_the_system_message_explains_them(bytelevel):
    prompt = bytelevel.render([{"role": "user", "content": "x"}], tools=[WEATHER])
    assert prompt.startswith("<|im_start|>system\n# Tools")
    assert '"name": "weather"' in prompt
    system = {"role": "system", "content": "Be nice."}
    prompt = bytelevel.render([system, {"role": "user", "content": "x"}], tools=[WEATHER])
    assert prompt.startswith("<|im_start|>system\nBe nice.\n\n# Tools")


def test_for_other_templates_calls_and_results_become_text(bytelevel):
    call = {"function": {"name": "weather", "arguments": '{"city": "Köln"}'}}
    prompt = bytelevel.render(
        [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": "Well.", "tool_calls": [call, call]},
            {"role": "tool", "tool_call_id": "1", "content": "20"},
            {"role": "tool", "tool_call_id": "2", "content": "21"},
        ]
    )
    written = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>'
    assert prompt == (
        "<|im_start|>user\nx<|im_end|>\n"
        f"<|im_start|>assistant\nWell.\n{written}\n{written}<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\n20\n</tool_response>\n"
        "<tool_response>\n21\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("tools", "complaint"),
    [
        ("x", "must be a list"),
        ([5], r"tools\[0\] is not of the type function"),
        ([{"type": "retrieval"}], "not of the type function"),
        ([{"type": "function"}], "no function"),
        ([{"function": {}}], "has the name None"),
        ([{"function": {"name": "a b"}}], "has the name 'a b'"),
        ([{"function": {"name": "x" * 65}}], "has the name"),
        ([{"function": {"name": "a", "description": 5}}], "description"),
        ([{"function": {"name": "a", "parameters": 5}}], "not a JSON schema"),
        ([{"function": {"name": "a", "parameters": {"x": {1}}}}], "not JSON"),
        ([NOW, NOW], "several tools are called now"),
        ([NOW] * 129, "129 tools"),
    ],
)
def test_a_wrong_definition_is_named(tools, complaint):
    with pytest.raises(InvalidInput, match=complaint):
        check_tools(tools)


def test_a_choice_names_the_tools_that_must_be_called():
    tools = check_tools([WEATHER, NOW])
    assert choose(tools, "auto") == choose(tools, "none") == choose(tools, None) == []
    assert choose(tools, "required") == tools
    assert choose(tools, {"name": "now"}) == tools[1:]
    assert choose(tools, {"type": "function", "function": {"name": "now"}}) == tools[1:]
    for wrong in ("any", {"name": "x"}, {"name": 5}, 5):
        with pytest.raises(InvalidInput, match="tool_choice"):
            choose(tools, wrong)
    with pytest.raises(InvalidInput, match="no tools"):
        choose([], "required")


# --- forced calls ---


def forced(text, tools, names, seed):
    matcher = text.tool_grammar(tools, names)
    words = np.zeros(-(-text.vocab_size // 32), np.uint32)
    dice, stream, out = random.Random(seed), text.detokenizer(), ""
    while not matcher.finished:
        matcher.mask_into(words)
        bits = np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little"))
        token = dice.choice(bits.tolist())
        matcher.accept(token)
        out += stream.push(token) if token not in text.eos_ids else ""
    return out


@pytest.mark.parametrize("source", [CHATML, HERMES, LLAMA3, MISTRAL])
@pytest.mark.parametrize("seed", range(3))
def test_a_forced_call_is_one_that_the_parser_reads(source, seed):
    text = model(source)
    parser = text.tool_parser([WEATHER, NOW])
    parsed = parser.push(forced(text, [WEATHER, NOW], (), seed))
    (call,) = [*parsed.calls, *parser.flush().calls]
    assert parsed.text == ""
    assert call.name in ("weather", "now")
    arguments = json.loads(call.arguments)
    assert arguments == {} or arguments["city"] in ("Rome", "Köln")


def test_a_named_tool_is_the_one_that_is_called(bytelevel):
    for seed in range(5):
        assert '"name": "now"' in forced(bytelevel, [WEATHER, NOW], ("now",), seed)


def test_a_marker_that_is_a_control_token_is_forced_and_shown():
    metadata = bytelevel_metadata()
    metadata["tokenizer.ggml.tokens"] = [*metadata["tokenizer.ggml.tokens"], b"[TOOL_CALLS]"]
    metadata["tokenizer.ggml.token_type"] = [*metadata["tokenizer.ggml.token_type"], 3]
    text = TextModel(opened(metadata, chat_template=MISTRAL))
    assert text.decode([text.vocab_size - 1]) == ""
    assert text.detokenizer().push(text.vocab_size - 1) == "[TOOL_CALLS]"
    answer = forced(text, [NOW], (), 0)
    assert run("mistral", [answer]) == ("", [ToolCall("now", "{}")])


def test_without_a_known_way_no_call_can_be_forced_or_found():
    text = model("{{ tools }}")
    assert text.tool_parser([NOW]) is None
    with pytest.raises(Unsupported, match="not known"):
        text.tool_grammar([NOW])


def test_arguments_that_nothing_satisfies_are_the_callers_error(bytelevel):
    tool = {
        "function": {"name": "f", "parameters": {"type": "integer", "minimum": 2, "maximum": 1}}
    }
    with pytest.raises(InvalidInput):
        bytelevel.tool_grammar([tool])
    with pytest.raises(InvalidInput, match="no tools"):
        bytelevel.tool_grammar([])


def test_a_tool_without_arguments_gets_none():
    schema = formats.call_schema(check_tools([NOW]), "arguments")
    assert schema["properties"]["arguments"] == {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }
