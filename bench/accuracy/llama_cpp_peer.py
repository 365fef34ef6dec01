# SPDX-License-Identifier: BUSL-1.1
"""llama.cpp through llama-cpp-python, with its defaults.

With the option `tokens`, it only turns texts and prompts into `tokens.json` for everybody: its
reading of the file's own vocabulary and chat template.
"""

import json
import sys
from pathlib import Path

import jinja2
import llama_cpp
import numpy as np
import work


def opened(order: work.Job, **options) -> llama_cpp.Llama:
    return llama_cpp.Llama(
        order.model,
        n_threads=order.threads,
        n_threads_batch=order.threads,
        verbose=False,
        **options,
    )


def render(template: str, question: str) -> str:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    messages = [{"role": "user", "content": question}]
    return environment.from_string(template).render(messages=messages, add_generation_prompt=True)


def tokenise(order: work.Job) -> None:
    """Prompts through the model's template, or as questions where it has none."""
    given = json.loads((Path(order.folder) / "texts.json").read_text())
    model = opened(order, vocab_only=True)
    template = model.metadata.get("tokenizer.chat_template")
    begin = (
        [model.token_bos()] if model.metadata.get("tokenizer.ggml.add_bos_token") == "true" else []
    )

    def ids(text: str) -> list[int]:
        return begin + model.tokenize(text.encode(), add_bos=False, special=True)

    ask = (lambda q: render(template, q)) if template else (lambda q: f"Question: {q}\nAnswer:")
    text = model.tokenize(given["text"].encode(), add_bos=False, special=False)[: given["tokens"]]
    size = given["window"]
    (Path(order.folder) / "tokens.json").write_text(
        json.dumps(
            {
                "prompts": [ids(ask(prompt)) for prompt in given["prompts"]],
                "text": [begin + text[i : i + size] for i in range(0, len(text), size)],
                "begin": 1,
                "ends": [model.token_eos()],
            }
        )
    )


def contest(order: work.Job) -> None:
    given = work.tokens(order)
    longest = max(map(len, given["text"] + given["prompts"])) + order.new_tokens
    model = opened(order, n_ctx=longest, logits_all=True)

    def logits(ids):
        model.reset()
        model.eval(ids)
        return model.scores[: len(ids)]

    def greedy(ids, count, ends):
        model.reset()
        model.eval(ids)
        answer = []
        while len(answer) < count:
            token = int(np.argmax(model.scores[model.n_tokens - 1]))
            answer.append(token)
            if token in ends:
                break
            model.eval([token])
        return answer

    work.contest(order, logits, greedy)


if __name__ == "__main__":
    order = work.job(sys.argv[1])
    (tokenise if order.option == "tokens" else contest)(order)
