# SPDX-License-Identifier: BUSL-1.1
import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_text import bytelevel_metadata, opened, sentencepiece_metadata
from tokenizers import Tokenizer

from mlos_core.errors import InvalidInput, LoadFailed, Unsupported
from mlos_core.synapse.text import TextModel
from mlos_core.synapse.text.bytelevel import BYTE_OF
from mlos_core.synapse.text.metadata import TokenizerMetadata
from mlos_core.synapse.text.pretokenizers import WAYS, pre_tokenizer
from mlos_core.synapse.text.sentencepiece import build
from mlos_core.synapse.text.specials import SpecialTokens

DATA = Path(__file__).parent / "data"
MARK = "\u2581"
ODD = {
    # llama.cpp takes "</s>" for a control token by its name; in Gemma it is strike-through.
    ("gemma3", "[INST] x [/INST] <s></s> <0x0A> <0xFF> [multimodal]", False),
    # SentencePiece itself takes its mark of a space for a space, llama.cpp not always.
    ("gemma3", "\u2581\u2581a\u2581b \u2581 \u0120the \u010a \xe2\u0122\u013b", True),
    ("gemma3", "\u2581\u2581a\u2581b \u2581 \u0120the \u010a \xe2\u0122\u013b", False),
}


def pieces(text, ids):
    return [text.token_bytes(i) for i in ids]


def assert_as_expected(text, name):
    for words, *expected in json.loads((DATA / f"{name}.json").read_text()):
        for special, ids in zip((True, False), expected, strict=True):
            if (name, words, special) not in ODD:
                assert text.encode(words, special=special, wrap=False) == ids, repr(words)
            same = words.replace(MARK, " ") if name == "gemma3" else words
            assert text.decode(ids, skip_special=False) == same


@pytest.mark.parametrize("kind", ["llama", "gemma"])
def test_ids_and_texts_are_those_of_sentencepiece_itself(kind):
    known = json.loads((DATA / "sentencepiece.json").read_text())[kind]
    changes = {name: known[name] for name in ("scores", "token_type")}
    changes["tokens"] = [token.encode() for token in known["tokens"]]
    metadata = sentencepiece_metadata(add_space_prefix=kind == "llama", **changes)
    text = TextModel(opened(metadata))
    for words, ids, decoded in known["texts"]:
        assert text.encode(words, special=False, wrap=False) == ids, repr(words)
        assert text.decode(ids) == decoded


def test_a_mark_of_a_space_in_the_text_is_a_space(sentencepiece):
    assert sentencepiece.encode(f"a{MARK}{MARK}b{MARK}") == sentencepiece.encode("a  b ")


def test_smollm2_gives_the_ids_of_its_original_tokenizer(smollm2_text):
    assert_as_expected(smollm2_text, "smollm2")


def test_gemma_gives_the_ids_of_its_original_tokenizer(gemma3_text):
    assert_as_expected(gemma3_text, "gemma3")


def test_the_ends_of_an_answer_include_those_known_by_name(smollm2_text, gemma3_text):
    assert pieces(smollm2_text, sorted(smollm2_text.eos_ids)) == [b"<|endoftext|>", b"<|im_end|>"]
    assert pieces(gemma3_text, sorted(gemma3_text.eos_ids)) == [b"<eos>", b"<end_of_turn>"]


def test_merges_are_applied_inside_words_cut_by_the_pre_tokenizer(bytelevel):
    assert pieces(bytelevel, bytelevel.encode("hello world 123")) == [
        *(b"hello", b" wor", b"l", b"d"),
        *(b" ", b"1", b"2", b"3"),  # SmolLM2 cuts every digit off, so that "1 2" never merges
    ]


def test_special_tokens_count_only_when_asked_for(bytelevel):
    special = bytelevel.encode("<|im_start|>hello<|im_end|>")
    assert pieces(bytelevel, special) == [b"<|im_start|>", b"hello", b"<|im_end|>"]
    plain = bytelevel.encode("<|im_start|>", special=False)
    assert b"".join(pieces(bytelevel, plain)) == b"<|im_start|>"
    assert len(plain) == len("<|im_start|>")
    assert bytelevel.encode("<|im_start|>") == [bytelevel.bos_id]


def test_user_defined_tokens_always_count(bytelevel, sentencepiece):
    for text, word in ((bytelevel, "<tool_call>"), (sentencepiece, "<tag>")):
        for special in (True, False):
            assert word.encode() in pieces(text, text.encode(f"a{word}b", special=special))


def test_lone_surrogates_become_replacement_characters(bytelevel, sentencepiece):
    for text in (bytelevel, sentencepiece):
        ids = text.encode("a\ud800b\udc00\ud83d\ude00", wrap=False)
        assert text.decode(ids) == "a\ufffdb\ufffd\U0001f600"


def test_nothing_gives_nothing(bytelevel, sentencepiece):
    assert bytelevel.encode("") == []
    assert sentencepiece.encode("", wrap=False) == []
    assert sentencepiece.encode("") == [1]


def test_sentencepiece_joins_the_best_pair_first_and_the_leftmost_of_equals(sentencepiece):
    def cut(words):
        return pieces(sentencepiece, sentencepiece.encode(words, wrap=False)[1:])

    # The text's own space prefix is the first piece unless it merges.
    assert cut("caaac") == [b"c", b"aa", b"a", b"c"]
    assert cut("cabc") == [b"c", b"abc"]
    assert cut("c ab") == [b"c", b" ab"]
    assert cut("c" + " " * 5 + "a") == [b"c", b"  ", b"  ", b" a"]


def by_the_definition(encoder, words):
    """Join the best pair of neighbours, the leftmost of equals, until none is a token."""
    found = list(words.replace(" ", "\u2581"))
    while True:
        pairs = [
            (-encoder._scores[token], place)
            for place, pair in enumerate(pairwise(found))
            if (token := encoder._ids.get("".join(pair))) is not None
        ]
        if not pairs:
            break
        _, place = min(pairs)
        found[place : place + 2] = ["".join(found[place : place + 2])]
    return [
        token
        for piece in found
        for token in (
            [encoder._ids[piece]]
            if piece in encoder._ids
            else [encoder._byte_ids[byte] for byte in piece.encode()]
        )
    ]


@given(words=st.text("abcé€ ▁>", max_size=40), equal=st.booleans())
def test_sentencepiece_does_what_its_definition_says(words, equal):
    metadata = sentencepiece_metadata()
    if equal:
        metadata["tokenizer.ggml.scores"] = [0.0] * len(metadata["tokenizer.ggml.scores"])
    encoder, _ = build(TokenizerMetadata(metadata))
    assert encoder.encode(words) == by_the_definition(encoder, words)


def test_a_token_with_a_space_inside_keeps_its_word_together():
    metadata = sentencepiece_metadata()
    names = [b"a>", "a>\u2581".encode()]
    metadata["tokenizer.ggml.tokens"] = [*metadata["tokenizer.ggml.tokens"], b">", *names]
    metadata["tokenizer.ggml.scores"] = [*metadata["tokenizer.ggml.scores"], -50.0, 0.0, 1.0]
    metadata["tokenizer.ggml.token_type"] = [*metadata["tokenizer.ggml.token_type"], 1, 1, 1]
    encoder, _ = build(TokenizerMetadata(metadata))
    assert encoder.encode("ba> b a") == by_the_definition(encoder, "ba> b a")
    assert len(metadata["tokenizer.ggml.tokens"]) - 1 in encoder.encode("ba> b a")


def test_what_is_no_token_falls_back_to_its_bytes(sentencepiece):
    ids = sentencepiece.encode("cé€", wrap=False)
    assert pieces(sentencepiece, ids) == [b" ", b"c", "é".encode(), b"\xe2", b"\x82", b"\xac"]


def test_without_byte_tokens_the_unknown_token_stands_in():
    kinds = [2, 3, 3] + [1] * 269 + [4]
    text = TextModel(opened(sentencepiece_metadata(token_type=kinds)))
    assert text.encode("€", wrap=False)[-1] == 0


def test_cutting_words_apart_first_changes_nothing():
    encoder, _ = build(TokenizerMetadata(sentencepiece_metadata()))
    for words in ("▁ab▁▁▁abc▁", "a▁a▁a", "▁▁▁▁▁▁▁", "bc▁▁é€▁aa" * 9):
        # One word of its own each time, without the cutting and without the cache.
        assert encoder.encode(words) == encoder._encode_word(words)


def test_a_space_prefix_belongs_to_the_tokenizer_where_the_file_says_so(sentencepiece):
    assert sentencepiece.decode(sentencepiece.encode("ab c")) == "ab c"
    bare = TextModel(opened(sentencepiece_metadata(add_space_prefix=False)))
    assert pieces(bare, bare.encode("ab", wrap=False)) == [b"ab"]
    assert bare.decode(bare.encode(" ab")) == " ab"


def test_bos_goes_in_front_once(sentencepiece, bytelevel):
    assert sentencepiece.encode("a")[0] == 1
    assert sentencepiece.encode("<s>a").count(1) == 1
    assert 1 not in sentencepiece.encode("a", wrap=False)
    assert bytelevel.bos_id not in bytelevel.encode("a")
    both = TextModel(opened(bytelevel_metadata(add_bos_token=True, add_eos_token=True)))
    assert both.encode("a") == [both.bos_id, *both.encode("a", wrap=False), 266]
    assert both.encode("") == [both.bos_id, 266]


def test_a_tokenizer_json_gives_the_same_ids(bytelevel, tmp_path):
    library = bytelevel.tokenizer._encoder._tokenizer
    from tokenizers.decoders import ByteLevel

    library.decoder = ByteLevel()
    library.save(str(tmp_path / "tokenizer.json"))
    settings = {"bos_token": {"content": "<|im_start|>"}, "eos_token": "<|im_end|>"}
    file = tmp_path / "tokenizer.json"
    again = TextModel(opened({}, tokenizer_file=file, tokenizer_config=settings))
    assert (again.vocab_size, again.bos_id) == (bytelevel.vocab_size, bytelevel.bos_id)
    assert again.eos_ids == bytelevel.eos_ids
    for words in ("hello world 12", "<|im_start|>é\x00€<|im_end|>", "<tool_call>", "\ud800"):
        for special in (True, False):
            ids = again.encode(words, special=special)
            assert ids == bytelevel.encode(words, special=special)
            assert pieces(again, ids) == pieces(bytelevel, ids)


def test_bos_and_eos_of_a_tokenizer_json_are_put_around(tmp_path):
    from tokenizers import models, processors

    library = Tokenizer(models.WordLevel({"[CLS]": 0, "[SEP]": 1, "a": 2}, unk_token="[CLS]"))
    library.post_processor = processors.BertProcessing(("[SEP]", 1), ("[CLS]", 0))
    library.save(str(tmp_path / "tokenizer.json"))
    text = TextModel(opened({}, tokenizer_file=tmp_path / "tokenizer.json"))
    assert text.encode("a") == [0, 2, 1]
    assert text.encode("a", wrap=False) == [2]


@pytest.mark.parametrize("name", sorted(WAYS))
def test_every_known_way_of_cutting_keeps_every_character(name):
    words = (
        "It's 12345 naïve  Großes日本 \t\r\n\n x1y²  ,.;-=<> CamelCASE's e\u0301\u200d🤷🏽 \x00 "
    )
    cut = [piece for piece, _ in pre_tokenizer(WAYS[name]).pre_tokenize_str(words)]
    assert bytes(BYTE_OF[char] for char in "".join(cut)) == words.encode()
    assert len(cut) > 10


@pytest.mark.parametrize(
    ("name", "digits"),
    [
        ("gpt-2", ["12345"]),
        ("smollm", ["1", "2", "3", "4", "5"]),
        ("qwen2", ["1", "2", "3", "4", "5"]),
        ("llama-bpe", ["123", "45"]),
        ("tekken", ["1", "2", "3", "4", "5"]),
        ("default", ["123", "45"]),
    ],
)
def test_numbers_are_cut_as_each_family_was_trained(name, digits):
    cut = [piece for piece, _ in pre_tokenizer(WAYS[name]).pre_tokenize_str("x12345")]
    assert cut == ["x", *digits]


def test_qwen2_joins_letters_and_their_marks_first():
    text = TextModel(opened(bytelevel_metadata(pre="qwen2")))
    assert text.encode("e\u0301") == text.encode("\u00e9")
    other = TextModel(opened(bytelevel_metadata(pre="deepseek-r1-qwen")))
    assert other.encode("e\u0301") != other.encode("\u00e9")


def test_llama3_takes_whole_words_and_begins_with_bos():
    whole = bytelevel_metadata(pre="llama-bpe")
    tokens = [*whole["tokenizer.ggml.tokens"], b"xyz"]
    whole["tokenizer.ggml.tokens"] = tokens
    whole["tokenizer.ggml.token_type"] = [*whole["tokenizer.ggml.token_type"], 1]
    text = TextModel(opened(whole))
    assert text.encode("xyz") == [text.bos_id, len(tokens) - 1]
    whole["tokenizer.ggml.pre"] = "qwen2"
    assert pieces(text, TextModel(opened(whole)).encode("xyz")) == [b"x", b"y", b"z"]


def test_an_unknown_pre_tokenizer_is_named():
    with pytest.raises(Unsupported, match="'klingon'"):
        TextModel(opened(bytelevel_metadata(pre="klingon")))


def test_an_unknown_kind_is_named():
    with pytest.raises(Unsupported, match="'rwkv'"):
        TextModel(opened(bytelevel_metadata(model="rwkv")))


def test_a_model_without_a_tokenizer_says_so():
    with pytest.raises(Unsupported, match="no tokenizer"):
        TextModel(opened({}))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"tokens": []}, "no vocabulary"),
        ({"tokens": "abc"}, "not an array of strings"),
        ({"tokens": [1, 2]}, "not an array of strings"),
        ({"tokens": [b"\xff"]}, "UTF-8"),
        ({"merges": [b"a"]}, "two words"),
        ({"merges": [b"a b c"]}, "two words"),
        ({"merges": [b"q\xc4\x80 zz"]}, "do not fit"),
        ({"merges": 7}, "not an array of strings"),
        ({"token_type": [1, 2]}, "one number for each"),
        ({"token_type": "x"}, "one number for each"),
        ({"token_type": [[1], [1, 2]]}, "one number for each"),
        ({"bos_token_id": 10**9}, "not among"),
        ({"eos_token_id": -1}, "not among"),
        ({"eos_token_id": "x"}, "not among"),
        ({"add_bos_token": "x"}, "true or false"),
        ({"pre": 5}, "not a string"),
    ],
)
def test_contradictions_in_the_metadata_are_load_errors(changes, complaint):
    changes = {"token_type": None, **changes} if "tokens" in changes else changes
    with pytest.raises(LoadFailed, match=complaint):
        TextModel(opened(bytelevel_metadata(**changes)))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"scores": None}, "no scores"),
        ({"scores": [0.0]}, "one number for each"),
        ({"token_type": [1] * 273, "unknown_token_id": None}, "neither byte tokens"),
    ],
)
def test_a_sentencepiece_vocabulary_needs_scores_and_a_way_out(changes, complaint):
    with pytest.raises(LoadFailed, match=complaint):
        TextModel(opened(sentencepiece_metadata(**changes)))


PLAIN = {"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {"a": 0}}}
PLAIN["model"]["merges"] = []


def from_json(tmp_path, **changes):
    (tmp_path / "tokenizer.json").write_text(json.dumps(PLAIN | changes))
    return TextModel(opened({}, tokenizer_file=tmp_path / "tokenizer.json"))


def test_a_hostile_expression_in_a_tokenizer_json_is_the_texts_error(tmp_path):
    pattern = {"Regex": "(a+)+$"}
    cut = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    text = from_json(tmp_path, pre_tokenizer=cut)
    with pytest.raises(InvalidInput, match="retry-limit"):
        text.encode("a" * 5000 + "b")


def test_a_tokenizer_json_that_blows_text_up_is_a_load_error(tmp_path):
    step = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}
    with pytest.raises(LoadFailed, match="1000000 times as long"):
        from_json(tmp_path, normalizer={"type": "Sequence", "normalizers": [step] * 2})


def test_a_tokenizer_json_that_contradicts_itself_is_a_load_error(tmp_path):
    piece = {"SpecialToken": {"id": "missing", "type_id": 0}}
    after = {"type": "TemplateProcessing", "single": [piece], "pair": [], "special_tokens": {}}
    with pytest.raises(LoadFailed, match="does not work"):
        from_json(tmp_path, post_processor=after)


def test_a_tokenizer_json_is_used_with_the_ids_it_gives(tmp_path):
    model = {"type": "BPE", "vocab": {"a": 5, "b": 1}, "merges": []}
    text = from_json(tmp_path, model=model)
    assert (text.vocab_size, text.encode("ba"), text.decode([5, 3, 1])) == (6, [1, 5], "ab")


def test_a_broken_tokenizer_json_is_a_load_error(tmp_path):
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(LoadFailed, match="not a tokenizer"):
        TextModel(opened({}, tokenizer_file=tmp_path / "tokenizer.json"))


def test_the_longest_special_token_wins_and_a_beginning_is_no_token():
    tokens = SpecialTokens({"<a>": 1, "<a>>": 2, "\n": 3, "\n\n\n": 4, "": 5})
    assert list(tokens.split("x<a>>y<a>\n\n<\n\n\n\n<a")) == [
        *("x", 2, "y", 1, 3, 3, "<", 4, 3, "<a")
    ]
    assert list(SpecialTokens({}).split("<a>")) == ["<a>"]
    assert list(tokens.split("")) == []
