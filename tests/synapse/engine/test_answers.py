# SPDX-License-Identifier: BUSL-1.1
"""What a client sees: events, ends, texts, forms, tools, vectors."""

import json

import msgspec
import numpy as np
import pytest
from fake_llm import EOS, Rig, greedy, state_after, text_input

from mlos_core.errors import InvalidInput
from mlos_core.synapse.engine.pieces import pieces

PROMPT = [1, 2, 3]


def lone_text(prompt, count):
    return bytes(t for t in greedy(prompt, count) if t < 256).decode(errors="replace")


def test_each_token_is_an_event_and_the_first_tells_of_the_prompt():
    rig = Rig()
    id = rig.submit_and_run(PROMPT, temperature=0, max_tokens=12)
    events, expected = rig.events[id], greedy(PROMPT, 12)
    assert [e["t"] for e in events] == [[token] for token in expected]
    assert (events[0]["p"], events[0]["c"]) == (3, 0)
    assert all("p" not in e for e in events[1:])
    assert [e.get("f") for e in events] == [None] * 11 + ["length"]
    assert rig.text(id) == lone_text(PROMPT, 12)


def test_the_last_event_comes_with_the_reply():
    rig = Rig()
    final = rig.ask(PROMPT, temperature=0, max_tokens=12)
    assert final.data["f"] == "length"
    assert final.outputs["text"].tolist() == [lone_text(PROMPT, 12).encode()]
    assert final.outputs["tokens"].tolist() == greedy(PROMPT, 12)
    assert final.parameters["finish_reasons"] == ["length"]
    assert final.parameters["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 12,
        "cached_tokens": 0,
    }


def test_no_text_is_ever_half_a_character():
    rig = Rig()
    word = "añ→🙂é"
    id = rig.submit_and_run(PROMPT, structured={"choice": [word]})
    pieces = [e["s"] for e in rig.events[id]]
    assert "".join(pieces) == word
    assert all("�" not in piece for piece in pieces)
    assert "" in pieces


def test_the_end_token_ends_and_is_not_shown():
    rig = Rig()
    id = rig.submit_and_run(PROMPT, logit_bias={str(EOS): 100.0})
    (event,) = rig.events[id]
    assert event["t"] == [EOS]
    assert (event["s"], event["f"], event["r"]) == ("", "stop", None)


def test_ignore_eos_goes_on_and_min_tokens_forbids_it():
    rig = Rig()
    on = rig.submit_and_run(PROMPT, logit_bias={"256": 100.0}, ignore_eos=True, max_tokens=4)
    assert rig.tokens(on) == [EOS] * 4
    later = rig.submit_and_run(PROMPT, logit_bias={"256": 100.0}, min_tokens=3)
    assert len(rig.tokens(later)) == 4
    assert rig.tokens(later).index(EOS) == 3


def test_a_stop_token_ends_with_itself_as_the_reason():
    rig, expected = Rig(), greedy(PROMPT, 12)
    id = rig.submit_and_run(PROMPT, temperature=0, stop_token_ids=[expected[4]])
    assert rig.events[id][-1]["r"] == expected[4]
    assert rig.text(id) == lone_text(PROMPT, 4)


@pytest.mark.parametrize("include", [False, True])
def test_a_stop_string_ends_the_text_before_or_behind_it(include):
    rig = Rig()
    options = {"stop": ["lo w", "zzz"], "include_stop_str_in_output": include}
    id = rig.submit_and_run(PROMPT, structured={"choice": ["hello world"]}, **options)
    assert rig.text(id) == ("hello w" if include else "hel")
    last = rig.events[id][-1]
    assert (last["f"], last["r"]) == ("stop", "lo w")


def test_what_might_become_a_stop_string_is_held_back_and_shown_when_it_does_not():
    rig = Rig()
    id = rig.submit_and_run(PROMPT, structured={"choice": ["abcabd"]}, stop=["abce"])
    assert [e["s"] for e in rig.events[id]] == ["", "", "", "abc", "", "abd"]


def test_a_stop_token_that_is_shown_comes_behind_what_was_held_back():
    rig = Rig()
    form = {"structured": {"choice": ["xabyz"]}, "stop": ["abc"]}
    options = {"stop_token_ids": [ord("y")], "include_stop_str_in_output": True}
    id = rig.submit_and_run(PROMPT, **form, **options)
    assert rig.text(id) == "xaby"
    assert rig.events[id][-1]["r"] == ord("y")


def test_stop_strings_before_min_tokens_are_text():
    rig = Rig()
    id = rig.submit_and_run(PROMPT, structured={"choice": ["xaxbx!"]}, stop=["x"], min_tokens=5)
    assert rig.text(id) == "xaxb"


def test_an_answer_with_a_form_has_it():
    rig = Rig()
    id = rig.submit_and_run(PROMPT, structured={"choice": ["yes", "no", "noon"]}, seed=3)
    assert rig.text(id) in ("yes", "no", "noon")
    assert rig.events[id][-1]["f"] == "stop"
    with pytest.raises(InvalidInput, match="choices only"):
        rig.submit(PROMPT, structured={"json": {}})


def test_a_form_that_leaves_nothing_ends_in_an_error():
    rig = Rig()
    id = rig.submit_and_run(PROMPT, structured={"choice": ["a"]}, stop_token_ids=[97], min_tokens=3)
    assert "no token is left" in str(rig.ended[id].error)


def test_logprobs_come_with_their_tokens():
    rig = Rig()
    id = rig.submit_and_run(PROMPT, temperature=0, logprobs=3, max_tokens=4)
    for event in rig.events[id]:
        ((logprob, _, others),) = event["l"]
        assert others[0][0] == event["t"][0]
        assert logprob == others[0][1] < 0
        assert len(others) == 3
    only = rig.submit_and_run(PROMPT, logprobs=0, max_tokens=2)
    assert all(event["l"][0][2] == [] for event in rig.events[only])


def test_a_token_that_is_no_text_alone_is_told_in_bytes():
    rig = Rig()
    id = rig.submit_and_run(PROMPT, structured={"choice": ["é"]}, logprobs=0)
    assert [event["l"][0][1] for event in rig.events[id]] == [b"\xc3", b"\xa9"]


def test_echo_puts_the_prompt_before_the_answer():
    rig = Rig()
    id = rig.submit_and_run(text_input("say "), structured={"choice": ["yes"]}, echo=True)
    assert rig.text(id) == "say yes"
    id = rig.submit_and_run([104, 105], structured={"choice": ["!"]}, echo=True, n=2)
    assert [rig.text(id, choice) for choice in range(2)] == ["hi!", "hi!"]


def test_tokens_can_be_left_out_of_events():
    rig = Rig()
    id = rig.submit_and_run(PROMPT, max_tokens=2, return_tokens=False)
    assert all("t" not in event for event in rig.events[id])


def test_a_chat_goes_through_the_template():
    rig = Rig()
    chat = json.dumps([{"role": "u", "content": "hi"}])
    for options, text in [
        ({}, "[u]hi[a]"),
        ({"add_generation_prompt": False}, "[u]hi"),
        ({"chat_template_kwargs": {"x": 1}}, '[u]hi{"x": 1}[a]'),
    ]:
        final = rig.ask(text_input(chat, "messages"), task="tokenize", **options)
        assert bytes(final.outputs["tokens"].tolist()).decode() == text
    for name in ("messages", "self"):
        with pytest.raises(InvalidInput, match=name):
            rig.submit(text_input(chat, "messages"), chat_template_kwargs={name: []})


def test_tool_calls_are_taken_out_of_the_text():
    rig = Rig()
    tools = [{"type": "function", "function": {"name": "f"}}]
    form = {"structured": {"choice": ["so <f> and <g>."]}}
    id = rig.submit_and_run(PROMPT, tools=tools, **form)
    assert rig.text(id) == "so  and ."
    calls = [call for event in rig.events[id] for call in event.get("tc", ())]
    assert calls == [
        {"index": 0, "name": "f", "arguments": "{}"},
        {"index": 1, "name": "g", "arguments": "{}"},
    ]
    assert rig.events[id][-1]["f"] == "tool_calls"
    assert rig.ended[id].parameters["tool_calls"] == [calls]
    off = rig.submit_and_run(PROMPT, tools=tools, tool_choice="none", **form)
    assert rig.text(off) == "so <f> and <g>."


@pytest.mark.parametrize(("choice", "name"), [("required", "any"), ({"name": "f"}, "f")])
def test_a_tool_that_must_be_called_is_called(choice, name):
    rig = Rig()
    tools = [{"type": "function", "function": {"name": "f"}}]
    final = rig.ask(PROMPT, tools=tools, tool_choice=choice)
    assert [call["name"] for call in final.parameters["tool_calls"][0]] == [name]
    assert final.parameters["finish_reasons"] == ["tool_calls"]


def test_tokenize_and_detokenize_are_each_others_inverse():
    rig = Rig()
    final = rig.ask(text_input("añb"), task="tokenize")
    assert final.outputs["tokens"].tolist() == list("añb".encode())
    assert final.parameters["context_length"] == 512
    final = rig.ask({"tokens": final.outputs["tokens"]}, task="detokenize")
    assert final.outputs["text"].tolist() == ["añb".encode()]
    assert rig.executor.calls == 0
    with pytest.raises(InvalidInput, match="detokenize"):
        rig.submit(text_input("a"), task="detokenize")


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_a_vector_does_not_depend_on_chunks(chunk):
    rig, prompt = Rig(tokens=chunk, mixed=chunk), list(range(50))
    last = state_after(prompt).astype(np.float64)
    raw = rig.ask(prompt, task="embed", normalize=False).outputs["embedding"]
    np.testing.assert_array_equal(raw, last.astype(np.float32))
    unit = rig.ask(prompt, task="embed").outputs["embedding"]
    np.testing.assert_allclose(unit, last / np.linalg.norm(last), rtol=1e-6)
    mean = rig.ask(prompt, task="embed", pooling="mean", normalize=False)
    states = np.array([state_after(prompt[: n + 1]) for n in range(50)], np.float64)
    np.testing.assert_allclose(mean.outputs["embedding"], states.mean(0), rtol=1e-6)
    assert mean.parameters["usage"]["prompt_tokens"] == 50


def test_vectors_and_answers_are_computed_side_by_side():
    rig = Rig(tokens=16, mixed=16, max_num_seqs=3)
    answers = [rig.submit([i], temperature=0, max_tokens=20) for i in range(3)]
    texts = [list(range(i, i + 40)) for i in range(4)]
    vectors = [rig.submit(text, task="embed", normalize=False) for text in texts]
    rig.run()
    for i, id in enumerate(answers):
        assert rig.tokens(id) == greedy([i], 20)
    for text, id in zip(texts, vectors, strict=True):
        np.testing.assert_array_equal(rig.ended[id].outputs["embedding"], state_after(text))


def test_several_texts_are_computed_at_once():
    rig = Rig()
    texts = [[i, i + 1, i + 2] for i in range(5)]
    ids = [rig.submit(text, task="embed", pooling="mean", normalize=False) for text in texts]
    rig.run()
    assert rig.executor.calls == 1
    for text, id in zip(texts, ids, strict=True):
        states = np.array([state_after(text[: n + 1]) for n in range(3)], np.float64)
        np.testing.assert_allclose(rig.ended[id].outputs["embedding"], states.mean(0), rtol=1e-6)


def test_a_closed_engine_closes_its_executor():
    rig = Rig()
    rig.engine.close()
    assert rig.executor.closed


def test_what_is_too_long_for_one_event_comes_in_several():
    rig = Rig(context_length=4096, kv_blocks=128)
    id = rig.submit_and_run(text_input("x" * 3000), echo=True, max_tokens=2, ignore_eos=True)
    assert [len(event.get("t", ())) for event in rig.events[id]] == [1, 0, 0, 1]
    assert rig.text(id).startswith("x" * 3000)
    long = "añ→🙂" * 3000
    whole = pieces({"i": 1, "t": [5], "s": long, "f": "stop", "r": None})
    assert "".join(part["s"] for part in whole) == long
    assert [part.get("t") for part in whole] == [[5]] + [None] * (len(whole) - 1)
    assert [part.get("f") for part in whole] == [None] * (len(whole) - 1) + ["stop"]
    assert max(len(msgspec.msgpack.encode(part)) for part in whole) < 4200


def test_a_long_tool_call_goes_on_under_its_index():
    long = json.dumps({"text": "é" * 5000}, ensure_ascii=False)
    calls = [
        {"index": 0, "name": "f", "arguments": long},
        {"index": 1, "name": "g", "arguments": "{}"},
    ]
    parts = pieces({"i": 0, "t": [5], "s": "so:", "tc": calls, "f": "tool_calls", "r": None})
    assert parts[0] == {"i": 0, "t": [5], "s": "so:"}
    found = [call for part in parts for call in part.get("tc", ())]
    assert [call["index"] for call in found] == [0, 0, 0, 0, 0, 1]
    assert [call.get("name") for call in found] == ["f", None, None, None, None, "g"]
    assert "".join(call["arguments"] for call in found[:5]) == long
    assert parts[-1]["f"] == "tool_calls"
    assert max(len(msgspec.msgpack.encode(part)) for part in parts) < 4200
