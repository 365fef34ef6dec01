# SPDX-License-Identifier: BUSL-1.1
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_text import bytelevel_metadata, opened, sentencepiece_metadata

from mlos_core.synapse.text import TextModel

MODELS = {
    "byte-level": TextModel(opened(bytelevel_metadata())),
    "sentencepiece": TextModel(opened(sentencepiece_metadata())),
}


every_model = pytest.mark.parametrize("text", MODELS.values(), ids=MODELS)


@every_model
@given(data=st.data())
def test_pieces_together_are_what_decode_gives(text, data):
    ids = data.draw(st.lists(st.integers(-3, text.vocab_size + 3)))
    skip = data.draw(st.booleans())
    stream = text.detokenizer(skip_special=skip, continues=False)
    pieces = [stream.push(i) for i in ids]
    assert "".join(pieces) + stream.flush() == text.decode(ids, skip_special=skip)


@every_model
@given(words=st.text(st.characters(exclude_characters="\u2581", codec="utf-8")))
def test_decoding_gives_the_text_back(text, words):
    assert text.decode(text.encode(words, special=False, wrap=False)) == words


@every_model
@given(words=st.text(min_size=1))
def test_no_piece_ends_inside_a_character(text, words):
    stream = text.detokenizer()
    for token in text.encode(words, special=False, wrap=False):
        piece = stream.push(token)
        assert "\ufffd" not in piece or "\ufffd" in words
    assert stream.flush() == ""


@every_model
def test_a_character_waits_for_its_last_byte(text):
    stream = text.detokenizer()
    ids = text.encode("€", wrap=False)[-3:]
    assert [stream.push(i) for i in ids] == ["", "", "€"]


@every_model
def test_bytes_that_make_no_character_become_replacement_characters(text):
    ids = text.encode("€a", wrap=False)[-4:]
    stream = text.detokenizer()
    assert [stream.push(i) for i in (ids[0], ids[1], ids[3])] == ["", "", "\ufffda"]
    assert (stream.push(ids[0]), stream.flush()) == ("", "\ufffd")
    assert text.decode([ids[1], ids[1]]) == "\ufffd\ufffd"


@every_model
def test_control_tokens_are_left_out_unless_asked_for(text):
    ids = [*text.encode("a", wrap=False), *text.eos_ids]
    assert text.decode(ids) == "a"
    assert text.decode(ids, skip_special=False).startswith("a<")


def test_the_first_space_is_text_when_the_tokens_go_on_after_others():
    text = MODELS["sentencepiece"]
    first = text.encode("ab")[1]
    assert text.token_bytes(first) == b" ab"
    assert text.detokenizer().push(first) == " ab"
    assert text.detokenizer(continues=False).push(first) == "ab"
    assert text.decode([first, first]) == "ab ab"


@every_model
def test_ids_without_a_meaning_give_nothing(text):
    assert text.decode([10**9, -1]) == ""
    assert text.token_bytes(text.vocab_size) == b""
