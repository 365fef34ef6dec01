# SPDX-License-Identifier: BUSL-1.1
# ruff: noqa: RUF001 - letters that look like others are the point here
"""Writes data/NAME.json: hard texts and the ids that llama.cpp gives them.

Run where llama-cpp-python is installed: `python make_expected.py NAME MODEL.gguf [FOLDER]`. With
FOLDER (a Hugging Face tokenizer.json inside) the two are compared and differences are printed.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

DATA = Path(__file__).resolve().parent / "data"

HARD = [
    "",
    " ",
    "  ",
    "   x",
    "x   ",
    " " * 7 + "y" + " " * 33 + "z" + " " * 64,
    "\n",
    "\n\n",
    "\r\n\r\n x\r\ny\rz",
    "a\n\n\n\n\n\nb" + "\n" * 40 + "c \n \n",
    "\t\tif x:\n\t\t\treturn\t1\n",
    " \t \t mixed \n\t \n",
    "\v\f\x00\x01\x1f\x7f\x80\x85\xa0end",
    "\u2028\u2029\u3000\u200b\u200d\ufeff\u00ad\u2060x",
    "Hello, world! It's the cat's. I'LL DON'T we've I'd",
    "I’m ‘quoted’ “text” — dash… n’t",
    "1 12 123 1234 12345 3.14159 1,000,000 0x1F 1e-9 ½ ² Ⅷ ١٢٣ ๑๒ 一二三",
    "CamelCase snake_case kebab-case SCREAMING mIxEd",
    "antidisestablishmentarianism" * 3,
    "a" * 300,
    "ab" * 150,
    "aaaa aaa aa a aaaaa",
    "-" * 100 + "=" * 99 + "#" * 50,
    "!?!?... ;;;; {{{}}} [[[]]] ((())) <<>> ||&& ~~ ``` $$$ @@",
    "Zürich naïve façade Ångström œuvre ﬁn ß ẞ",
    "e\u0301 e\u0301\u0302 n\u0303 \u0301alone a\u0300\u0301\u0302\u0303\u0304",
    "Z\u0351\u036b\u0343\u036aa\u030a\u0311\u034al\u0334\u0321g\u0338o",
    "Привет, мир! Ёжик",
    "Γειά σου Κόσμε",
    "مرحبا بالعالم، كيف حالك؟",
    "שָׁלוֹם עולם",
    "\u202bright\u202c \u200fto\u200e left",
    "नमस्ते दुनिया क्षत्रिय",
    "สวัสดีชาวโลก",
    "வணக்கம் ఓం ಕನ್ನಡ മലയാളം",
    "你好，世界！這是測試。",
    "こんにちは世界、テスト。カタカナ ｶﾀｶﾅ",
    "안녕하세요 세계 ㅎㅎㅎ",
    "한\u1112\u1161\u11ab",
    "ꦲꦏ꧀ꦱꦫ ᠮᠣᠩᠭᠣᠯ ⴰⵎⴰⵣⵉⵖ 𐎠𐎡 𒀀𒁀 𓂀",
    "😀😃 🤷🏽\u200d♂️ 👨\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 🇩🇪🇫🇷 1️⃣ ☺︎ ☺️",
    "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "𝓗𝓮𝓵𝓵𝓸 𝟙𝟚𝟛 ℌ𝔢𝔩𝔩𝔬 Ｆｕｌｌ ｗｉｄｔｈ ⓒⓘⓡ",
    "\ufffd\ufffe\uffff\U0010ffff\ue000\U000f0000",
    "∀x∈ℝ: ⌈x⌉ ≠ ∫₀^∞ e⁻ˣ dx → ∞ √2 ± ∓",
    "def f(x):\n    return x**2  # comment\n\n\nclass A(B):\n        pass\n",
    '#include <stdio.h>\nint main(void) {\n\tprintf("%d\\n", 0x7f);\n}\n',
    '{"a": [1, 2.5e10, null, true], "b": {"c": "\\u00e9"}}',
    "SELECT * FROM t WHERE a='b' AND c<>1;--",
    "https://example.org/a/b?c=d&e=%20#f user@example.com",
    "<table><tr><td>x</td></tr></table><h1>T</h1> <b>b</b></ul><img>",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|><|im_start|><|im_end|> <|endoftext|>x<|im_end|>y",
    "<|im_start| <|im_end|>> <<|im_end|> |im_end|> <|IM_END|> < |im_end|>",
    "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n",
    "<start_of_turn <end_of_turn>> <eos><pad><unk> <unused0><unused99><unused9>9",
    "[INST] x [/INST] <s></s> <0x0A> <0xFF> [multimodal]",
    "\u2581\u2581a\u2581b \u2581 Ġthe Ċ âĢĻ",
    "> x >  y>z></ > </a> >\u2581</",
    "<reponame>a/b<gh_stars>1<filename>f.py\n<jupyter_code>",
    "The quick brown fox jumps over the lazy dog. " * 5,
    "Supercalifragilisticexpialidocious pneumonoultramicroscopicsilicovolcanoconiosis",
    "ﷺ ㍿ ﷽ ꙮ ⸻ 𪚥",
    "ǅ ǈ ʰ ª º ⁿ ₙ ١٢ Ⅻ ⑳",
    "İstanbul ısı ŞĞ",
    "x\u0000y\u0000\u0000",
    "'s 'S 'T ''' 'll'LL 'Re\u017f 'ſ K",
]

_POOLS = (
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ 0123456789 .,;:!?'\"-_()[]{}<>/\\|@#$%^&*+=~`\n\t  ",
    "äöüßéèêñçøåæœ ÀÉ ſ\u0301\u0300\u0308 ’“” \u00a0\u2009\u3000 \r\n",
    "абвгдЖЗИ αβγδ אבגדה ابتث हिन्दी ไทย 中文字日本語かなカナ한국어 ",
    "😀🤷🏽\u200d♂️👩🇩🇪\ufe0f\u20e3𝓐𝟘𐎠\U0010ffff\ue000\u200b\ufeff ½²Ⅷ١٢",
)


def random_texts(count: int) -> list[str]:
    """Texts out of the pools, the same ones each time."""
    dice = random.Random(20)
    texts = []
    for i in range(count):
        pools = _POOLS[: 1 + i % len(_POOLS)] if i % 3 else (dice.choice(_POOLS),)
        letters = "".join(pools)
        texts.append("".join(dice.choice(letters) for _ in range(dice.randint(1, 60))))
    return texts


def expected(model: str, texts: list[str]) -> list[list[list[int]]]:
    """Ids of each text with special tokens, and with their names as plain text."""
    from llama_cpp import Llama

    judge = Llama(model, vocab_only=True, verbose=False)

    def ids(text: str, special: bool) -> list[int]:
        return list(judge.tokenize(text.encode(), add_bos=False, special=special))

    return [[ids(text, True), ids(text, False)] for text in texts]


def main(name: str, model: str, folder: str = "") -> None:
    """Write the file."""
    texts = HARD + random_texts(150)
    ids = expected(model, texts)
    if folder:
        from tokenizers import Tokenizer

        other = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        for text, (special, _) in zip(texts, ids, strict=True):
            found = other.encode(text, add_special_tokens=False).ids
            if found != special:
                print(f"{text!r}\n  llama.cpp {special}\n  tokenizer.json {found}")
    lines = (json.dumps([t, *i], separators=(",", ":")) for t, i in zip(texts, ids, strict=True))
    (DATA / f"{name}.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
